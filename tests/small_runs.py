"""Runs small enough for a test: a few control steps of a few episodes of a small policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from metarl.cli import main
from metarl.config import TrainConfig
from metarl.envs import ProtocolName
from metarl.metrics import read_metrics
from metarl.presets import preset

# Their values depend on how busy the machine is.
TIMED = {"iteration_s", "wall_s", "steps_per_s"}
SMALL = (
    *("--meta-batch", "2", "--trajectories", "2", "--env.horizon", "5"),
    *("--policy.hidden-sizes", "8", "--policy.normalise-obs"),
)


def small_config(env: str = "point-nav", protocol: ProtocolName | None = None, iterations: int = 2) -> TrainConfig:
    """The default preset, made small."""
    config = preset(env, "default", protocol)
    return replace(
        config,
        env=replace(config.env, horizon=5),
        policy=replace(config.policy, hidden_sizes=(8,), normalise_obs=True),
        iterations=iterations,
        meta_batch=2,
        trajectories=2,
    )


def call(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line, run in this process."""
    capsys.readouterr()
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def fails(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 2) -> str:
    """The error message of a command line that must fail with one clear line and nothing on standard output."""
    got, out, err = call(capsys, *argv)
    assert (got, out) == (code, "")
    assert err.startswith("metarl: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def train_small(out: Path, *options: object, env: str = "point-nav") -> Path:
    """A finished small run."""
    argv = ["train", env, *SMALL, "--iterations", "2", "--threads", "1", "--quiet", "--out", out, *options]
    assert main([str(a) for a in argv]) == 0
    return out


def start_process(*argv: object, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """`python -m metarl` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "metarl", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def metrics_without_times(run: Path) -> list[dict[str, float]]:
    """Rows of a run's metrics that must not depend on the machine's load."""
    return [{k: v for k, v in row.items() if k not in TIMED} for row in read_metrics(run / "metrics.jsonl")]


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit the same parameters, step size, scaling, moments and metrics, in every file that holds them."""
    a, b = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (one, other))
    assert set(a) == set(b)
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), name
    assert a.get("adam_steps") == b.get("adam_steps")
    assert (a["iteration"], a["env_steps"]) == (b["iteration"], b["env_steps"])
    assert metrics_without_times(one) == metrics_without_times(other)
    assert csv_without_times(one) == csv_without_times(other)
    model = Path("policy", "model.safetensors")
    assert (one / model).read_bytes() == (other / model).read_bytes()
    facts = [json.loads((run / "config.json").read_text())["config"] for run in (one, other)]
    for config in facts:
        config.pop("checkpoint_every")
    assert facts[0] == facts[1]


def csv_without_times(run: Path) -> list[list[str]]:
    """Header and rows of a run's metrics.csv, without the timed columns."""
    lines = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name not in TIMED]
    return [[line[i] for i in keep] for line in lines]
