"""Tasks x environments of one family, stepped together on `mujoco.batch`; its only user.

Contract. A `Simulator` owns n_tasks * n_envs rows; row task * n_envs + env belongs to that task's environment. Rows
are independent: a row's trajectory depends on its own initial state and actions only, to the bit, at any thread
count. Arrays returned by `reset` and `step` are new; `state` is a view that the next call overwrites. One thread may
use a Simulator at a time; several Simulators may run in several threads, since stepping releases the GIL.

A simulation that diverges (a non-finite state, a MuJoCo warning of one, or an error MuJoCo raises) is contained: its
episode terminates with reward 0 at that step, it is counted, its row is put back to a finite state, and the other
rows go on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import mujoco
import mujoco.batch
import numpy as np
from jaxtyping import Bool, Float

from . import checked_calls as checked
from .dynamics import derives_constants, has_dynamics, physical, task_fields
from .family import Family, State
from .task_family import Step
from .tasks import Tasks

_logger = logging.getLogger(__name__)

# Warnings after which MuJoCo puts a simulation back to its initial state and goes on.
_DIVERGED = (
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
)
_COUNT = 1  # column of the number of warnings in `Batch.warning`


class Simulator:
    """Batched simulation of a family.

    Args:
      family: the environment family; its model is shared.
      n_tasks, n_envs: rows are tasks x environments.
      n_threads: threads that step the rows, 0 for one per core.
    """

    def __init__(self, family: Family, n_tasks: int, n_envs: int, n_threads: int = 1) -> None:
        if n_tasks < 1 or n_envs < 1 or n_threads < 0:
            raise ValueError(
                f"n_tasks={n_tasks}, n_envs={n_envs}, n_threads={n_threads}: tasks and environments must be at least "
                "1, threads at least 0 (0: one per core)"
            )
        if mujoco.get_mju_user_warning() is None:
            # MuJoCo's own handler prints each warning and appends it to MUJOCO_LOG.TXT in the user's folder.
            mujoco.set_mju_user_warning(_logger.debug)
        self.family = family
        self.n_tasks = n_tasks
        self.n_envs = n_envs
        self.n_diverged = 0
        """Simulations that diverged since this object was made."""
        self.first_task = 0
        """Number of the first task, for messages, where the tasks are a share of more."""
        n_rows = n_tasks * n_envs
        model = family.model
        self._goal = np.zeros((n_rows, len(family.tasks.names)))
        self._has_dynamics = has_dynamics(family)
        self._simulated_goal = np.full_like(self._goal, np.nan)  # whose model fields each row runs with
        self._last_obs = np.zeros((n_rows, family.spec.obs_dim))
        self._batch: mujoco.batch.Batch | None = None
        if family.kinematic:
            self.state = State(np.zeros((n_rows, model.nq)), np.zeros((n_rows, model.nv)))
        else:
            # A persistent batch keeps what `stage` computed for the next step, so that it costs nothing extra.
            persistent = family.stage != mujoco.mjtStage.mjSTAGE_NONE
            self._batch = mujoco.batch.Batch(model, n_rows, n_threads, persistent)
            self._ctrl = self._batch.bind("ctrl")
            self.state = State(
                self._batch.bind("qpos"),
                self._batch.bind("qvel"),
                {name: self._batch.bind(name) for name in family.derived},
            )
        self._last_qpos = self.state.qpos.copy()

    @property
    def qpos_before(self) -> Float[np.ndarray, "row nq"]:
        """Positions before the last step, as `Family.reward` and `Family.info` take them."""
        return self._last_qpos

    def info(self) -> dict[str, Float[np.ndarray, " row"]]:
        """`Family.info` after the last step."""
        return checked.info(self.family, self._last_qpos, self.state)

    @property
    def obs(self) -> Float[np.ndarray, "task env obs"]:
        """A copy of every row's current observation, as the last reset or step returned it."""
        return self._last_obs.reshape(self.n_tasks, self.n_envs, -1).copy()

    def reset(self, tasks: Tasks, rngs: Sequence[np.random.Generator]) -> Float[np.ndarray, "task env obs"]:
        """Start an episode in every row: task i's environments draw their initial states from rngs[i] in order."""
        if len(tasks) != self.n_tasks or len(rngs) != self.n_tasks:
            raise ValueError(
                f"got {len(tasks)} tasks and {len(rngs)} generators for a simulator of {self.n_tasks} tasks"
            )
        if tasks.goal.shape[1] != self._goal.shape[1]:
            raise ValueError(
                f"tasks have {tasks.goal.shape[1]} goal components, {self.family.name} has {self._goal.shape[1]}: "
                f"{', '.join(self.family.tasks.names)}"
            )
        self.set_goal(np.arange(len(self._goal)), np.repeat(tasks.goal, self.n_envs, axis=0))
        initial = [checked.initial_state(self.family, rng) for rng in rngs for _ in range(self.n_envs)]
        self.set_state(np.stack([qpos for qpos, _ in initial]), np.stack([qvel for _, qvel in initial]))
        return self.obs

    def reset_rows(self, rows: np.ndarray, rngs: Sequence[np.random.Generator]) -> Float[np.ndarray, "n obs"]:
        """Start a new episode of the same task in some rows (sorted ids (n,)), each from its own generator."""
        initial = [checked.initial_state(self.family, rng) for rng in rngs]
        self.set_state(np.stack([qpos for qpos, _ in initial]), np.stack([qvel for _, qvel in initial]), rows)
        return self._last_obs[rows].copy()

    def set_goal(self, rows: np.ndarray, goal: Float[np.ndarray, "n goal"]) -> None:
        """Give some rows (sorted ids) another task; takes effect at their next reset or step."""
        self._goal[rows] = goal
        if self._has_dynamics:
            changed = rows[(self._simulated_goal[rows] != goal).any(axis=1)]
            if len(changed):
                self._set_fields(changed)

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Put rows (all by default; else sorted ids) into the state qpos (n, nq), qvel (n, nv), as after a reset.

        ValueError if a number is not finite or above mjMAXVAL: MuJoCo would start from the model's default instead.
        """
        for name, values in (("qpos", qpos), ("qvel", qvel)):
            if not (np.abs(values) < mujoco.mjMAXVAL).all():  # false for NaN too
                raise ValueError(
                    f"{self.family.name}: the state to set has a {name} that is not finite or not below "
                    f"{mujoco.mjMAXVAL:g}"
                )
        selected = slice(None) if rows is None else rows
        self._put(qpos, qvel, rows)
        # Observations of all rows, since derived fields are views of all; only the selected ones are kept.
        obs = self._last_obs.copy()
        obs[selected] = checked.observation(self.family, self.state, self._goal)[selected]
        checked.require_finite(self.family, "observe", obs, self.n_envs, self.first_task)
        self._last_obs[:] = obs

    def _put(self, qpos: np.ndarray, qvel: np.ndarray, rows: np.ndarray | None) -> None:
        selected = slice(None) if rows is None else rows
        if self._batch is not None:
            self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.state.qpos[selected] = qpos
        self.state.qvel[selected] = qvel
        if self._batch is not None:
            self._batch.forward(rows)
        self._last_qpos[selected] = self.state.qpos[selected]

    def step(
        self, action: Float[np.ndarray, "task env act"], active: Bool[np.ndarray, "task env"] | None = None
    ) -> Step:
        """Advance every row, or only the active ones, by one control step.

        action: in [-1, 1], clipped; ValueError for a wrong shape or for a number that is not finite in an active row.
        Rows that are not active stay as they are and return reward 0. ValueError naming the family's function for what
        it may not return: another shape or type, or a number that is not finite at a finite state.
        """
        mask = None if active is None or active.all() else active.reshape(-1)
        act = self._clipped(action, mask)
        np.copyto(self._last_qpos, self.state.qpos)
        diverged = self._advance(act, mask)
        any_diverged = bool(diverged.any())
        if any_diverged:
            self._contain(np.flatnonzero(diverged))
        obs = checked.observation(self.family, self.state, self._goal)
        reward = checked.reward(self.family, self._last_qpos, self.state, act, self._goal)
        terminated = checked.done(self.family, self.state, self._goal)
        if any_diverged:
            obs[diverged] = self._last_obs[diverged]
            reward[diverged] = 0.0
            terminated[diverged] = True
        if mask is not None:
            obs[~mask] = self._last_obs[~mask]
            reward[~mask] = 0.0
            terminated[~mask] = False
        for method, values in (("observe", obs), ("reward", reward)):
            checked.require_finite(self.family, method, values, self.n_envs, self.first_task)
        self._last_obs[:] = obs
        shape = (self.n_tasks, self.n_envs)
        return Step(obs.reshape(*shape, -1), reward.reshape(shape), terminated.reshape(shape), diverged.reshape(shape))

    def _set_fields(self, rows: np.ndarray) -> None:
        """Give rows the model fields of their tasks, and the constants that follow from them."""
        if self._batch is None:
            raise ValueError(
                f"{self.family.name} moves without MuJoCo (kinematic), so `dynamics` cannot change its physics; read "
                "the goal elsewhere, or simulate"
            )
        fields = task_fields(self.family, self._goal[rows])
        for name in physical(fields):
            self._batch.expand(name)[rows] = fields[name]
        if derives_constants(fields):
            try:
                self._batch.set_const(rows)
            except mujoco.batch.SimulationError as error:
                task = self._goal[int(error.ids[0])].tolist()
                raise ValueError(f"{self.family.name}: MuJoCo refuses the model of task {task}: {error}") from error
        self._simulated_goal[rows] = self._goal[rows]

    def close(self) -> None:
        """Nothing to release; for use beside simulators that hold processes."""

    def _advance(self, act: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Move the rows; returns (row,) which of them diverged."""
        diverged = np.zeros(len(act), dtype=bool)
        if self._batch is None:
            if mask is None:
                checked.call(self.family, "advance", self.state.qpos, self.state.qvel, act)
            else:
                qpos, qvel = self.state.qpos[mask], self.state.qvel[mask]
                checked.call(self.family, "advance", qpos, qvel, act[mask])
                self.state.qpos[mask], self.state.qvel[mask] = qpos, qvel
        else:
            self._ctrl[:] = checked.controls(self.family, act)
            try:
                self._batch.step(mask, nstep=self.family.frame_skip, stage=int(self.family.stage))
            except mujoco.batch.SimulationError as error:
                diverged[error.ids] = True
            # Testing everything at once and looking for the row only then saves a tenth of this method's time.
            if self._batch.warning[:, :, _COUNT].any():
                diverged |= (self._batch.warning[:, _DIVERGED, _COUNT] > 0).any(axis=1)
        for values in (self.state.qpos, self.state.qvel):
            finite = np.isfinite(values)
            if not finite.all():
                diverged |= ~finite.all(axis=1)
        return diverged if mask is None else diverged & mask

    def _contain(self, rows: np.ndarray) -> None:
        """Count diverged rows and put them back to the model's defaults, so that nothing non-finite spreads."""
        self.n_diverged += len(rows)
        model = self.family.model
        self._put(np.tile(model.qpos0, (len(rows), 1)), np.zeros((len(rows), model.nv)), rows)

    def _clipped(self, action: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Actions (row, act) in [-1, 1], float64; rows outside the mask, whose actions nobody uses, are zero."""
        expected = (self.n_tasks, self.n_envs, self.family.spec.act_dim)
        if action.shape != expected:
            raise ValueError(f"actions have shape {action.shape}, expected (task, env, act) = {expected}")
        act = action.reshape(-1, expected[-1]).astype(np.float64)
        if mask is not None:
            act[~mask] = 0.0
        finite = np.isfinite(act)
        if not finite.all():
            bad = np.flatnonzero(~finite.all(axis=1))
            task, env = divmod(int(bad[0]), self.n_envs)
            raise ValueError(
                f"{len(bad)} of {len(act)} actions are not finite; the first is task {task}, environment {env}: "
                f"{act[bad[0]]}. Check the policy's output before stepping"
            )
        return np.clip(act, -1.0, 1.0, out=act)
