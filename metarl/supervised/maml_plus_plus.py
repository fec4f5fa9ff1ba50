"""MAML++: MAML with what makes its training stable.

  rates        a meta-learned step size for each layer and step (LSLR)
  batch norm   shifts (and scales) of each step, meta-learned and not adapted; running statistics of each step
  objective    sum over steps of w_j L_query(theta_j), w annealed from equal shares to the last step alone (MSL)
  derivatives  first order until a given share of meta-training, second order from then on (DA)
  outer rate   falls in half a cosine: that is the trainer's, to 1e-5 in the paper

Source: Antoniou, Edwards and Storkey 2019, section 4, https://arxiv.org/abs/1810.09502. Settings of the paper: rates
from 0.1, Adam 1e-3, MSL for 10 epochs, which is a tenth of meta-training if that has 100.
Differs: with statistics "running" queries are normalised with the running statistics, as the paper describes; its code
collects them and normalises with the batch's own, which is "transductive", the default. Either way inner steps
normalise the support set with its own, as in meta-training: steps learned with those lead astray with others. A step
beyond the trained number takes the last step's rates, shifts and statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metarl.inner import adapt
from metarl.policies.params import ParamLayout

from .batch_norm import Moments
from .episodes import Episodes, Examples
from .fast_weights import Batch, FastWeights, TaskParams, check_positive, check_steps
from .learner import MetaGradient, MetaParams
from .networks import Network
from .objective import differentiate, mean_query_loss

RUNNING_MOMENTUM = 0.1
"""Weight of a new batch in the running statistics; torch's default."""
LEAST_SHARE = 0.03
"""Below this share of an equal weight annealing does not take an earlier step's loss. The paper's code: 0.03."""


@dataclass(frozen=True)
class MAMLPlusPlus:
    """MAML++. Meta-parameters: theta (own,), rates (steps, layer), and with batch norm norms (steps + 1, shared) and
    running (steps + 1, moments), the latter replaced and not descended."""

    network: Network
    step_size: float = 0.1
    """Where all rates start, on the mean support loss. Paper: 0.1."""
    steps: int = 5
    """k, in meta-training and where `adapt` is not told otherwise."""
    multi_step_until: float = 0.1
    """Share of meta-training in which earlier steps' query losses count too."""
    first_order_until: float = 0.0
    """Share of meta-training without second derivatives."""
    statistics: Literal["transductive", "running"] = "transductive"
    """What an adapted network normalises queries with: their own statistics, or the running ones of its step.
    Meta-training always takes the queries' own."""

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size)
        check_positive("steps", self.steps)
        if self.statistics not in ("transductive", "running"):
            raise ValueError(f"statistics is {self.statistics!r}; allowed: transductive, running")
        for name in ("multi_step_until", "first_order_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be in [0, 1]")
        _ = self._weights  # whose settings are checked

    @cached_property
    def _weights(self) -> FastWeights:
        return FastWeights(self.network, "weights")

    @cached_property
    def _layers(self) -> list[int]:
        """Numbers of adapted entries by layer; weight and bias of a layer have one rate."""
        sizes: dict[str, int] = {}
        for name, part in self._weights.fast_layout.slices.items():
            layer = name.rpartition(".")[0]
            sizes[layer] = sizes.get(layer, 0) + part.stop - part.start
        return list(sizes.values())

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        norms, theta = self.network.init(generator).split(
            [self._weights.fixed_layout.size, self._weights.fast_layout.size]
        )
        params = {"theta": theta.clone(), "rates": theta.new_full((self.steps, len(self._layers)), self.step_size)}
        if self.network.norm_names:
            start = torch.cat([torch.cat([torch.zeros(n), torch.ones(n)]) for n in self._channels])
            params["norms"] = norms.expand(self.steps + 1, -1).clone()
            params["running"] = start.expand(self.steps + 1, -1).clone()
        return params

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> TaskParams:
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[TaskParams]:
        path, _ = self._path(params, support, max(counts, default=0), first_order=False)
        return [TaskParams(self._norms(params, n), path[n], self._running(params, n)) for n in counts]

    def predict(
        self, adapted: TaskParams, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        moments = adapted.moments if self.statistics == "running" else None
        return self._weights.outputs(adapted.fixed, adapted.fast, query_x, moments)[0]

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        """The objective reported is the weighted one that is descended."""
        shares = step_shares(self.steps, progress, self.multi_step_until)
        support, query = episodes.support, episodes.query

        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            path, seen = self._path(params, support, self.steps, progress < self.first_order_until)
            loss = torch.zeros_like(params["theta"][0])
            for j, share in enumerate(shares, start=1):
                if share > 0:
                    prediction, moments = self._weights.outputs(self._norms(params, j), path[j], query.x)
                    loss = loss + share * mean_query_loss(prediction, query.y)
            if not self.network.norm_names:
                return loss, {}
            new = torch.stack([torch.cat([flat(m) for m in layers]) for layers in [*seen, moments]])
            running = params["running"].detach()
            return loss, {"running": running + RUNNING_MOMENTUM * (new.detach() - running)}

        return differentiate(objective, params)

    def _path(
        self, params: MetaParams, support: Examples, steps: int, first_order: bool
    ) -> tuple[list[Tensor], list[tuple[Moments, ...]]]:
        """[theta_0, ..., theta_k] and the moments of each step's support set."""
        seen: list[tuple[Moments, ...]] = []
        batches = [Batch(self._norms(params, j), support) for j in range(steps)]
        sizes = torch.tensor(self._layers, device=params["rates"].device)
        rates = params["rates"].repeat_interleave(sizes, dim=1)
        step_sizes = [rates[min(j, self.steps - 1)] for j in range(steps)]
        fast = params["theta"].expand(len(support.x), -1)
        return adapt(self._weights.gradient(first_order, seen), fast, batches, step_sizes), seen

    def _norms(self, params: MetaParams, step: int) -> Tensor:
        return params["norms"][min(step, self.steps)] if "norms" in params else params["theta"][:0]

    def _running(self, params: MetaParams, step: int) -> tuple[Moments, ...] | None:
        if "running" not in params:
            return None
        parts = params["running"][min(step, self.steps)].split([n for n in self._channels for _ in range(2)])
        return tuple(Moments(mean, variance) for mean, variance in zip(parts[::2], parts[1::2], strict=True))

    @cached_property
    def _channels(self) -> list[int]:
        """Channels of each batch norm."""
        entries: ParamLayout = self._weights.fixed_layout
        return [shape[0] for name, shape in entries.entries if name.endswith(".shift")]


def flat(moments: Moments) -> Float[Tensor, " moments"]:
    """Mean and variance, averaged over tasks, one after the other."""
    return torch.cat([moments.mean.mean(0), moments.variance.mean(0)])


def step_shares(steps: int, progress: float, until: float) -> list[float]:
    """Weights w_1 ... w_k of the steps' query losses, of sum 1.

    At progress 0 they are equal; those of earlier steps fall in a line to LEAST_SHARE of that; from `until` on only the
    last step counts.
    """
    if progress >= until:
        return [0.0] * (steps - 1) + [1.0]
    earlier = max(1 - progress / until, LEAST_SHARE) / steps
    return [earlier] * (steps - 1) + [1 - (steps - 1) * earlier]
