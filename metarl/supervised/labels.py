"""Classes of an episode: how many there are, as one-hot rows, and means over each."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def count_ways(y: Int[Tensor, "task example"]) -> int:
    """N, the number of classes of the support sets: 1 + the largest class."""
    return int(y.max()) + 1


def one_hot(y: Int[Tensor, "task example"], way: int, like: Tensor) -> Float[Tensor, "task example way"]:
    """1 at each example's class and 0 elsewhere, in `like`'s type."""
    return torch.nn.functional.one_hot(y, way).to(like.dtype)


def class_means(
    values: Float[Tensor, "task example *feature"], y: Int[Tensor, "task example"]
) -> Float[Tensor, "task way *feature"]:
    """Mean over the examples of each class; their number may differ between classes.

    ValueError: a class of which some task has no example.
    """
    membership = one_hot(y, count_ways(y), values)
    counts = membership.sum(dim=1)
    require_examples(counts)
    flat = (membership / counts.unsqueeze(1)).transpose(1, 2) @ values.flatten(2)
    return flat.reshape(*flat.shape[:2], *values.shape[2:])


def require_examples(counts: Float[Tensor, "task way"]) -> None:
    """ValueError if a task's support set lacks a class that another example of the batch has."""
    missing = (counts == 0).nonzero()
    if len(missing):
        task, way = missing[0].tolist()
        raise ValueError(
            f"task {task} has no support example of class {way}; each task needs at least one of each of its "
            f"{counts.shape[1]} classes, numbered 0 ... {counts.shape[1] - 1}"
        )
