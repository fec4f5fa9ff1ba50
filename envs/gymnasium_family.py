"""Any existing Gymnasium environment as a family of tasks, run in worker processes.

Derive a class, say how to make an environment, and where its tasks come from:

    @register
    class PendulumGravity(GymnasiumFamily):
        name, title = "pendulum-gravity", "Pendulum swings up in unknown gravity"
        tasks = uniform_box([("gravity (m/s^2)", 5.0, 15.0)])

        def make_env(self, task):  # the goal (goal,)
            return gymnasium.make("Pendulum-v1", g=task[0])

Two ways to get a task into an environment: override `set_task(env, task)`, and one environment serves task after task;
or leave it, and `make_env(task)` is called for each new task. An environment that samples its own tasks, with
`sample_tasks(n)` and `set_task(task)` or `reset_task(task)` as in ProMP, garage and learn2learn, needs `make_env`
alone: see `own_tasks`.

The observation is flattened to float64 and is what the policy sees: where it holds the goal (as in goal-conditioned
robotics environments), override `observe` and leave the goal out, or there is nothing to learn to adapt to. Actions in
[-1, 1] are scaled to the action space's bounds. A truncation (time limit) before `horizon` ends the episode.
For `metarl record`, let `make_env(self, task, render_mode=None)` pass the mode on to `gymnasium.make`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from .own_tasks import OwnTasks, has_own_tasks, tasks_of
from .spec import EnvSpec
from .task_family import ProtocolName, RowSimulator, TaskFamily

UNKNOWN_CONTROL_DT_S = 0.05


class GymnasiumFamily(TaskFamily):
    """Base of families of Gymnasium environments. The class must be importable: worker processes import it by name."""

    horizon: int = 0
    """Control steps per episode; 0 for the environment's own time limit."""
    control_dt_s: ClassVar[float] = 0.0
    """Seconds per control step; 0 to ask the environment (`dt`, else its frame rate)."""

    def __init__(self, protocol: ProtocolName = "modern", oracle: bool = False) -> None:
        super().__init__(protocol, oracle)
        own = None
        if not hasattr(self, "tasks"):
            with self._one_env() as env:
                own = tasks_of(env, type(self).__name__)
            self.tasks = own
        if not self.horizon:
            with self._one_env() as env:
                limit = env.spec.max_episode_steps if env.spec is not None else None
            if limit is None:
                raise ValueError(f"{type(self).__name__}: its environment has no time limit; set the class's horizon")
            self.horizon = limit

    def __getstate__(self) -> dict[str, Any]:
        # For worker processes, which draw no tasks: distributions are made of functions that cannot be pickled.
        return {k: v for k, v in self.__dict__.items() if k != "tasks" or isinstance(v, OwnTasks)}

    # -- to be provided by a family ---------------------------------------------------------------------------------

    def make_env(self, task: Float[np.ndarray, " goal"]) -> gymnasium.Env:
        """An environment of a task; called in worker processes, and in the main one to learn its sizes.

        To be filmed it also takes `render_mode=None` and passes it to `gymnasium.make`.
        """
        raise NotImplementedError(f"{type(self).__name__}.make_env is missing: return a gymnasium.Env")

    def filmed_env(self, task: Float[np.ndarray, " goal"]) -> gymnasium.Env:
        """An environment of a task whose `render` returns pictures: `make_env(task, render_mode="rgb_array")`.

        ValueError, with what to change, if `make_env` has no parameter `render_mode` or does not pass it on.
        """
        make_env: Any = self.make_env
        films = "render_mode" in inspect.signature(make_env).parameters
        env = make_env(task, render_mode="rgb_array") if films else make_env(task)
        if env.render_mode == "rgb_array":
            return env
        env.close()
        raise ValueError(
            f"{self.name} cannot be filmed: its environment's render_mode is {env.render_mode!r}, not 'rgb_array'; let "
            f"{type(self).__name__}.make_env(self, task, render_mode=None) pass render_mode on to gymnasium.make"
        )

    def set_task(self, env: gymnasium.Env, task: Float[np.ndarray, " goal"]) -> None:
        """Change the task of an environment, before its next reset. Without it each new task gets a new environment."""
        if not isinstance(self.tasks, OwnTasks):
            raise NotImplementedError
        own = self.tasks.of_goal(task)
        unwrapped: Any = env.unwrapped
        if hasattr(unwrapped, "set_task"):
            unwrapped.set_task(own)
        else:
            unwrapped.reset_task(own)

    def observe(self, obs: Any) -> np.ndarray:
        """What the policy sees of an observation, one axis; flattened by default."""
        return np.asarray(spaces.flatten(self._spaces[0], obs))

    # -- derived from the above -------------------------------------------------------------------------------------

    @property
    def reuses_envs(self) -> bool:
        """Whether an environment can be given another task."""
        return type(self).set_task is not GymnasiumFamily.set_task or isinstance(getattr(self, "tasks", None), OwnTasks)

    @functools.cached_property
    def spec(self) -> EnvSpec:
        with self._one_env() as env:
            observation = np.asarray(self.observe(env.reset(seed=0)[0]), dtype=np.float64)
            control_dt_s = self.control_dt_s or _control_dt_s(env)
        if observation.ndim != 1:
            raise ValueError(f"{type(self).__name__}.observe returned shape {observation.shape}; one axis is needed")
        goal_dim = len(self.tasks.names)
        return EnvSpec(
            obs_dim=len(observation) + (goal_dim if self.oracle else 0),
            act_dim=int(np.prod(self.action_space.shape)),
            goal_dim=goal_dim,
            horizon=self.horizon,
            control_dt_s=control_dt_s,
        )

    @property
    def action_space(self) -> spaces.Box:
        """The environments' own, with finite bounds. ValueError if it is not of that kind."""
        space = self._spaces[1]
        if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            raise ValueError(
                f"{type(self).__name__}: the action space is {space}; policies are Gaussian: it must be a Box of floats"
            )
        if not space.is_bounded():
            raise ValueError(
                f"{type(self).__name__}: the action space {space} has infinite bounds, and actions are scaled to them; "
                "wrap the environment in gymnasium.wrappers.RescaleAction or ClipAction with finite ones"
            )
        return space

    def simulator(self, n_tasks: int, n_envs: int, n_threads: int = 1) -> RowSimulator:
        """Rows of this family in worker processes, one for each thread that was asked for."""
        from .process_simulator import ProcessSimulator  # it imports this module

        return ProcessSimulator(self, n_tasks, n_envs, n_threads)

    @functools.cached_property
    def _spaces(self) -> tuple[spaces.Space, spaces.Space]:
        with self._one_env() as env:
            return env.observation_space, env.action_space

    def _one_env(self) -> _Closing:
        """An environment of some task, for questions about it."""
        sampled = getattr(self, "tasks", None)
        task = np.zeros(0) if sampled is None else sampled.sample(1, np.random.default_rng(0)).goal[0]
        env = self.make_env(task)
        if not isinstance(env, gymnasium.Env):
            raise ValueError(f"{type(self).__name__}.make_env returned {type(env).__name__}, not a gymnasium.Env")
        if sampled is None and not has_own_tasks(env):
            env.close()
            raise ValueError(
                f"{type(self).__name__} has no tasks: set `tasks` (for example uniform_box([...])), or make an "
                "environment that has sample_tasks(n) and set_task(task)"
            )
        return _Closing(env)


class _Closing:
    """An environment for the length of a block."""

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env

    def __enter__(self) -> gymnasium.Env:
        return self.env

    def __exit__(self, *error: object) -> None:
        self.env.close()


def _control_dt_s(env: gymnasium.Env) -> float:
    dt = getattr(env.unwrapped, "dt", None)
    if isinstance(dt, int | float) and dt > 0:
        return float(dt)
    metadata: Mapping[str, Any] = env.metadata or {}
    fps = metadata.get("render_fps")
    return 1.0 / float(fps) if fps else UNKNOWN_CONTROL_DT_S
