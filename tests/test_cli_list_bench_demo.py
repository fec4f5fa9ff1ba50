"""`metarl list`, `metarl bench` and `metarl demo`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image
from small_runs import call, fails

import metarl.bench
from metarl import load_policy
from metarl.commands import bench_command, demo_command
from metarl.config import TrainConfig
from metarl.envs import PROTOCOLS, family_class, family_names, make_family
from metarl.presets import PRESETS, preset


def test_the_list_names_every_environment_preset_and_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "list")
    assert (code, err) == (0, "")
    for name in (*family_names(), *PRESETS, *PROTOCOLS):
        assert f"  {name} " in out


def test_the_list_as_json_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "list", "--json")
    assert (code, err) == (0, "")
    listed = json.loads(out)
    assert [entry["name"] for entry in listed["environments"]] == list(family_names())
    assert listed["presets"] == PRESETS
    for entry in listed["environments"]:
        assert entry["gym_id"] in gymnasium.registry
        assert set(entry["protocols"]) == set(family_class(entry["name"]).protocols)
        for protocol in entry["protocols"]:
            spec = make_family(entry["name"], protocol).spec
            facts = entry["protocols"][protocol]
            assert (facts["obs_dim"], facts["act_dim"], facts["horizon"]) == (spec.obs_dim, spec.act_dim, spec.horizon)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of a moment, with short episodes: what is tested is not how fast it is."""
    monkeypatch.setattr(metarl.bench, "SECONDS_PER_MEASUREMENT", 0.01)
    monkeypatch.setattr(metarl.bench, "REPEATS", 2)

    def short(env: str, name: str, protocol: str | None) -> TrainConfig:
        config = preset(env, name, protocol)
        return replace(config, env=replace(config.env, horizon=10))

    monkeypatch.setattr(bench_command, "preset", short)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("what", "keys"),
    [
        ("rollout", {"closed_loop_steps_per_s", "open_loop_steps_per_s", "ratio"}),
        ("iteration", {"iteration_s", "raw_s", "ratio", "peak_memory_mb", "stages"}),
    ],
)
def test_benchmarks_print_one_json_object(what: str, keys: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", what, "--env", "half-cheetah-dir", "--threads", "1", "--tasks", "2", "--trajectories", "2"]
    code, out, err = call(capsys, *argv, "--json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    result = json.loads(out)
    assert keys <= set(result)
    stages = result.pop("stages", {})
    assert all(value > 0 for value in (*result.values(), *stages.values()) if isinstance(value, float))
    if stages:
        assert sum(stages.values()) == pytest.approx(result["iteration_s"])
    code, out, err = call(capsys, *argv)
    assert (code, err) == (0, "")
    assert all(key in out for key in keys)


def test_the_point_has_no_physics_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no MuJoCo physics" in fails(capsys, "bench", "rollout", "--env", "point-nav", "--json")


def small_demo(env: str, name: str) -> TrainConfig:
    """The demo preset, made small."""
    assert (env, name) == ("half-cheetah-dir", "demo")
    config = preset(env, name)
    return replace(config, env=replace(config.env, horizon=10), meta_batch=4, trajectories=2)


def test_the_demo_trains_evaluates_and_films(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command, with a small preset; as JSON, from which comes what it says without."""
    monkeypatch.setattr(demo_command, "preset", small_demo)
    monkeypatch.chdir(tmp_path)
    small = ("--iterations", "1", "--tasks", "4", "--trajectories", "2", "--threads", "2")
    code, printed, err = call(capsys, "demo", *small, "--json")
    assert (code, err) == (0, "")
    run = Path("runs/demo")
    made = json.loads(printed)
    assert made["evaluation"] == json.loads((run / "evaluation.json").read_text())
    assert len(made["videos"]) == 4
    out = demo_command.summary(made)
    for place in ("evaluation.json", "evaluation.png", "videos/forward.mp4", "videos/backward.gif"):
        assert str(run / place) in out
        assert (run / place).stat().st_size > 0
    assert "random initialisation" in out
    facts = json.loads((run / "videos" / "backward.json").read_text())
    assert list(facts["goal"].values()) == [-1.0]
    with Image.open(run / "videos" / "forward.gif") as gif:
        assert gif.n_frames > 1
    policy = load_policy(run)
    with policy.make_env() as env:
        obs, _ = env.reset(seed=0)
        assert np.isfinite(env.step(policy.act(obs))[1])
    assert "holds a run already" in fails(capsys, "demo", "--out", run)
