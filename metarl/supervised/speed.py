"""How long a MAML meta-step takes, as a ratio of the plain per-task loop, measured in turn within one run.

The work is the meta-gradient of a batch of tasks; sampling and the outer step are not in it. Contents of the batch do
not matter for the time, so images are random numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .conv4 import Conv4
from .episodes import Episodes, Examples
from .maml import MAML
from .networks import MLP, Network
from .plain_loop import loop_meta_gradient
from .sinusoid import SinusoidSampler

REPEATS = 5


@dataclass(frozen=True)
class Work:
    """A meta-step to be timed."""

    network: Network
    episodes: Episodes
    steps: int
    """Inner steps."""
    step_size: float
    """On the mean support loss."""

    def ours(self) -> Callable[[], object]:
        """The meta-gradient by `MAML`, all tasks at once."""
        maml = MAML(self.network, step_size=self.step_size, steps=self.steps)
        params = maml.init(torch.Generator().manual_seed(0))
        return lambda: maml.meta_gradient(params, self.episodes, 0.0)

    def loop(self) -> Callable[[], object]:
        """The same by the plain loop."""
        theta = self.network.init(torch.Generator().manual_seed(0))
        return lambda: loop_meta_gradient(self.network, theta, self.episodes, self.step_size, self.steps)


@dataclass(frozen=True)
class StepTimes:
    """CPU time of one meta-gradient (ms) by implementation."""

    median_ms: dict[str, float]
    """Median over repeats."""
    ratio: dict[str, float]
    """How many times ours the implementation takes: median over repeats of pairs measured one after the other."""


def works() -> dict[str, Work]:
    """The settings of Finn et al. 2017: sinusoids, and Omniglot's network on 5-way 1-shot."""
    generator = torch.Generator().manual_seed(0)
    waves = SinusoidSampler(10, 10)(25, generator)
    y = torch.arange(5).expand(32, -1)
    images = Episodes(
        Examples(torch.rand(32, 5, 1, 28, 28, generator=generator), y),
        Examples(torch.rand(32, 5, 1, 28, 28, generator=generator), y),
    )
    out = {}
    for steps in (1, 5):
        plural = "" if steps == 1 else "s"
        out[f"sinusoid, 25 tasks, 10-shot, {steps} step{plural}"] = Work(MLP(1, 1), waves, steps, 0.01)
        out[f"conv4 stride 2, 32 tasks, 5-way 1-shot, {steps} step{plural}"] = Work(
            Conv4((1, 28, 28), 5), images, steps, 0.4
        )
    return out


def compare(ways: Mapping[str, Callable[[], object]], repeats: int = REPEATS, seconds: float = 0.2) -> StepTimes:
    """Time each way in turn, `repeats` times, each for about so many seconds but at least once; the first is ours.

    CPU time of the process, so that other processes of a busy machine count little; call it with one torch thread.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    calls = {name: max(1, int(seconds / _time(way, 1))) for name, way in ways.items()}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(_time(way, calls[name]))
    ours = times[next(iter(ways))]
    return StepTimes(
        {name: 1e3 * statistics.median(values) for name, values in times.items()},
        {name: statistics.median(b / a for a, b in zip(ours, values, strict=True)) for name, values in times.items()},
    )


def bench_supervised(repeats: int = REPEATS) -> dict[str, StepTimes]:
    """Ours against the plain loop for each of `works`, on one torch thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: compare({"ours": w.ours(), "loop": w.loop()}, repeats) for name, w in works().items()}
    finally:
        torch.set_num_threads(threads)


def _time(way: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        way()
    return (time.process_time() - start) / calls
