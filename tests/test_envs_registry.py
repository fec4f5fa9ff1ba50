"""Names of families, and a user's own family running everywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np
import pytest

import metarl.envs
from metarl.envs import (
    Family,
    MetaEnv,
    MetaVectorEnv,
    Simulator,
    State,
    TaskDistribution,
    family_class,
    family_names,
    make_family,
    registry,
    uniform_box,
)

PENDULUM = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body>
      <joint name="hinge" type="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -1" size="0.05" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-3 3"/></actuator>
</mujoco>
"""


class HoldAngle(Family):
    """A pendulum that must hold an unseen angle."""

    name: ClassVar[str] = "hold-angle-2x"
    title: ClassVar[str] = "a pendulum holds an angle"
    tasks: TaskDistribution = uniform_box([("angle (rad)", -0.5, 0.5)])
    frame_skip = 2
    horizon = 15

    def model_spec(self) -> mujoco.MjSpec:
        return mujoco.MjSpec.from_string(PENDULUM)

    def reset(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(-0.1, 0.1, 1), np.zeros(1)

    def observe(self, state: State) -> np.ndarray:
        return np.concatenate([state.qpos, state.qvel], axis=1)

    def controls(self, action: np.ndarray) -> np.ndarray:
        return 3.0 * action

    def reward(self, qpos_before: np.ndarray, state: State, action: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return -np.abs(state.qpos[:, 0] - goal[:, 0])


@pytest.fixture
def registered() -> Iterator[type[Family]]:
    yield metarl.envs.register(HoldAngle)
    del registry._FAMILIES[HoldAngle.name]
    del gymnasium.registry["metarl/HoldAngle2X-v0"]


def test_users_family_runs_everywhere(registered: type[Family]) -> None:
    assert "hold-angle-2x" in family_names()
    assert family_class("hold-angle-2x") is registered
    family = make_family("hold-angle-2x", oracle=True)
    assert (family.spec.obs_dim, family.spec.act_dim, family.spec.control_dt_s) == (3, 1, 0.04)
    simulator = Simulator(family, 2, 3, n_threads=2)
    obs = simulator.reset(family.tasks.sample(2, np.random.default_rng(0)), [np.random.default_rng(i) for i in (0, 1)])
    assert obs.shape == (2, 3, 3)
    step = simulator.step(np.ones((2, 3, 1)))
    assert (step.obs[..., 1] > 0).all()  # positive torque, positive velocity

    env = gymnasium.make("metarl/HoldAngle2X-v0", task=0.25)
    _, info = env.reset(seed=0)
    assert info["task"] == [0.25]
    rewards = [env.step(np.zeros(1, np.float32))[1] for _ in range(15)]
    assert all(reward < -0.05 for reward in rewards)
    envs = gymnasium.make_vec("metarl/HoldAngle2X-v0", num_envs=3)
    assert isinstance(envs, MetaVectorEnv)
    assert envs.reset(seed=0)[0].shape == (3, 2)
    frame_env = MetaEnv("hold-angle-2x", render_mode="rgb_array", width=64, height=64)
    frame_env.reset(seed=0)
    assert frame_env.render().std() > 1
    frame_env.close()


def test_users_controls_reach_the_actuators(registered: type[Family]) -> None:
    family = make_family("hold-angle-2x")
    simulator = Simulator(family, 1, 1)
    simulator.set_state(np.zeros((1, 1)), np.zeros((1, 1)))
    simulator.step(np.full((1, 1, 1), 0.5))
    data = mujoco.MjData(family.model)
    data.ctrl[:] = 1.5
    mujoco.mj_step(family.model, data, nstep=2)
    assert simulator.state.qvel[0, 0] == data.qvel[0]


def test_a_family_may_be_defined_again_but_not_another_of_its_name(registered: type[Family]) -> None:
    assert metarl.envs.register(HoldAngle) is registered
    again = type("HoldAngle", (HoldAngle,), {"__module__": __name__, "__qualname__": "HoldAngle"})
    metarl.envs.register(again)
    assert family_class("hold-angle-2x") is again
    other = type("Other", (HoldAngle,), {})
    with pytest.raises(ValueError, match="named 'hold-angle-2x' is registered already; choose another name"):
        metarl.envs.register(other)
    builtin = type("Mine", (HoldAngle,), {"name": "ant-dir"})
    with pytest.raises(ValueError, match="named 'ant-dir' is registered already"):
        metarl.envs.register(builtin)


@pytest.mark.parametrize("name", ["HoldAngle", "hold_angle", "hold--angle", "-hold", "2-hold", "", 3])
def test_names_that_make_no_gymnasium_id_are_refused(name: object) -> None:
    family = type("Bad", (HoldAngle,), {"name": name})
    with pytest.raises(ValueError, match=r"Bad.name is .*; set it to lower-case words joined by dashes"):
        metarl.envs.register(family)


def test_a_family_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Nameless.name is None; set it"):
        metarl.envs.register(type("Nameless", (Family,), {}))


@pytest.mark.usefixtures("no_type_checks")
def test_unknown_names_get_close_matches() -> None:
    with pytest.raises(ValueError, match=r"unknown environment 'half-cheetah'; did you mean half-cheetah-\w+ or half"):
        make_family("half-cheetah")
    with pytest.raises(ValueError, match="unknown environment 'swimmer'; there are: half-cheetah-dir, "):
        make_family("swimmer")
    with pytest.raises(ValueError, match="unknown protocol 'gym'; allowed: modern, finn2017"):
        make_family("ant-dir", "gym")


def test_every_public_name_of_the_package_exists() -> None:
    assert set(dir(metarl.envs)) >= set(metarl.envs.__all__)
    for name in metarl.envs.__all__:
        assert getattr(metarl.envs, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Simulater'"):
        _ = metarl.envs.Simulater


def test_listing_names_and_simulating_need_no_torch() -> None:
    code = (
        "import sys; from metarl.envs import family_names, make_family, Simulator\n"
        "for n in family_names(): make_family(n).spec\n"
        "print([m for m in ('torch', 'matplotlib', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr
