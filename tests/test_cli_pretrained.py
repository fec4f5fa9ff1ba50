"""Initialisations that ship with the package, and policy folders in place of runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import call, fails, train_small

import metarl.pretrained
from metarl import load_policy
from metarl.commands.loading import load_run
from metarl.pretrained import MAX_BYTES, pretrained_folder, pretrained_policies
from metarl.saved_policy import FORMAT

ENV = "half-cheetah-dir"
SMALL_FILM = ("--width", "48", "--height", "32", "--backend", "raycast", "--threads", "1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run in the paper's environment."""
    out = tmp_path_factory.mktemp("pretrained") / "run"
    return train_small(out, "--env.protocol", "finn2017", "--policy.normalise-obs", env=ENV)


@pytest.fixture
def shipped(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with that run's initialisation in it."""
    folder = tmp_path / "package"
    shutil.copytree(run / "policy", folder / f"{ENV}-finn2017")
    monkeypatch.setattr(metarl.pretrained, "FOLDER", folder)
    return folder


def edit(folder: Path, **changes: object) -> None:
    """Change entries of a policy folder's config.json, without its checksum; None removes one."""
    record = json.loads((folder / "config.json").read_text()) | {"record_sha256": None} | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


@pytest.mark.parametrize("policy", pretrained_policies(), ids=lambda p: p.path.name)
def test_every_policy_that_ships_is_small_and_adapts(policy: metarl.pretrained.Pretrained) -> None:
    assert policy.path.name == f"{policy.env}-{policy.protocol}"
    assert {p.name for p in policy.path.iterdir()} == {"model.safetensors", "config.json"}
    assert sum(p.stat().st_size for p in policy.path.iterdir()) <= MAX_BYTES
    loaded = load_run(policy.path)
    assert (loaded.config.env.name, loaded.config.env.protocol) == (policy.env, policy.protocol)
    assert not loaded.config.env.horizon
    assert loaded.state.iteration > 0


def test_a_video_at_once(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(shipped.rglob("*"))
    code, out, err = call(capsys, "record", ENV, "--pretrained", *SMALL_FILM)
    assert (code, err) == (0, "")
    (video,) = Path("videos").glob(f"{ENV}-finn2017-run_*.mp4")
    assert out == f"video: {video}\n"
    assert video.read_bytes()[4:8] == b"ftyp"
    facts = json.loads(video.with_suffix(".json").read_text())
    assert (facts["env"], facts["protocol"]) == (ENV, "finn2017")
    assert [panel["title"] for panel in facts["panels"]] == ["before adaptation", "after 1 gradient step"]
    assert facts["metadata"]["run"] == f"pretrained {ENV}"
    assert facts["metadata"]["iterations"] == 2
    assert facts["metadata"]["command"] == f"metarl record {ENV} --pretrained {' '.join(SMALL_FILM)}"
    assert sorted(shipped.rglob("*")) == before

    code, out, err = call(
        capsys, "record", ENV, "--pretrained", "--protocol", "finn2017", "--task", "backward", *SMALL_FILM
    )
    assert (code, out, err) == (0, f"video: {Path('videos', f'{ENV}-finn2017-backward.mp4')}\n", "")


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["ant-dir", "--pretrained"],
            f"of ant-dir ships with metarl; there are: {ENV} (finn2017)",
        ),
        ([ENV, "--pretrained", "--protocol", "modern"], f"no pretrained policy of {ENV} (modern) ships"),
        (["half-cheetah-dri", "--pretrained"], f"did you mean {ENV}"),
        ([ENV], f"there is no run folder {ENV}; 'metarl record {ENV} --pretrained' films"),
        (["nowhere", "--protocol", "modern"], "--protocol goes with --pretrained only"),
        ([ENV, "--pretrained", "--protocol", "moderm"], "moderm"),
        ([ENV, "--pretrained", "--task", "sideways"], "allowed: forward (1), backward (-1)"),
    ],
)
def test_wrong_ways_to_ask_for_one(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in fails(capsys, "record", *argv)
    assert not Path("videos").exists()


def test_without_any_the_error_says_how_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metarl.pretrained, "FOLDER", tmp_path)
    assert "none ship with this version; 'metarl train ant-dir'" in fails(capsys, "record", "ant-dir", "--pretrained")
    assert "none ship with this version" in call(capsys, "list")[1]
    assert json.loads(call(capsys, "list", "--json")[1])["pretrained"] == []


def test_the_list_shows_them(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{ENV}  " in call(capsys, "list")[1].partition("pretrained policies")[2]
    assert json.loads(call(capsys, "list", "--json")[1])["pretrained"] == [{"env": ENV, "protocol": "finn2017"}]
    (shipped / f"{ENV}-finn2017" / "config.json").write_text("{}")
    assert "does not say which environment" in fails(capsys, "list")


def test_modern_is_preferred(shipped: Path) -> None:
    assert pretrained_folder(ENV).name == f"{ENV}-finn2017"
    modern = shipped / f"{ENV}-modern"
    shutil.copytree(shipped / f"{ENV}-finn2017", modern)
    record = json.loads((modern / "config.json").read_text())
    edit(modern, env={**record["env"], "protocol": "modern"})
    assert pretrained_folder(ENV) == modern
    assert pretrained_folder(ENV, "finn2017").name == f"{ENV}-finn2017"


def test_an_initialisation_adapts_and_scores_as_its_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, start in (("run", run), ("policy", run / "policy")):
        argv = ["--task", "backward", "--steps", "2", "--threads", "1", "--out", tmp_path / name]
        assert call(capsys, "adapt", start, *argv)[0] == 0
        argv = ["--tasks", "2", "--steps", "2", "--threads", "1", "--out", tmp_path / f"{name}-evaluation"]
        assert call(capsys, "evaluate", start, *argv)[0] == 0
    thetas = [load_policy(tmp_path / name).theta for name in ("run", "policy")]
    assert torch.equal(*thetas)
    one, other = (
        json.loads((tmp_path / f"{name}-evaluation" / "evaluation.json").read_text()) for name in ("run", "policy")
    )
    assert {k: v for k, v in one.items() if k != "command"} == {k: v for k, v in other.items() if k != "command"}
    np.testing.assert_array_equal(load_run(run / "policy").policy.normaliser.mean, load_run(run).policy.normaliser.mean)


def test_policies_that_cannot_be_adapted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapted, old, odd = (tmp_path / name for name in ("adapted", "old", "odd"))
    assert call(capsys, "adapt", run, "--task", "backward", "--threads", "1", "--out", adapted)[0] == 0
    assert "is adapted to a task already" in fails(capsys, "evaluate", adapted)
    shutil.copytree(run / "policy", old)
    edit(old, algo=None, trajectories=None, meta_batch=None, seed=None)
    assert load_policy(old).record["format"] == FORMAT  # an older one still acts
    assert "lacks the settings for adaptation" in fails(capsys, "evaluate", old)
    shutil.copytree(run / "policy", odd)
    for changes, said in (
        ({"algo": {"inner_lr": -1.0}}, "inner_lr"),
        ({"algo": 3}, "must be a table"),
        ({"algo": {}, "iterations": "many"}, "iterations is 'many'"),
    ):
        edit(odd, **changes)
        assert said in fails(capsys, "evaluate", odd)
