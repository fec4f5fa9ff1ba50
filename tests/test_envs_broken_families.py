"""A user's family that returns nonsense, or explodes, wherever it is stepped: an error that names it, or contained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium_families import NoReward
from small_runs import call, small_config
from test_envs_check import XML, Good

from metarl.config import EnvConfig, TrainConfig
from metarl.envs import Simulator, Tasks, register, registry
from metarl.metrics import read_metrics
from metarl.train import train
from metarl.videos import run_episode

pytestmark = pytest.mark.usefixtures("no_type_checks", "nothing_stays")

NAN, INF = float("nan"), float("inf")
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "reward NaN": ({"reward": lambda self, q, s, a, g: s.qpos[:, 0] * NAN}, r"reward returned nan \(task 0, environ"),
    "reward infinite": ({"reward": lambda self, q, s, a, g: s.qpos[:, 0] + INF}, "reward returned inf"),
    "reward too large": ({"reward": lambda self, q, s, a, g: s.qpos[:, 0] * 0 + 1e39}, r"reward returned 1e\+39"),
    "reward a column": (
        {"reward": lambda self, q, s, a, g: s.qpos - g},
        r"reward returned shape \(\d, 1\) of float64;",
    ),
    "reward a table": ({"reward": lambda self, q, s, a, g: s.qpos - g[:, 0]}, "reward returned shape|raised"),
    "reward a number": (
        {"reward": lambda self, q, s, a, g: 1.0},
        r"reward returned shape \(\) of float64; expected sh",
    ),
    "reward text": ({"reward": lambda self, q, s, a, g: ["good"] * len(g)}, "reward returned shape .* of <U4"),
    "reward None": ({"reward": lambda self, q, s, a, g: None}, r"reward returned shape \(\) of object"),
    "reward raises": (
        {"reward": lambda self, q, s, a, g: s.qpos[:, 7]},
        r"reward raised IndexError: .*\(test_envs_broken_families.py, line \d+\)",
    ),
    "observation NaN later": (
        {"observe": lambda self, s: np.where(np.abs(s.qvel) > 0.0, NAN, s.qpos)},
        r"observe returned nan \(component 0, task 0, environment 0\); look for a division",
    ),
    "observation infinite": ({"observe": lambda self, s: s.qpos + INF}, "observe returned inf"),
    "observation a vector": ({"observe": lambda self, s: s.qpos[:, 0]}, r"observe returned shape \(1,\) for one row"),
    "observation grows": (
        {"observe": lambda self, s: np.zeros((len(s.qpos), 1 + int(s.qvel.any())))},
        r"observe returned shape \(\d, 2\) of float64; expected shape \(\d, 1\)",
    ),
    "done a number": ({"done": lambda self, s, g: s.qpos[:, 0] * 0.0}, r"done returned shape \(\d,\) of float64;"),
    "done one bool": ({"done": lambda self, s, g: False}, r"done returned shape \(\) of bool; expected shape \(\d,\)"),
    "initial state NaN": ({"reset": lambda self, rng: (np.array([NAN]), np.zeros(1))}, "the state to set has a qpos"),
    "initial state short": (
        {"reset": lambda self, rng: (np.zeros(0), np.zeros(1))},
        r"reset returned qpos of shape \(0",
    ),
    "initial state one": ({"reset": lambda self, rng: np.zeros(1)}, r"reset returned ndarray; expected \(qpos, qvel\)"),
    "controls": ({"controls": lambda self, a: a[:, :0]}, r"controls returned shape \(\d, 0\) of float64"),
}


def config_of(name: str) -> TrainConfig:
    return replace(small_config(), env=EnvConfig(name, horizon=5))


def trains(name: str, folder: Path) -> None:
    train(config_of(name), folder / "run", n_threads=2)


def films(name: str, folder: Path) -> None:
    run_episode(registry.make_family(name), np.zeros(1), lambda obs: np.ones(1), np.random.default_rng(0), 5)


def steps_alone(name: str, folder: Path) -> None:
    env = gymnasium.make(f"metarl/{name.title().replace('-', '')}-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.ones(1, np.float32))


def steps_many(name: str, folder: Path) -> None:
    envs = gymnasium.make_vec(f"metarl/{name.title().replace('-', '')}-v0", num_envs=3)
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(np.ones((3, 1), np.float32))


@pytest.mark.parametrize("use", [trains, films, steps_alone, steps_many], ids=lambda use: use.__name__)
@pytest.mark.parametrize("what", BROKEN)
def test_nonsense_is_an_error_that_names_the_family_and_its_function(
    what: str, use: Callable[[str, Path], None], tmp_path: Path
) -> None:
    methods, said = BROKEN[what]
    register(type("Broken", (Good,), {"name": "broken", **methods}))
    if (what, use) == ("reward a table", steps_alone) or (what, use) == ("reward a table", films):
        return  # one row by one goal is what it should be
    with pytest.raises(ValueError, match=f"^broken: {said}|^broken: .*{said}"), np.errstate(all="ignore"):
        use("broken", tmp_path)


def test_quantities_that_are_shown(tmp_path: Path) -> None:
    """They may be NaN, since nothing is learned from them, but not of another shape."""
    register(type("Shown", (Good,), {"name": "shown", "info": lambda self, q, s: {"angle (rad)": s.qpos[:, 0] * NAN}}))
    steps_alone("shown", tmp_path)
    films("shown", tmp_path)
    register(type("Wrong", (Good,), {"name": "wrong", "info": lambda self, q, s: {"angle (rad)": s.qpos}}))
    with pytest.raises(ValueError, match=r"^wrong: info returned 'angle \(rad\)': shape \(1, 1\) of float64"):
        steps_alone("wrong", tmp_path)


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register(type("Broken", (Good,), {"name": "broken", **BROKEN["reward raises"][0]}))
    code, _, err = call(capsys, "train", "broken", "--iterations", "1", "--out", tmp_path / "run", "--threads", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("metarl: broken: reward raised IndexError: index 7 is out of bounds")


class Explodes(Good):
    """Motors a billion times too strong for the time step, without limits."""

    name, title = "explodes", "a pendulum with a motor that nothing withstands"

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(XML.replace('gear="3"', 'gear="1e15"'))


def test_an_exploding_simulation_is_contained_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes end there, finite; training, evaluation, video and the Gymnasium environments go on."""
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write its log
    register(Explodes)
    run = train(replace(config_of("explodes"), iterations=3), tmp_path / "run", n_threads=2)
    rows = read_metrics(run.path / "metrics.jsonl")
    assert all(row["n_diverged"] > 0 for row in rows)
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert torch.load(run.checkpoint, weights_only=True)["theta"].isfinite().all()
    assert call(capsys, "evaluate", run.path, "--tasks", "2", "--steps", "1", "--threads", "1")[0] == 0
    video = ("--task", "0.5", "--width", "64", "--height", "48", "--threads", "1", "--backend", "raycast")
    assert call(capsys, "record", run.path, *video)[0] == 0
    assert (run.videos / "0.5.mp4").stat().st_size > 1000
    env = gymnasium.make("metarl/Explodes-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    obs, reward, terminated, _, info = env.step(np.ones(1, np.float32))
    assert np.isfinite(obs).all()
    assert (reward, terminated, info["diverged"]) == (0.0, True, True)
    steps_many("explodes", tmp_path)
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()


def test_a_diverged_row_and_a_reward_that_is_none_there() -> None:
    """What a family makes of the state that a diverged row is put back to does not matter."""
    methods = {"reward": lambda self, q, s, a, g: np.where(s.qvel[:, 0] == 0.0, NAN, 1.0)}
    family = type("Late", (Explodes,), {"name": "late", **methods})()
    simulator = Simulator(family, 2, 1)
    simulator.reset(Tasks(np.zeros((2, 1))), [np.random.default_rng(i) for i in range(2)])
    step = simulator.step(np.array([[[1.0]], [[1e-15]]]))
    assert step.diverged[:, 0].tolist() == [True, False]
    assert step.reward[:, 0].tolist() == [0.0, 1.0]


def test_a_gymnasium_environment_whose_reward_is_not_a_number(tmp_path: Path) -> None:
    register(NoReward)
    with pytest.raises(ValueError, match=r"test-no-reward returned a reward of nan \(task 0, environment 0, step 0\)"):
        train(config_of("test-no-reward"), tmp_path / "run", n_threads=1)
