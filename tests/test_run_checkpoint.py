"""Checkpoints and policy folders: good ones come back whole; damaged, foreign or malicious ones get a clear error."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import fails, train_small

from metarl.algorithms.maml import MetaParams
from metarl.checkpoint import TrainState, load_checkpoint, save_checkpoint
from metarl.policies import ObsNormaliser
from metarl.runs import open_run
from metarl.saved_policy import load_policy
from metarl.train import load_state

COMMANDS = (["evaluate"], ["adapt", "--task", "0.1,0.1"], ["record", "--task", "0.1,0.1"], ["train", "--resume"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test changes."""
    return train_small(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def state(n: int = 3) -> TrainState:
    normaliser = ObsNormaliser((0.0, 1.0), (1.0, 2.0))
    return TrainState(7, MetaParams(torch.arange(n) + 0.1, torch.full((n,), 0.5)), 123, 4.5, normaliser)


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for expected in (state(), replace(state(), normaliser=None, meta=MetaParams(torch.ones(3), torch.tensor(0.1)))):
        save_checkpoint(path, expected, "point-nav", "modern")
        got = load_checkpoint(path, "point-nav", "modern", 3)
        assert torch.equal(got.meta.theta, expected.meta.theta)
        assert torch.equal(got.meta.step_size, expected.meta.step_size)
        assert (got.iteration, got.env_steps, got.wall_s) == (7, 123, 4.5)
        assert got.normaliser == expected.normaliser


@pytest.mark.parametrize(
    ("env", "protocol", "n", "said"),
    [
        ("ant-dir", "modern", 3, r"is of point-nav \(modern\), not of ant-dir"),
        ("point-nav", "finn2017", 3, r"not of point-nav \(finn2017\)"),
        ("point-nav", "modern", 4, "holds 3 policy parameters, this run's policy has 4"),
    ],
)
def test_a_checkpoint_of_something_else(env: str, protocol: str, n: int, said: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", state(), "point-nav", "modern")
    with pytest.raises(ValueError, match=said):
        load_checkpoint(tmp_path / "c", env, protocol, n)


def test_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(), "point-nav", "modern")
    data = path.read_bytes()
    for length in {0, 1, 2, len(data) - 1, *range(3, len(data), 97)}:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is damaged"):
            load_checkpoint(path, "point-nav", "modern", 3)


def test_a_flipped_bit_is_noticed_or_without_effect(tmp_path: Path) -> None:
    """Some bytes of a zip file carry nothing (dates, padding); every other flip is refused."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(), "point-nav", "modern")
    data, rng, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(600):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            got = load_checkpoint(path, "point-nav", "modern", 3)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
            noticed += 1
            continue
        assert torch.equal(got.meta.theta, state().meta.theta)
        assert torch.equal(got.meta.step_size, state().meta.step_size)
        assert (got.iteration, got.env_steps, got.wall_s, got.normaliser) == (7, 123, 4.5, state().normaliser)
    assert noticed > 60


def changed(**values: object) -> bytes:
    """A file with the keys of a checkpoint and other values."""
    buffer = io.BytesIO()
    torch.save({"format": 1, "env": "point-nav", "protocol": "modern", "crc": 0, **values}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04", changed(), changed(theta=torch.zeros(3), iteration="x")])
def test_a_foreign_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged or not one of metarl's; restore it from a copy"):
        load_checkpoint(tmp_path / "c", "point-nav", "modern", 3)


def test_one_changed_number_does_not_fit_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, state(), "point-nav", "modern")
    content = torch.load(path, weights_only=True)
    for name, value in (("iteration", 8), ("theta", content["theta"] + 1), ("obs_std", content["obs_std"] * 2)):
        torch.save({**content, name: value}, path)
        with pytest.raises(ValueError, match="checksum does not match"):
            load_checkpoint(path, "point-nav", "modern", 3)
    torch.save({**content, "format": 2}, path)
    with pytest.raises(ValueError, match="has format 2, this version of metarl reads format 1"):
        load_checkpoint(path, "point-nav", "modern", 3)


class Malicious:
    """Unpickling it would write a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.witness), "w"))


def test_code_in_a_pickle_is_not_executed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    witness = tmp_path / "executed"
    (run / "checkpoint.pt").write_bytes(pickle.dumps(Malicious(witness)))
    assert "is damaged" in fails(capsys, "evaluate", run)
    buffer = io.BytesIO()
    torch.save({"format": 1, "theta": Malicious(witness)}, buffer)
    (run / "checkpoint.pt").write_bytes(buffer.getvalue())
    assert "is damaged" in fails(capsys, "evaluate", run)
    assert not witness.exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_every_command_names_a_damaged_checkpoint(
    command: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "checkpoint.pt"
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert f"the checkpoint {checkpoint} is damaged" in fails(capsys, command[0], *command[1:], run)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("command", COMMANDS[:3], ids=lambda c: c[0])
def test_every_command_names_a_missing_checkpoint(
    command: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoint.pt").unlink()
    assert f"there is no checkpoint {run / 'checkpoint.pt'}" in fails(capsys, command[0], *command[1:], run)


def test_the_checkpoint_of_another_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = train_small(tmp_path / "other", env="ant-goal")
    shutil.copy(other / "checkpoint.pt", run / "checkpoint.pt")
    assert "is of ant-goal (modern), not of point-nav (modern)" in fails(capsys, "evaluate", run)
    record = json.loads((run / "config.json").read_text())
    record["config"]["policy"]["hidden_sizes"] = [9]
    (run / "config.json").write_text(json.dumps(record))
    shutil.copy(tmp_path / "other" / "checkpoint.pt", run / "checkpoint.pt")
    with pytest.raises(ValueError, match="does not belong to this run"):
        load_state(*open_run(run))


def test_a_policy_folder_comes_back(finished: Path) -> None:
    loaded = load_state(*open_run(finished))
    policy = load_policy(finished)
    assert torch.equal(policy.theta, loaded.meta.theta)
    assert policy.step_size is not None
    assert torch.equal(policy.step_size, loaded.meta.step_size)
    assert policy.network.normaliser == loaded.normaliser
    assert torch.equal(load_policy(finished / "policy").theta, policy.theta)


def test_actions_are_those_of_the_network(finished: Path) -> None:
    policy = load_policy(finished)
    obs = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    actions = policy.act(obs)
    assert actions.shape == (4, 2)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    np.testing.assert_allclose(policy.act(obs[1]), actions[1], atol=1e-6)
    np.testing.assert_array_equal(policy.act(obs[:0]), np.zeros((0, 2)))
    drawn = [policy.act(obs[0], np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert not np.array_equal(drawn[0], actions[0])


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("obs", [np.zeros(3, np.float32), np.zeros((2, 1), np.float32), np.float32(1.0)])
def test_observations_of_the_wrong_length(obs: np.ndarray, finished: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \(..., 2\)"):
        load_policy(finished).act(obs)


def damage_model(folder: Path, keep: int) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:keep])


@pytest.mark.parametrize("keep", [0, 1, 8, 100, 400])
@pytest.mark.parametrize("with_checksum", [True, False])
def test_truncated_weights(keep: int, with_checksum: bool, run: Path) -> None:
    damage_model(run / "policy", keep)
    if not with_checksum:
        change_record(run / "policy", model_sha256=None)
    with pytest.raises(ValueError, match="is damaged"):
        load_policy(run)


def change_record(folder: Path, **changes: object) -> None:
    """Change config.json of a policy, without its checksum; None removes an entry."""
    record = {**json.loads((folder / "config.json").read_text()), "record_sha256": None, **changes}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


def test_a_flipped_bit_in_the_weights_is_noticed(run: Path) -> None:
    file = run / "policy" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"model.safetensors is not the one that config.json was written for"):
        load_policy(run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2 is unknown"),
        ({"env": None}, "config.json lacks 'env'"),
        ({"policy": None}, "config.json lacks 'policy'"),
        ({"policy": 3}, "policy must be a table"),
        ({"policy": {"hidden_sizes": [9]}}, "has shape"),
        ({"policy": {"hidden_sizes": [8, 8]}}, "missing|has shape"),
        ({"env": {"name": "point-naw"}}, "did you mean point-nav"),
        ({"task": [1, 2, 3]}, "task has shape"),
        ({"task": ["x", "y"]}, "task"),
        ({"task": [100, 100]}, "outside the distribution"),
    ],
)
def test_a_policy_with_wrong_settings(changes: dict[str, object], said: str, run: Path) -> None:
    change_record(run / "policy", **changes)
    with pytest.raises(ValueError, match=said):
        load_policy(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_policy_with_broken_settings(content: bytes, run: Path) -> None:
    (run / "policy" / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        load_policy(run)


def test_folders_that_are_no_policies(tmp_path: Path, run: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no policy folder"):
        load_policy(tmp_path)
    (run / "policy" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="is no policy folder"):
        load_policy(run)


def test_a_checkpoint_is_a_zip_without_code(finished: Path) -> None:
    with zipfile.ZipFile(finished / "checkpoint.pt") as archive:
        assert archive.testzip() is None
