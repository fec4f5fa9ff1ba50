"""A support set as a sequence, for learners that read it one example after another."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from .episodes import Episodes, Examples


def label_codes(
    y: Int[Tensor, "task example"] | Float[Tensor, "task example out"], outputs: int, like: Tensor
) -> Float[Tensor, "task example out"]:
    """What a learner reads as the label: a one-hot row of `outputs` entries for a class, the target itself else.

    ValueError: a class or a target that does not fit the number of outputs, which such a learner cannot change.
    """
    if y.dtype.is_floating_point:
        if y.shape[-1] != outputs:
            raise ValueError(f"targets have {y.shape[-1]} entries, the learner was made for {outputs}")
        return y
    if int(y.max()) >= outputs:
        raise ValueError(
            f"class {int(y.max())} in a support set, but the learner was made for {outputs} classes, 0 ... "
            f"{outputs - 1}; make one for more classes"
        )
    return one_hot(y, outputs).to(like.dtype)


def shuffled_support(episodes: Episodes, progress: float) -> Episodes:
    """The same episodes, with each support set in a random order of its own.

    Samplers deliver classes in order, from which a learner that reads a sequence would learn that an example's place
    is its class, and would fail on any other order. The order is a function of progress, so that a training step
    repeated gives the same bits.
    """
    tasks, examples = episodes.support.x.shape[:2]
    generator = torch.Generator().manual_seed(int(progress * 2**53))
    order = torch.rand(tasks, examples, generator=generator).argsort(dim=1).to(episodes.support.x.device)
    rows = torch.arange(tasks, device=order.device).unsqueeze(1)
    support = Examples(episodes.support.x[rows, order], episodes.support.y[rows, order])
    return Episodes(support, episodes.query)
