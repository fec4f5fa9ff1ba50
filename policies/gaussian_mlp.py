"""The Gaussian MLP policy of Finn et al. 2017: a mean network and a state-independent log standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from .normaliser import ObsNormaliser
from .params import ParamLayout

Activation = Literal["tanh", "relu"]

# MKL's last bit depends on whether a matrix starts at a multiple of 64 bytes. With every layer as wide as a multiple of
# 16 floats (the rest zeros) all matrices of a stack do, and a task's actions do not depend on its place in it.
ALIGNED_FLOATS = 16


@dataclass(frozen=True)
class GaussianMLP:
    """mean = W_L phi(... phi(W_0 obs + b_0 + k W_c c) ...) + b_L,  std = exp(max(log_std, min_log_std)).

    All parameters, log_std included, are adapted in the inner loop, as in the paper. Where log_std lies below the
    floor its gradient is zero.

    c is a context vector, which starts at 0: an input that does not come from the environment but is a parameter, so
    that adaptation can move the policy along few directions that meta-training chooses (Finn, Yu et al. 2017, "One-shot
    visual imitation learning via meta-learning", bias transformation; Zintgraf et al. 2019, CAVIA). A
    gradient step of size alpha moves k c by alpha k^2 times its gradient. Without a context (context_dim 0) the network
    is the paper's.

    With guess_std, episodes before adaptation explore: each adds to k c a guess, which stays for the episode, and acts
    with a standard deviation of its own, exp(guess_log_std). Steps of such episodes are told by their observations,
    behind which the guess stands. From episodes at many places the policy gradient of the context says how far the goal
    is; from one place alone, on which side. Noise that is constant over an episode is that of Gupta et al. 2018 (MAESN,
    https://arxiv.org/abs/1802.07245); its likelihood too can enter the inner loss (`guess_likelihood`).
    """

    obs_dim: int
    act_dim: int
    hidden_sizes: tuple[int, ...] = (100, 100)
    activation: Activation = "tanh"
    init_log_std: float = 0.0
    """Initial log standard deviation; actions are in [-1, 1]."""
    min_log_std: float = math.log(1e-6)
    """Floor of the log standard deviation."""
    output_scale: float = 1.0
    """Factor on the initial weights of the last layer; near 0, the initial mean action is near 0 everywhere."""
    normaliser: ObsNormaliser | None = None
    """Scaling of the observation before the first layer; None for raw observations."""
    context_dim: int = 0
    """Entries of the context vector c."""
    context_scale: float = 1.0
    """Factor k on the context."""
    guess_std: float = 0.0
    """Standard deviation of a guess, uniform around 0, in units of k c; 0: episodes before adaptation are as others."""

    def __post_init__(self) -> None:
        if self.activation not in ("tanh", "relu"):
            raise ValueError(f"unknown activation {self.activation!r}; allowed: tanh, relu")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden sizes {self.hidden_sizes} must be one or more positive numbers")
        if self.context_dim < 0 or not self.context_scale > 0:
            raise ValueError(
                f"context_dim {self.context_dim} must be at least 0 and context_scale {self.context_scale} positive"
            )
        if not self.guess_std >= 0 or (self.guess_std and not self.context_dim):
            raise ValueError(f"guess_std {self.guess_std} must be 0, or positive and have a context")

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Layer widths from observation to action."""
        return (self.obs_dim, *self.hidden_sizes, self.act_dim)

    @cached_property
    def layout(self) -> ParamLayout:
        entries: list[tuple[str, tuple[int, ...]]] = []
        for i, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            entries += [(f"weight_{i}", (n_in, n_out)), (f"bias_{i}", (n_out,))]
        entries.append(("log_std", (self.act_dim,)))
        if self.context_dim:
            entries += [("context", (self.context_dim,)), ("context_weight", (self.context_dim, self.sizes[1]))]
        if self.guess_std:
            entries.append(("guess_log_std", (self.act_dim,)))
        return ParamLayout(tuple(entries))

    def init(self, generator: torch.Generator) -> Float[Tensor, " P"]:
        """Xavier-uniform weights (Glorot and Bengio 2010), zero biases: with output_scale 1 the paper's."""
        named = {}
        last = f"weight_{len(self.sizes) - 2}"
        for name, shape in self.layout.entries:
            if "weight" in name:
                bound = math.sqrt(6.0 / sum(shape)) * (self.output_scale if name == last else 1.0)
                named[name] = (2 * torch.rand(shape, generator=generator) - 1) * bound
            else:
                named[name] = torch.full(shape, self.init_log_std if name.endswith("log_std") else 0.0)
        return self.layout.flatten(named)

    def distribution(
        self, params: Float[Tensor, "task P"], obs: Float[Tensor, "task batch obs"]
    ) -> tuple[Float[Tensor, "task batch act"], Float[Tensor, "task act"]]:
        named, explores = self.layout.unflatten(params), self.explores(obs)
        h = self.inputs(obs)
        n_layers = len(self.sizes) - 1
        for i in range(n_layers):
            h = torch.baddbmm(self.bias(named, i).unsqueeze(-2), h, self.weight(named, i, explores))
            if i < n_layers - 1:
                h = torch.tanh(h) if self.activation == "tanh" else torch.relu(h)
        return h, self.effective_log_std(named[self.log_std_name(explores)])

    def inputs(self, obs: Float[Tensor, "*batch obs"]) -> Float[Tensor, "*batch obs"]:
        """What the first layer sees: the scaled observation, and a guess as it is."""
        if self.normaliser is None:
            return obs
        if not self.explores(obs):
            return self.normaliser(obs)
        n = self.obs_dim
        return torch.cat([self.normaliser(obs[..., :n]), obs[..., n:]], dim=-1)

    @property
    def guess_dim(self) -> int:
        """Entries of a guess; 0 for a policy that makes none."""
        return self.context_dim if self.guess_std else 0

    def explores(self, obs: Tensor) -> bool:
        """Whether a guess stands behind the observations."""
        return self.guess_dim > 0 and obs.shape[-1] == self.obs_dim + self.guess_dim

    def guesses(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n context"]:
        """Guesses of n episodes, float32: of each entry one in each n-th of its range, in random order."""
        order = rng.permuted(np.tile(np.arange(n), (self.context_dim, 1)), axis=1).T
        place = (order + rng.random(order.shape)) / n
        return (self.guess_std * math.sqrt(3) * (2 * place - 1)).astype(np.float32)

    def guess_likelihood(self, params: Float[Tensor, " P"], slope: Float[Tensor, " context"]) -> Float[Tensor, ""]:
        """Mean over episodes of advantage times log-likelihood of the guess, up to a constant in params.

        slope: mean of advantage times guess, m. With z = k c + guess as a draw from N(k c, guess_std^2), and advantages
        of mean 0, the mean of A log p(z) has in c the gradient k m / guess_std^2 wherever c is, and no curvature; it is
        that times c. Source: the latent's gradient in Gupta et al. 2018 (MAESN), whose latent is normal. Here guesses
        are uniform, which spreads them best; of a uniform distribution itself the gradient would be nothing.
        """
        at = self.layout.slices["context"]
        return params[at] @ self.guess_pull(slope)

    def guess_pull(self, slope: Float[Tensor, " context"]) -> Float[Tensor, " context"]:
        """The gradient of `guess_likelihood` in the context."""
        return self.context_scale / self.guess_std**2 * slope

    def log_std_name(self, explores: bool) -> str:
        """Name of the parameters that give the standard deviation."""
        return "guess_log_std" if explores else "log_std"

    def weight(self, named: Mapping[str, Tensor], layer: int, explores: bool) -> Float[Tensor, "*task n_in n_out"]:
        """The weights of a layer; where there are guesses, the first one has the context's below its own."""
        weight = named[f"weight_{layer}"]
        return torch.cat([weight, named["context_weight"]], dim=-2) if explores and layer == 0 else weight

    def bias(self, named: Mapping[str, Tensor], layer: int) -> Float[Tensor, "*task hidden"]:
        """What a layer adds to its input's product: its bias, in the first layer with the context's share."""
        bias = named[f"bias_{layer}"]
        if layer or not self.context_dim:
            return bias
        shift = (named["context"].unsqueeze(-2) @ named["context_weight"]).squeeze(-2)
        return bias + self.context_scale * shift

    def effective_log_std(self, log_std: Float[Tensor, "*task act"]) -> Float[Tensor, "*task act"]:
        """The log standard deviation with its floor."""
        return log_std.clamp(min=self.min_log_std)

    def actor(
        self, params: Float[Tensor, "task P"]
    ) -> Callable[[Float[Tensor, "task env obs"]], Float[Tensor, "task env act"]]:
        named, guesses = self.layout.unflatten(params.detach()), self.guess_dim > 0
        n_layers = len(self.sizes) - 1
        sizes = (self.obs_dim + self.guess_dim, *self.sizes[1:])
        padded = [size + -size % ALIGNED_FLOATS for size in sizes]
        weights = [_padded(self.weight(named, i, guesses), padded[i], padded[i + 1]) for i in range(n_layers)]
        biases = [_padded(self.bias(named, i).unsqueeze(-2), 1, padded[i + 1]) for i in range(n_layers)]

        def mean(obs: Tensor) -> Tensor:
            h = self.inputs(obs)
            h = pad(h, (0, padded[0] - h.shape[-1]))  # without guesses their weights count for nothing
            for i in range(n_layers):
                h = torch.baddbmm(biases[i], h, weights[i])
                if i < n_layers - 1:
                    activate_(h, self.activation)
            return h[..., : self.act_dim]

        return mean


def _padded(matrix: Float[Tensor, "task row col"], rows: int, cols: int) -> Float[Tensor, "task rows cols"]:
    """With zeros below and to the right."""
    return pad(matrix, (0, cols - matrix.shape[-1], 0, rows - matrix.shape[-2]))


def goal_as_context(
    network: GaussianMLP, theta: Float[Tensor, " P"], goal_dim: int, context_scale: float, guess_std: float = 0.0
) -> tuple[GaussianMLP, Float[Tensor, " Q"]]:
    """A policy that observes the goal as one that does not: the goal, its last inputs, becomes the context.

    The context starts at 0, the mean of the goals that the policy was scaled by (0 without scaling). Where k c is a
    goal, scaled like the other observations, the new policy acts as the old one did for it; so it does for guesses,
    with the same standard deviation. ValueError if the network has no observation beside the goal, or has a context.
    """
    n_obs = network.obs_dim - goal_dim
    if n_obs < 1 or goal_dim < 1 or network.context_dim:
        raise ValueError(
            f"a network of {network.obs_dim} observations and {network.context_dim} context entries has no {goal_dim} "
            "goal entries behind other observations to make a context of"
        )
    scaling = network.normaliser
    if scaling is not None:
        scaling = ObsNormaliser(scaling.mean[:n_obs], scaling.std[:n_obs])
    named = network.layout.unflatten(theta)
    weight = named["weight_0"]
    changed = replace(
        network,
        obs_dim=n_obs,
        normaliser=scaling,
        context_dim=goal_dim,
        context_scale=context_scale,
        guess_std=guess_std,
    )
    parts = {
        **named,
        "weight_0": weight[:n_obs],
        "context_weight": weight[n_obs:],
        "context": torch.zeros(goal_dim, dtype=theta.dtype),
        "guess_log_std": named["log_std"],
    }
    return changed, changed.layout.flatten({name: parts[name] for name, _ in changed.layout.entries})


def activate_(z: Tensor, activation: Activation) -> Tensor:
    """Apply the activation to a CPU tensor in place, without gradients."""
    if activation == "relu":
        return torch.relu_(z)
    if z.device.type == "cpu":
        # numpy's vectorised tanh is 7 times faster than torch's on CPUs with AVX-512 (37 against 253 us for 1e5).
        array = z.numpy()
        np.tanh(array, out=array)
        return z
    return z.tanh_()
