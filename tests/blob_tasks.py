"""Tiny few-shot tasks with a known optimum, for tests of learners.

Each class of a task is a point of the plane, its examples scatter around it with standard deviation 0.3. The points lie
at equal angles on a circle of radius 2 that is turned anew for each task. A third coordinate is noise of standard
deviation 3 that tells nothing: a learner that has learned to ignore it is right all but always with two classes, and
distances that do not ignore it mislead.
"""

import math
from collections.abc import Mapping

import torch

from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.learner import Learner


def blob_episodes(
    tasks: int,
    generator: torch.Generator,
    way: int = 2,
    shot: int = 1,
    query: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Episodes:
    """Classes at equal angles on a circle, turned by a random angle for each task; class-major."""
    turn = torch.rand(tasks, 1, generator=generator, dtype=dtype) * 2 * math.pi
    angle = turn + torch.arange(way) * 2 * math.pi / way
    centre = 2 * torch.stack((angle.cos(), angle.sin()), dim=-1)

    def draw(n: int) -> Examples:
        noise = 0.3 * torch.randn(tasks, way, n, 2, generator=generator, dtype=dtype)
        nuisance = 3 * torch.randn(tasks, way, n, 1, generator=generator, dtype=dtype)
        x = torch.cat((centre.unsqueeze(2) + noise, nuisance), dim=-1).flatten(1, 2)
        return Examples(x, torch.arange(way).repeat_interleave(n).expand(tasks, -1).contiguous())

    return Episodes(draw(shot), draw(query))


def accuracy(learner: Learner, params: Mapping[str, torch.Tensor], episodes: Episodes) -> float:
    with torch.no_grad():
        logits = learner.predict(learner.adapt(params, episodes.support), episodes.query.x)
    return float((logits.argmax(-1) == episodes.query.y).double().mean())


def train(learner: Learner, steps: int, lr: float, tasks: int = 16, seed: int = 0) -> dict[str, torch.Tensor]:
    """Meta-parameters after some steps of torch's Adam on new blob tasks."""
    generator = torch.Generator().manual_seed(seed)
    params = learner.init(generator)
    optimiser = torch.optim.Adam(list(params.values()), lr=lr) if params else None
    for step in range(steps):
        result = learner.meta_gradient(params, blob_episodes(tasks, generator), step / steps)
        for name, value in params.items():
            value.grad = result.gradient.get(name)
            if name in result.replaced:
                value.copy_(result.replaced[name])
        if optimiser:
            optimiser.step()
    return params
