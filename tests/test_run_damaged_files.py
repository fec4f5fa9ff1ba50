"""Flipped bits, cut ends and foreign files in what a run and a policy keep: refused in words, or read as written."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import fails, small_config, train_small
from test_supervised_training import SMALL

import metarl.supervised.training
from metarl.algorithms.maml_adam import MAMLVPG
from metarl.runs import open_run
from metarl.saved_policy import load_policy
from metarl.supervised.train_state import SupervisedState, load_state
from metarl.train import load_state as load_rl_state
from metarl.train import train


def flipped(data: bytes, n: int) -> Iterator[bytes]:
    """So many copies, each with another bit flipped."""
    rng = random.Random(0)
    for _ in range(n):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run; tests put back what they damage."""
    return train_small(tmp_path_factory.mktemp("policy") / "run") / "policy"


def refused_or_the_same(policy: Path, expected: dict, theta: torch.Tensor) -> bool:
    """Whether the policy is refused; it must be as it was otherwise."""
    try:
        found = load_policy(policy)
    except ValueError as error:
        assert str(policy) in str(error)  # noqa: PT017
        return True
    assert torch.equal(found.theta, theta)
    # A name that is no more what it was leaves an entry that nobody asks for.
    assert {key: value for key, value in found.record.items() if key in expected} == {
        key: value for key, value in expected.items() if key in found.record
    }
    assert {"record_sha256"} >= expected.keys() - found.record.keys()
    return False


@pytest.mark.parametrize(("name", "n"), [("config.json", 200), ("model.safetensors", 50)])
def test_a_flipped_bit_in_a_policy(name: str, n: int, policy: Path) -> None:
    before, file = load_policy(policy), policy / name
    data = file.read_bytes()
    refused = 0
    for damaged in flipped(data, n):
        file.write_bytes(damaged)
        refused += refused_or_the_same(policy, before.record, before.theta)
    file.write_bytes(data)
    assert refused == n if name == "model.safetensors" else refused > 0.7 * n


def test_settings_of_a_policy_that_were_changed(policy: Path) -> None:
    """Sensible in themselves, but not those that were written; how they are laid out does not matter."""
    file = policy / "config.json"
    data = file.read_bytes()
    record = json.loads(data)
    file.write_text(json.dumps({**record, "trajectories": 3}))
    with pytest.raises(ValueError, match=r"is damaged: config.json was changed after it was written; make it anew"):
        load_policy(policy)
    file.write_text(json.dumps(dict(reversed(record.items()))))
    assert load_policy(policy).record == record
    del record["record_sha256"]  # as older versions wrote it
    file.write_text(json.dumps(record))
    assert load_policy(policy).record == record
    file.write_bytes(data)


def test_a_flipped_bit_in_a_checkpoint_with_moments(tmp_path: Path) -> None:
    run = train(replace(small_config(), algo=MAMLVPG()), tmp_path / "run", n_threads=1)
    config, data = open_run(run.path)[1], run.checkpoint.read_bytes()
    expected = load_rl_state(run, config)
    assert expected.optimiser is not None
    for damaged in flipped(data, 150):
        run.checkpoint.write_bytes(damaged)
        try:
            found = load_rl_state(run, config)
        except ValueError as error:
            assert str(run.checkpoint) in str(error)  # noqa: PT017
            continue
        assert torch.equal(found.meta.theta, expected.meta.theta)
        assert found.optimiser is not None
        assert torch.equal(found.optimiser.first, expected.optimiser.first)
        assert torch.equal(found.optimiser.second, expected.optimiser.second)
        assert (found.iteration, found.optimiser.n_steps) == (2, expected.optimiser.n_steps)


@pytest.fixture(scope="module")
def supervised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return metarl.supervised.training.train(SMALL, tmp_path_factory.mktemp("supervised") / "run").path


def supervised_state(path: Path) -> SupervisedState:
    return load_state(path, metarl.supervised.training.initial_state(SMALL, SMALL.setup()).params)


def test_a_supervised_checkpoint(supervised: Path, tmp_path: Path) -> None:
    data, path = (supervised / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"
    expected = supervised_state(supervised / "checkpoint.pt")
    assert expected.best is not None
    assert math.isfinite(expected.best.score)
    for damaged in [*flipped(data, 150), *(data[:n] for n in range(0, len(data), len(data) // 40))]:
        path.write_bytes(damaged)
        try:
            found = supervised_state(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
            continue
        assert (found.iteration, found.best.iteration, found.best.score) == (
            expected.iteration,
            expected.best.iteration,
            expected.best.score,
        )
        for one, other in ((found.params, expected.params), (found.best.params, expected.best.params)):
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[name]) for name, value in one.items())
        for name, moments in expected.moments.items():
            assert torch.equal(found.moments[name].first, moments.first)
            assert torch.equal(found.moments[name].second, moments.second)


def test_parts_of_a_supervised_checkpoint_under_other_names(supervised: Path, tmp_path: Path) -> None:
    content = torch.load(supervised / "checkpoint.pt", weights_only=True)
    for prefix in ("first/", "best/"):
        name = next(key for key in content if key.startswith(prefix))
        renamed = {f"{key}x" if key == name else key: value for key, value in content.items()}
        torch.save(renamed, tmp_path / "checkpoint.pt")
        with pytest.raises(ValueError, match="is damaged: its parts do not fit"):
            supervised_state(tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_the_other_kind_of_learning(
    supervised: Path, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(policy.parent, tmp_path / "run"))
    shutil.copy(supervised / "checkpoint.pt", run / "checkpoint.pt")
    assert "not one of metarl's" in fails(capsys, "evaluate", run)
    assert "is a run of supervised learning" in fails(capsys, "evaluate", supervised)
    shutil.copy(policy.parent / "checkpoint.pt", tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="not one of metarl's"):
        supervised_state(tmp_path / "checkpoint.pt")
