"""A learned optimizer: an LSTM turns the gradient of each parameter into its next step.

  theta_tp1 = theta_t + scale * (W h_t + b),   h_t, state_t = LSTM(log_and_sign(gradient_t), state_tm1)

The LSTM has two layers and works on each coordinate by itself, with one set of weights and a state for each coordinate.
Meta-training lowers the mean over steps t = 1 ... T of the query loss at theta_t (equation 3 with all w_t = 1), through
`unroll` steps at a time: longer runs are cut, and their gradients added up.
Source: Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent",
https://arxiv.org/abs/1606.04474: two layers of 20 units, runs of 100 steps cut every 20, p = 10 in all experiments. Its
code has p = 5 and an output scale of 0.01 for networks; the scale's default here is the code's.
Differs: a run's cuts make one meta-step, not one each. The loss of meta-training is the query set's; the paper's is the
optimised loss itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from .episodes import Episodes, Examples
from .fast_weights import check_steps
from .learned_descent import (
    AdaptedNetwork,
    adapted_network,
    log_and_sign,
    loss_and_gradient,
    outputs,
    start_of,
)
from .learner import MetaGradient, MetaParams
from .lstm import LSTMCell, LSTMState
from .naming import named, part_of
from .networks import Network
from .objective import losses_of

OptimizerState = tuple[LSTMState, ...]
"""A state for each layer, each (task, P, hidden)."""


@dataclass(frozen=True)
class CoordinateLSTM:
    """From gradients to steps, each coordinate by itself."""

    hidden: int = 20
    """Units of a layer. Default: the paper's."""
    layers: int = 2
    """Default: the paper's."""
    p: float = 10.0
    """Gradients below exp(-p) are taken as small. Default: the paper's; its code has 5."""
    scale: float = 0.01
    """Factor on the output. Default: the paper's code's."""

    @cached_property
    def cells(self) -> tuple[LSTMCell, ...]:
        return tuple(LSTMCell(self.hidden if i else 2, self.hidden) for i in range(self.layers))

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """New weights; the bias of the output starts at 0."""
        params: dict[str, Tensor] = {}
        for i, cell in enumerate(self.cells):
            params |= named(f"lstm{i}", cell.init(generator))
        weight = (2 * torch.rand(self.hidden, generator=generator) - 1) / math.sqrt(self.hidden)
        return params | {"output.weight": weight, "output.bias": torch.zeros(())}

    def start(self, theta: Float[Tensor, "task P"]) -> OptimizerState:
        """The state before the first step."""
        return tuple(cell.start(tuple(theta.shape), theta) for cell in self.cells)

    def step(
        self, params: Mapping[str, Tensor], gradient: Float[Tensor, "task P"], state: OptimizerState
    ) -> tuple[Float[Tensor, "task P"], OptimizerState]:
        """What to add to the parameters, and the next state."""
        h, new = log_and_sign(gradient, self.p), []
        for i, cell in enumerate(self.cells):
            new.append(cell.step(part_of(params, f"lstm{i}"), h, state[i]))
            h = new[-1].hidden
        return self.scale * (h @ params["output.weight"] + params["output.bias"]), tuple(new)


@dataclass(frozen=True)
class LSTMOptimizer:
    """Few-shot learner: a network trained on each support set by a learned optimizer."""

    network: Network
    optimizer: CoordinateLSTM = CoordinateLSTM()
    steps: int = 20
    """T, of a run. The paper's runs have 100."""
    unroll: int = 20
    """Steps differentiated through at a time. Default: the paper's."""
    learned_start: bool = True
    """theta_0 is meta-learned; else each meta-step starts from a new draw, and adaptation from the one of `init`."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.unroll < 1:
            raise ValueError(f"steps {self.steps} and unroll {self.unroll} must be positive")

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"theta": self.network.init(generator)} | named("optimizer", self.optimizer.init(generator))

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> AdaptedNetwork:
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[AdaptedNetwork]:
        own = part_of(params, "optimizer")
        theta = start_of(params, len(support.x))
        state = self.optimizer.start(theta)
        path = [theta]
        for _ in range(max(counts, default=0)):
            theta, state = self._step(own, theta, state, support)
            path.append(theta)
        return [adapted_network(self.network, path[count], support) for count in counts]

    def predict(
        self, adapted: AdaptedNetwork, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        return outputs(self.network, adapted, query_x)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        learned = {k: v.detach().requires_grad_() for k, v in params.items() if self.learned_start or k != "theta"}
        gradient = {name: torch.zeros_like(value) for name, value in learned.items()}
        start = learned if self.learned_start else {"theta": self._new_draw(params, progress)}
        with torch.enable_grad():
            own = part_of(learned, "optimizer")
            theta = start_of(start, len(episodes.support.x))
            state = self.optimizer.start(theta)
            total = torch.zeros_like(params["theta"][0])
            for first in range(0, self.steps, self.unroll):
                loss = torch.zeros_like(total)
                for _ in range(first, min(first + self.unroll, self.steps)):
                    theta, state = self._step(own, theta, state, episodes.support)
                    loss = loss + self._query_loss(theta, episodes) / self.steps
                grads = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
                for name, grad in zip(learned, grads, strict=True):
                    if grad is not None:
                        gradient[name] += grad
                total = total + loss.detach()
                theta = theta.detach()
                state = tuple(LSTMState(s.hidden.detach(), s.cell.detach()) for s in state)
        return MetaGradient(gradient, total)

    def _step(
        self, own: Mapping[str, Tensor], theta: Float[Tensor, "task P"], state: OptimizerState, support: Examples
    ) -> tuple[Float[Tensor, "task P"], OptimizerState]:
        _, gradient = loss_and_gradient(self.network, theta, support)
        move, state = self.optimizer.step(own, gradient, state)
        return theta + move, state

    def _query_loss(self, theta: Float[Tensor, "task P"], episodes: Episodes) -> Float[Tensor, ""]:
        adapted = adapted_network(self.network, theta, episodes.support)
        return losses_of(outputs(self.network, adapted, episodes.query.x), episodes.query.y).mean()

    def _new_draw(self, params: MetaParams, progress: float) -> Float[Tensor, " P"]:
        """A start that is a function of progress, so that a training step repeated gives the same bits."""
        generator = torch.Generator().manual_seed(int(progress * 2**53))
        return self.network.init(generator).to(params["theta"])
