"""Gradient, Hessian-vector and Fisher-vector products of the Gaussian MLP, written out for one task.

Autograd gets the same products by differentiating its own graph; here the forward pass is stored once and each
product is a handful of matrix products on it (Pearlmutter 1994, "Fast exact multiplication by the Hessian": R{.} is
the derivative along a direction v of the parameters).

Notation: h_0 = normalised obs, z_l = h_l W_l + b_l (b_0 with the context's share), h_{l+1} = phi(z_l),
mean = z_L; s = log_std, e = (a - mean) / std^2,
k = (a - mean)^2 / std^2 - 1, so that d log pi / d mean = e and d log pi / d s = k.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .distributions import gaussian_log_prob
from .gaussian_mlp import GaussianMLP, activate_

Surrogate = Literal["log_prob", "ratio"]


class ClosedFormMLP:
    """The mean network at fixed parameters, with stored activations of some observations.

    policy: the architecture. params: (P,) float. obs: (n, obs). Nothing here is recorded by autograd.
    """

    def __init__(self, policy: GaussianMLP, params: Float[Tensor, " P"], obs: Float[Tensor, "n obs"]) -> None:
        self.policy = policy
        self.n_layers = len(policy.sizes) - 1
        named = policy.layout.unflatten(params)
        self.named = named
        self.explores = policy.explores(obs)
        self.weights = [policy.weight(named, i, self.explores) for i in range(self.n_layers)]
        log_std = named[policy.log_std_name(self.explores)]
        self.log_std = policy.effective_log_std(log_std)
        self.log_std_free = (log_std >= policy.min_log_std).to(params.dtype)
        self.h = [policy.inputs(obs)]
        for i in range(self.n_layers):
            z = torch.addmm(policy.bias(named, i), self.h[-1], self.weights[i])
            self.h.append(activate_(z, policy.activation) if i < self.n_layers - 1 else z)
        self.mean = self.h.pop()
        self._dphi: list[Tensor] | None = None

    @property
    def dphi(self) -> list[Float[Tensor, "n hidden"]]:
        """phi'(z_l) of the hidden layers."""
        if self._dphi is None:
            if self.policy.activation == "tanh":
                self._dphi = [
                    torch.addcmul(torch.ones((), dtype=h.dtype, device=h.device), h, h, value=-1) for h in self.h[1:]
                ]
            else:
                self._dphi = [(h > 0).to(h.dtype) for h in self.h[1:]]
        return self._dphi

    def backward(
        self, delta: Float[Tensor, "n act"], log_std_gradient: Float[Tensor, " act"], keep: bool = False
    ) -> tuple[Float[Tensor, " P"], list[Tensor], list[Tensor]]:
        """Gradient (P,) of a loss from its derivatives in the mean and log_std.

        With keep, also delta_l and delta_{l+1} W_{l+1}^T (before phi') of each layer, for `hvp`.
        """
        out = torch.empty(self.policy.layout.size, dtype=delta.dtype, device=delta.device)
        views = self.policy.layout.unflatten(out)
        deltas = [delta]
        back: list[Tensor] = []
        for i in reversed(range(self.n_layers)):
            torch.mm(self._seen(i).t(), deltas[0], out=views[f"weight_{i}"])
            torch.sum(deltas[0], 0, out=views[f"bias_{i}"])
            if i > 0:
                propagated = deltas[0] @ self.weights[i].t()
                if keep:
                    back.insert(0, propagated)
                    deltas.insert(0, propagated * self.dphi[i - 1])
                else:
                    deltas[0] = propagated.mul_(self.dphi[i - 1])
        self._log_std_gradient(views, log_std_gradient)
        self._context_gradient(views)
        self._guess_gradient(views, deltas[0])
        return out, deltas, back

    def _seen(self, layer: int) -> Tensor:
        """A layer's inputs without guesses."""
        return self.h[0][:, : self.policy.obs_dim] if layer == 0 else self.h[layer]

    def _log_std_gradient(self, views: dict[str, Tensor], gradient: Float[Tensor, " act"]) -> None:
        if self.policy.guess_std:
            views[self.policy.log_std_name(not self.explores)].zero_()
        torch.mul(gradient, self.log_std_free, out=views[self.policy.log_std_name(self.explores)])

    def _guess_gradient(self, views: dict[str, Tensor], delta: Float[Tensor, "n hidden"]) -> None:
        """Add what the guesses say about the context's weights, from the derivative in the first layer's z."""
        if self.explores:
            views["context_weight"].addmm_(self.h[0][:, self.policy.obs_dim :].t(), delta)

    def _context_gradient(self, views: dict[str, Tensor]) -> None:
        """From the gradient g of the first layer's bias, which the context W_c^T c shifts: k W_c g and k c g^T."""
        if self.policy.context_dim:
            g, scale = views["bias_0"], self.policy.context_scale
            torch.mul(self.named["context_weight"] @ g, scale, out=views["context"])
            torch.mul(torch.outer(self.named["context"], g), scale, out=views["context_weight"])

    def _context_hvp(self, views: dict[str, Tensor], v: dict[str, Tensor], g: Tensor) -> None:
        """R{.} of the same: the products with R{g}, which lies in views, and those of the direction with g itself."""
        if self.policy.context_dim:
            self._context_gradient(views)
            views["context"].add_(v["context_weight"] @ g, alpha=self.policy.context_scale)
            views["context_weight"].add_(torch.outer(v["context"], g), alpha=self.policy.context_scale)

    def bias_r(self, v: dict[str, Tensor], layer: int) -> Tensor:
        """R{bias} of a layer, in the first one with the context's share."""
        bias = v[f"bias_{layer}"]
        if layer or not self.policy.context_dim:
            return bias
        moved = v["context"] @ self.named["context_weight"] + self.named["context"] @ v["context_weight"]
        return bias + self.policy.context_scale * moved

    def forward_r(self, v: dict[str, Tensor]) -> tuple[Float[Tensor, "n act"], list[Tensor], list[Tensor]]:
        """R{mean}, and R{z_l}, R{h_l} of the hidden layers, along the direction v (named views)."""
        rz: list[Tensor] = []
        rh: list[Tensor] = []
        for i in range(self.n_layers):
            r = torch.addmm(self.bias_r(v, i), self.h[i], self.policy.weight(v, i, self.explores))
            if i > 0:
                r.addmm_(rh[-1], self.weights[i])
            if i == self.n_layers - 1:
                return r, rz, rh
            rz.append(r)
            rh.append(r * self.dphi[i])
        raise AssertionError("a network has at least one layer")

    def fisher_vector_product(self, v: Float[Tensor, " P"], row_weight: Float[Tensor, " n"]) -> Float[Tensor, " P"]:
        """F v for the mean KL, F = sum_t w_t J_t^T diag(1/std^2, 2) J_t (Schulman et al. 2015, appendix C)."""
        named = self.policy.layout.unflatten(v)
        r_mean, _, _ = self.forward_r(named)
        delta = r_mean * (row_weight[:, None] * (-2 * self.log_std).exp())
        log_std_gradient = 2 * row_weight.sum() * self._log_std_r(named)
        return self.backward(delta, log_std_gradient)[0]

    def _log_std_r(self, v: dict[str, Tensor]) -> Float[Tensor, " act"]:
        """R{log_std}."""
        return v[self.policy.log_std_name(self.explores)] * self.log_std_free

    def divergence_gradient(
        self, mean_old: Float[Tensor, "n act"], log_std_old: Float[Tensor, " act"], row_weight: Float[Tensor, " n"]
    ) -> Float[Tensor, " P"]:
        """Gradient of sum_t w_t KL(N(mean_old, std_old) || policy at these parameters)."""
        inv_var = (-2 * self.log_std).exp()
        difference = self.mean - mean_old
        spread = ((2 * log_std_old).exp() + difference**2) * inv_var
        delta = difference * inv_var * row_weight[:, None]
        return self.backward(delta, row_weight @ (1 - spread))[0]


class ClosedFormSurrogate(ClosedFormMLP):
    """The policy-gradient surrogate of one task at fixed parameters, with its gradient and curvature.

    log_prob: L = -sum_t w_t log pi(a_t | s_t);  ratio: L = -sum_t w_t r_t,  r_t = pi(a_t | s_t) / pi_old(a_t | s_t);
    ratio with a clip c: L = -sum_t min(w_t r_t, w_t clip(r_t, 1 - c, 1 + c)) (Schulman et al. 2017, equation 7), whose
    derivatives are those of ratio over the rows that are not clipped.

    Of episodes with guesses, less the mean of advantage times log-likelihood of the guess (`guess_likelihood`).

    action: (n, act). weight: (n,) advantage times the row's share of the mean. log_prob_old: (n,), for ratio.
    guess_slope: (context,), see `TaskBatch`; None without that term.
    """

    def __init__(
        self,
        policy: GaussianMLP,
        params: Float[Tensor, " P"],
        obs: Float[Tensor, "n obs"],
        action: Float[Tensor, "n act"],
        weight: Float[Tensor, " n"],
        log_prob_old: Float[Tensor, " n"],
        kind: Surrogate,
        clip: float = math.inf,
        guess_slope: Float[Tensor, " context"] | None = None,
    ) -> None:
        super().__init__(policy, params, obs)
        self.guess_slope = guess_slope
        self.kind = kind
        log_prob = gaussian_log_prob(action, self.mean, self.log_std)
        if kind == "ratio":
            ratio = (log_prob - log_prob_old).exp()
            self.q = -weight * ratio  # dL / d log pi
            self.loss = self.q.sum()
            if clip < math.inf:
                self.loss = torch.maximum(self.q, -weight * ratio.clamp(1 - clip, 1 + clip)).sum()
                self.q = self.q * torch.where(weight > 0, ratio <= 1 + clip, ratio >= 1 - clip)
        else:
            self.q = -weight
            self.loss = (self.q * log_prob).sum()
        if guess_slope is not None:
            self.loss = self.loss - policy.guess_likelihood(params, guess_slope)
        difference = action - self.mean
        self.inv_var = (-2 * self.log_std).exp()
        self.e = difference * self.inv_var
        self.k = difference * self.e - 1
        self.kept = False

    def gradient(self, keep: bool = False) -> Float[Tensor, " P"]:
        """dL/dparams (P,); keep stores what `hvp` needs."""
        gradient, self.deltas, back = self.backward(self.q[:, None] * self.e, self.q @ self.k, keep)
        self.kept = keep
        if keep:
            self.bias_gradient = gradient[self.policy.layout.slices["bias_0"]]
        if self.guess_slope is not None:
            gradient[self.policy.layout.slices["context"]] -= self.policy.guess_pull(self.guess_slope)
        if self.policy.activation == "tanh":
            # The loss's derivative in h times phi''(z) = -2 h phi'; a relu has none.
            self.bend = [b.mul_(h).mul_(d).mul_(-2) for b, h, d in zip(back, self.h[1:], self.dphi, strict=keep)]
        return gradient

    def hvp(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """(d^2 L / dparams^2) v; `gradient(keep=True)` comes first (else RuntimeError)."""
        if not self.kept:
            raise RuntimeError("call gradient(keep=True) before hvp")
        named = self.policy.layout.unflatten(v)
        out = torch.empty_like(v)
        views = self.policy.layout.unflatten(out)
        r_mean, rz, rh = self.forward_r(named)
        r_s = self._log_std_r(named)
        q = self.q[:, None]
        r_e = -r_mean * self.inv_var - 2 * r_s * self.e
        r_k = -2 * (self.e * r_mean + r_s * (self.k + 1))
        r_delta = q * r_e
        r_log_std = (q * r_k).sum(0)
        if self.kind == "ratio":
            r_q = self.q * (self.e * r_mean + self.k * r_s).sum(1)
            r_delta += r_q[:, None] * self.e
            r_log_std += r_q @ self.k
        for i in reversed(range(self.n_layers)):
            torch.mm(self._seen(i).t(), r_delta, out=views[f"weight_{i}"])
            if i > 0:
                views[f"weight_{i}"].addmm_(rh[i - 1].t(), self.deltas[i])
            torch.sum(r_delta, 0, out=views[f"bias_{i}"])
            if i > 0:
                propagated = r_delta @ self.weights[i].t()
                propagated.addmm_(self.deltas[i], named[f"weight_{i}"].t())
                r_delta = propagated.mul_(self.dphi[i - 1])
                if self.policy.activation == "tanh":
                    r_delta.addcmul_(self.bend[i - 1], rz[i - 1])
        self._log_std_gradient(views, r_log_std)
        self._context_hvp(views, named, self.bias_gradient)
        self._guess_gradient(views, r_delta)
        return out
