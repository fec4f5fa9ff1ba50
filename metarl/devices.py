"""Where the learner computes: advantages, gradients, curvature, line search. Simulation is always on the CPU."""

from __future__ import annotations

import re

import torch

from .group import SOLO, Group


def device_of(name: str, group: Group = SOLO) -> torch.device:
    """The device that `--device` names: cpu, cuda (of several processes on a machine each takes its own) or cuda:N.

    Raises ValueError if there is no such GPU, or not one for each process.
    """
    if name == "cpu":
        return torch.device("cpu")
    number = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not number:
        raise ValueError(f"unknown device {name!r}; allowed: cpu, cuda, cuda:0, cuda:1, ...")
    if not torch.cuda.is_available():
        build = "" if torch.version.cuda else ": this torch is a CPU build, see constraints.txt"
        raise ValueError(f"--device {name} finds no GPU that torch can use{build}; use --device cpu")
    n_gpus = torch.cuda.device_count()
    if number[1] is not None and group.local_size > 1:
        raise ValueError(f"--device {name} is one GPU for {group.local_size} processes; give --device cuda, one each")
    index = group.local_rank if number[1] is None else int(number[1])
    if max(index, group.local_size - 1) >= n_gpus:
        wanted = f"{group.local_size} processes need a GPU each" if group.local_size > 1 else f"there is no {name}"
        raise ValueError(f"{wanted}, but torch sees {n_gpus} here; start fewer, or use --device cpu")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
