"""Meta-LSTM: a network's parameters are the cell state of an LSTM, whose gates are learned.

  theta_t = f_t * theta_tm1 - i_t * gradient_t                                          (equation 2, with c = theta)
  i_t = sigmoid(W_I [h_t, theta_tm1, i_tm1] + b_I),   f_t = sigmoid(W_F [h_t, theta_tm1, f_tm1] + b_F)
  h_t = LSTM([log_and_sign(gradient_t), log_and_sign(loss_t)])   (a first layer of ordinary LSTM units)

Each coordinate is worked on by itself, with one set of weights. theta_0 is meta-learned. With f = 1 and i = alpha this
is gradient descent with step size alpha. Meta-training lowers the query loss at theta_T (algorithm 1).
Batch norm takes its moments from each task's own support set: as in the paper, none pass from one task to another.
Source: Ravi and Larochelle 2017, "Optimization as a model for few-shot learning",
https://openreview.net/forum?id=rJY0-Kcll: T = 12 for one shot, 5 for five; p = 10.
Choices: f_0 = 1 and i_0 = 0; the biases start at 4.5 for f and -4.5 for i, so that learning starts near gradient
descent with step size 0.011.
"""

from __future__ import annotations

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
from .objective import differentiate, losses_of

P = 10.0
"""Of `log_and_sign`: the paper's."""


@dataclass(frozen=True)
class Gates:
    """What is carried from step to step."""

    lstm: LSTMState
    """(task, P, hidden)."""
    forget: Float[Tensor, "task P"]
    """f of the last step."""
    input: Float[Tensor, "task P"]
    """i of the last step."""


@dataclass(frozen=True)
class MetaLSTM:
    """Few-shot learner: a network trained on each support set by learned gates."""

    network: Network
    steps: int = 5
    """T."""
    hidden: int = 20
    """Units of the first layer. Default: the paper's code's."""
    init_forget: float = 4.5
    """b_F at the start."""
    init_input: float = -4.5
    """b_I at the start."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps {self.steps} must be positive")

    @cached_property
    def _cell(self) -> LSTMCell:
        return LSTMCell(4, self.hidden)

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The gates' weights start uniform in +-0.01."""
        gates = {}
        for gate, bias in (("forget", self.init_forget), ("input", self.init_input)):
            gates[f"{gate}.weight"] = (2 * torch.rand(self.hidden + 2, generator=generator) - 1) * 0.01
            gates[f"{gate}.bias"] = torch.tensor(bias)
        return {"theta": self.network.init(generator)} | named("lstm", self._cell.init(generator)) | gates

    def adapt(self, params: MetaParams, support: Examples, steps: int | None = None) -> AdaptedNetwork:
        return self.adapted_after(params, support, [check_steps(steps, self.steps)])[0]

    def adapted_after(self, params: MetaParams, support: Examples, counts: Sequence[int]) -> list[AdaptedNetwork]:
        theta = start_of(params, len(support.x))
        gates = Gates(self._cell.start(tuple(theta.shape), theta), torch.ones_like(theta), torch.zeros_like(theta))
        path = [theta]
        for _ in range(max(counts, default=0)):
            losses, gradient = loss_and_gradient(self.network, theta, support)
            theta, gates = self.step(params, theta, losses, gradient, gates)
            path.append(theta)
        return [adapted_network(self.network, path[count], support) for count in counts]

    def step(
        self,
        params: Mapping[str, Tensor],
        theta: Float[Tensor, "task P"],
        losses: Float[Tensor, " task"],
        gradient: Float[Tensor, "task P"],
        gates: Gates,
    ) -> tuple[Float[Tensor, "task P"], Gates]:
        """theta_t and the gates that made it."""
        loss = log_and_sign(losses, P).unsqueeze(1).expand(-1, theta.shape[1], -1)
        seen = torch.cat((log_and_sign(gradient, P), loss), dim=-1)
        lstm = self._cell.step(part_of(params, "lstm"), seen, gates.lstm)

        def gate(name: str, before: Tensor) -> Tensor:
            w_h, w_theta, w_before = params[f"{name}.weight"].split((self.hidden, 1, 1))
            return torch.sigmoid(lstm.hidden @ w_h + theta * w_theta + before * w_before + params[f"{name}.bias"])

        forget, of_input = gate("forget", gates.forget), gate("input", gates.input)
        return forget * theta - of_input * gradient, Gates(lstm, forget, of_input)

    def predict(
        self, adapted: AdaptedNetwork, query_x: Float[Tensor, "task query *input"]
    ) -> Float[Tensor, "task query out"]:
        return outputs(self.network, adapted, query_x)

    def meta_gradient(self, params: MetaParams, episodes: Episodes, progress: float) -> MetaGradient:
        def objective(params: MetaParams) -> tuple[Tensor, dict[str, Tensor]]:
            adapted = self.adapt(params, episodes.support)
            return losses_of(self.predict(adapted, episodes.query.x), episodes.query.y).mean(), {}

        return differentiate(objective, params)
