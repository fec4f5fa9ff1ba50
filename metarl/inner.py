"""Hot loop 2: adaptation. One fold serves reinforcement learning and supervised learning.

theta_0 = theta;  theta_j, state_j = step(theta_{j-1}, signal_j(theta_{j-1}), state_{j-1}),   j = 1 ... k

Gradient descent is the step theta_j = theta_{j-1} - alpha_j * grad L_j(theta_{j-1}), where alpha is a number or one per
parameter (Li et al. 2017); a learned optimizer is another `Update`, with memory in its state.
Source: Finn et al. 2017, section 2.2, repeated k times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

Batch = TypeVar("Batch")
Signal = TypeVar("Signal")
SignalIn = TypeVar("SignalIn", contravariant=True)


@runtime_checkable
class Update(Protocol[SignalIn]):
    """How parameters move on what a batch tells about them.

    A frozen record that holds what the rule is made of: step sizes, or the weights of a learned optimizer. Whatever
    changes from step to step is in the state, so that the fold stays differentiable in all of it.
    """

    def init(self, params: Tensor) -> Any:
        """The state before the first step from params (*task, P)."""

    def step(self, params: Tensor, signal: SignalIn, state: Any) -> tuple[Tensor, Any]:
        """The next parameters and state. signal: as a rule the gradient, (*task, P). Mutates nothing."""


def sgd_step(params: Tensor, gradient: Tensor, step_size: Tensor | float) -> Tensor:
    """params - step_size * gradient; differentiable in all three."""
    return params - step_size * gradient


def adapt_with(
    update: Update[Signal], signal: Callable[[Tensor, Batch], Signal], params: Tensor, batches: Sequence[Batch]
) -> list[Tensor]:
    """[theta_0, theta_1, ..., theta_k] for k batches, each step on its own batch."""
    trajectory, state = [params], update.init(params)
    for batch in batches:
        stepped, state = update.step(trajectory[-1], signal(trajectory[-1], batch), state)
        trajectory.append(stepped)
    return trajectory


class _Descent:
    """Gradient descent on (gradient, step size) pairs; no state."""

    def init(self, params: Tensor) -> None:
        return None

    def step(self, params: Tensor, signal: tuple[Tensor, Tensor | float], state: None) -> tuple[Tensor, None]:
        return sgd_step(params, *signal), None


def adapt(
    gradient: Callable[[Tensor, Batch], Tensor],
    params: Tensor,
    batches: Sequence[Batch],
    step_sizes: Sequence[Tensor | float],
) -> list[Tensor]:
    """[theta_0, theta_1, ..., theta_k] by gradient descent, each step on its own batch with its own step size."""
    pairs = list(zip(batches, step_sizes, strict=True))
    return adapt_with(_Descent(), lambda theta, pair: (gradient(theta, pair[0]), pair[1]), params, pairs)
