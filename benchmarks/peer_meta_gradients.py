"""MAML's meta-gradient by metarl, a plain loop, torchopt and higher: CPU time, measured in turn within one run.

`python benchmarks/supervised_peers.py FILE` runs this where torchopt and higher are installed.

All compute the same: before anything is timed, every meta-gradient is compared with the plain loop's, in float64. The
peers go task by task, as their documentation does; torchopt also has stateless optimisers, used with functional_call.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from metarl.supervised.episodes import Episodes, Examples
from metarl.supervised.maml import MAML
from metarl.supervised.plain_loop import forward, loop_meta_gradient, loss_of
from metarl.supervised.speed import Work, compare, works

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import higher
    import torchopt

REPEATS = 5
AGREEMENT = 1e-8
"""Largest allowed difference from the loop's meta-gradient, as a fraction of its largest entry."""


class Module(nn.Module):
    """A network of ours as a module, so that the peers run the same layers. Batch norm shifts do not adapt."""

    def __init__(self, work: Work, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = work.network
        theta = work.network.init(torch.Generator().manual_seed(0)).to(dtype)
        values = work.network.layout.unflatten(theta)
        self.own = nn.ParameterDict(
            {flat(name): value.clone() for name, value in values.items() if name not in work.network.norm_names}
        )
        self.shifts = {name: values[name].clone().requires_grad_() for name in work.network.norm_names}

    def forward(self, x: Tensor) -> Tensor:
        own = {name: self.own[flat(name)] for name, _ in self.network.layout.entries if name not in self.shifts}
        return forward(self.network, self.shifts | own, x)

    def leaves(self) -> list[Tensor]:
        """All that is meta-learned, in the order of the network's layout: shifts of batch norm come first."""
        own = [self.own[flat(name)] for name, _ in self.network.layout.entries if name not in self.shifts]
        return [*self.shifts.values(), *own]


def flat(name: str) -> str:
    """A name without dots, which torch refuses in a ParameterDict's keys."""
    return name.replace(".", "_")


def higher_way(work: Work, module: Module) -> Callable[[], Tensor]:
    """higher: a differentiable SGD on a monkey-patched copy of the module."""
    leaves, support, query = module.leaves(), work.episodes.support, work.episodes.query
    optimiser = torch.optim.SGD(module.own.parameters(), lr=work.step_size)

    def step() -> Tensor:
        losses = []
        for t in range(len(support.x)):
            with higher.innerloop_ctx(module, optimiser, copy_initial_weights=False) as (copy, inner):
                copy.shifts = module.shifts
                for _ in range(work.steps):
                    inner.step(loss_of(copy(support.x[t]), support.y[t]))
                losses.append(loss_of(copy(query.x[t]), query.y[t]))
        return gradient(losses, leaves)

    return step


def torchopt_way(work: Work, module: Module) -> Callable[[], Tensor]:
    """torchopt.MetaSGD, with the state of the module taken before each task and put back after it."""
    leaves, support, query = module.leaves(), work.episodes.support, work.episodes.query

    def step() -> Tensor:
        inner = torchopt.MetaSGD(module, lr=work.step_size)
        network, state = torchopt.extract_state_dict(module, by="reference"), torchopt.extract_state_dict(inner)
        losses = []
        for t in range(len(support.x)):
            for _ in range(work.steps):
                inner.step(loss_of(module(support.x[t]), support.y[t]))
            losses.append(loss_of(module(query.x[t]), query.y[t]))
            torchopt.recover_state_dict(module, network)
            torchopt.recover_state_dict(inner, state)
        return gradient(losses, leaves)

    return step


def torchopt_functional_way(work: Work, module: Module) -> Callable[[], Tensor]:
    """torchopt.sgd, the stateless optimiser, with autograd over plain dicts."""
    support, query = work.episodes.support, work.episodes.query
    start = dict(zip((name for name, _ in work.network.layout.entries), module.leaves(), strict=True))
    sgd = torchopt.sgd(lr=work.step_size)

    def step() -> Tensor:
        losses = []
        for t in range(len(support.x)):
            own = {name: value for name, value in start.items() if name not in module.shifts}
            state = sgd.init(own)
            for _ in range(work.steps):
                loss = loss_of(forward(work.network, module.shifts | own, support.x[t]), support.y[t])
                grads = torch.autograd.grad(loss, list(own.values()), create_graph=True)
                updates, state = sgd.update(dict(zip(own, grads, strict=True)), state, inplace=False)
                own = torchopt.apply_updates(own, updates, inplace=False)
            losses.append(loss_of(forward(work.network, module.shifts | own, query.x[t]), query.y[t]))
        return gradient(losses, list(start.values()))

    return step


def gradient(losses: list[Tensor], leaves: list[Tensor]) -> Tensor:
    """Derivative of the mean loss, flat."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(torch.stack(losses).mean(), leaves)])


PEERS = {"higher": higher_way, "torchopt": torchopt_way, "torchopt functional": torchopt_functional_way}


def ways(work: Work, dtype: torch.dtype = torch.float32) -> dict[str, Callable[[], Tensor]]:
    """Every implementation, ours first, from the same parameters."""
    theta = work.network.init(torch.Generator().manual_seed(0)).to(dtype)
    maml = MAML(work.network, step_size=work.step_size, steps=work.steps)
    out: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: maml.meta_gradient({"theta": theta}, work.episodes, 0.0).gradient["theta"],
        "loop": lambda: loop_meta_gradient(work.network, theta, work.episodes, work.step_size, work.steps),
    }
    return out | {name: way(work, Module(work, dtype)) for name, way in PEERS.items()}


def check(work: Work) -> dict[str, float]:
    """Largest difference from the loop's meta-gradient in float64, relative. RuntimeError: one that does not agree."""
    both = [Examples(e.x.double(), e.y.double() if e.y.dtype.is_floating_point else e.y) for e in
            (work.episodes.support, work.episodes.query)]  # fmt: skip
    results = {
        name: way() for name, way in ways(dataclasses.replace(work, episodes=Episodes(*both)), torch.float64).items()
    }
    loop = results["loop"]
    off = {name: float((value - loop).abs().max() / loop.abs().max()) for name, value in results.items()}
    for name, value in off.items():
        if not value < AGREEMENT:
            raise RuntimeError(f"{name} computes another meta-gradient than the loop: relative difference {value:.1e}")
    return off


def main(path: str, machine: str = "") -> None:
    """Write the record of one run. machine: a remark on where it was made."""
    torch.set_num_threads(1)
    record = []
    for name, work in works().items():
        agreement = check(work)
        times = compare(ways(work), REPEATS)
        record.append({"work": name, "relative_difference_float64": agreement, **dataclasses.asdict(times)})
        print(name, {way: round(ratio, 2) for way, ratio in times.ratio.items()}, flush=True)
    packages = {name: importlib.metadata.version(name) for name in ("torch", "torchopt", "higher")}
    result = {
        "command": "python benchmarks/supervised_peers.py results/supervised_peers.json",
        "what": "CPU time of one MAML meta-gradient on one thread, the ways in turn; ratio: how many times ours",
        "machine": machine,
        "repeats": REPEATS,
        "versions": {"python": platform.python_version(), **packages},
        "works": record,
    }
    Path(path).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
