"""`metarl list`: environments, their tasks, algorithms, presets and pretrained policies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from metarl.algorithms.registry import ALGORITHMS
from metarl.commands.parsing import parse_args
from metarl.envs import Family, TaskFamily, family_class, family_names, make_task_family, plugin_problems
from metarl.envs.registration import gym_id
from metarl.presets import PRESETS
from metarl.pretrained import pretrained_policies
from metarl.supervised.datasets import DATASETS
from metarl.supervised.learners import LEARNERS


@dataclass(frozen=True)
class Args:
    """List environments, their tasks, algorithms, presets and pretrained policies."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON, with dimensions in every protocol that they have, and nothing else."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(Args, argv, "metarl list")
    pretrained = pretrained_policies()
    families, problems = usable_families()
    if args.json:
        facts = {
            "environments": [_facts(name) for name in families],
            "problems": problems,
            "algorithms": {name: entry.text for name, entry in ALGORITHMS.items()},
            "presets": PRESETS,
            "datasets": {name: entry.text for name, entry in DATASETS.items()},
            "learners": {name: entry.text for name, entry in LEARNERS.items()},
            "pretrained": [{"env": policy.env, "protocol": policy.protocol} for policy in pretrained],
        }
        print(json.dumps(facts, indent=2))
        return 0
    width = max(map(len, families))
    print("environments")
    for name, family in families.items():
        print(f"  {name:<{width}}  {family.title}; task: {_task(family)}")
        only = "" if len(family.protocols) > 1 else f"; {family.protocols[0]} only"
        print(f"  {'':<{width}}  {_python(family)}{only}")
    for problem in problems:
        print(f"  not usable: {problem}")
    print("\nprotocols (--env.protocol)")
    print("  modern    Gymnasium's physics and time step\n  finn2017  the paper's environment")
    print("\nalgorithms (--algorithm)")
    width = max(map(len, ALGORITHMS))
    for algorithm, entry in ALGORITHMS.items():
        print(f"  {algorithm:<{width}}  {entry.text}")
    print("\npresets (--preset)")
    for preset_name, text in PRESETS.items():
        print(f"  {preset_name:<8}  {text}")
    print("\npretrained policies (metarl record ENV --pretrained)")
    for policy in pretrained:
        print(f"  {policy.env:<{width}}  {policy.protocol}")
    if not pretrained:
        print("  none ship with this version")
    print("\nlearning from a few examples: 'metarl fewshot --help' and 'metarl regression --help' list what there is")
    return 0


def usable_families() -> tuple[dict[str, TaskFamily], list[str]]:
    """Every family by name, and what is wrong with those of other packages that cannot be used."""
    families, problems = {}, list(plugin_problems())
    for name in family_names():
        try:
            families[name] = make_task_family(name)
        except Exception as error:  # built-in ones are tested; another package's may raise anything
            problems.append(f"{name}: {error}" if name not in str(error) else str(error))
    return families, problems


def _task(family: TaskFamily) -> str:
    names = family.tasks.names
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} numbers: {names[0]} ... {names[-1]}"


def _python(family: TaskFamily) -> str:
    return f"gymnasium.make({gym_id(family.name)!r})" if isinstance(family, Family) else "in worker processes"


def _facts(name: str) -> dict[str, object]:
    protocols = {}
    for protocol in family_class(name).protocols:
        family = make_task_family(name, protocol)
        spec = family.spec
        protocols[protocol] = {
            "obs_dim": spec.obs_dim,
            "act_dim": spec.act_dim,
            "horizon": spec.horizon,
            "control_dt_s": spec.control_dt_s,
            "task": list(family.tasks.names),
        }
    return {"name": name, "title": family_class(name).title, "gym_id": gym_id(name), "protocols": protocols}
