"""What every family must satisfy, checked on a user's class and said in words: `metarl check my_module:MyFamily`.

Each check is a function of the family that raises `Broken(problem, hint)`. Those of one stage are independent of each
other; a stage starts when the one before it is clean, since a wrong shape would only make the rest fail obscurely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checked_calls import place
from .family import Family
from .task_family import RowSimulator, TaskFamily
from .tasks import Tasks

N_TASKS, N_ENVS, N_STEPS = 3, 2, 8
ROWS = N_TASKS * N_ENVS


class Broken(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    problem: str = ""
    """Empty if there is none."""
    hint: str = ""


def check_family(family_class: type[TaskFamily]) -> list[Finding]:
    """Run every check that can be run, in order; nothing is raised for what the class does."""
    built: list[TaskFamily] = []
    first = _run("class", lambda: built.append(_build(family_class)))
    findings = [first]
    if first.problem:
        return findings
    family = built[0]
    stages = STAGES if isinstance(family, Family) else [[c for c in s if c not in MUJOCO_ONLY] for s in STAGES]
    for stage in stages:
        found = [_run(check.__name__.replace("_", " "), lambda check=check: check(family)) for check in stage]  # type: ignore[misc]
        findings += found
        if any(finding.problem for finding in found):
            break
    return findings


def _run(name: str, check: Callable[[], Any]) -> Finding:
    try:
        check()
    except Broken as broken:
        return Finding(name, broken.problem, broken.hint)
    except Exception as error:  # whatever the user's code raises
        return Finding(name, f"{place(error)}{type(error).__name__}: {error}", "correct the line named")
    return Finding(name)


def _build(family_class: type[TaskFamily]) -> TaskFamily:
    for attribute in ("name", "title"):
        if not isinstance(getattr(family_class, attribute, None), str):
            raise Broken(f"{attribute} is missing, or no text", f'set {attribute} = "..." in the class')
    family = family_class()
    if not hasattr(family, "tasks"):
        raise Broken("tasks is missing", 'set tasks = uniform_box([("name (unit)", low, high)]), for example')
    if not isinstance(getattr(family, "horizon", None), int) or family.horizon < 1:
        raise Broken("horizon is missing or not a positive whole number", "set horizon = 200, in control steps")
    if isinstance(family, Family):
        if not isinstance(getattr(family, "frame_skip", None), int) or family.frame_skip < 1:
            raise Broken("frame_skip is missing or not a positive whole number", "set frame_skip = 5, in MuJoCo steps")
        for method in ("model_spec", "reset", "observe", "reward"):
            if getattr(family_class, method) is getattr(Family, method):
                raise Broken(f"the method {method} is missing", f"define {method}; see docs/plug-in.md")
    return family


# -- tasks ------------------------------------------------------------------------------------------------------------


def sampled_tasks(family: TaskFamily) -> None:
    """Shape, type, finite, reproducible, accepted by the distribution itself."""
    names = family.tasks.names
    for split in ("train", "test", "all"):
        goal = family.tasks.sample(50, np.random.default_rng(0), split).goal
        if goal.shape != (50, len(names)):
            raise Broken(f"sampling 50 tasks gave goals of shape {goal.shape}, and names has {len(names)} entries",
                         "goals are (task, goal), with a name for each component")  # fmt: skip
        if goal.dtype != np.float64 or not np.isfinite(goal).all():
            raise Broken(f"goals are of type {goal.dtype}, or not finite", "return finite float64 numbers")
        again = family.tasks.sample(50, np.random.default_rng(0), split).goal
        if not np.array_equal(goal, again):
            raise Broken("the same generator gave other tasks", "draw from the rng argument only, never np.random")
        for row in goal[:10]:
            try:
                family.tasks.validate(row)
            except ValueError as error:
                raise Broken(f"a sampled goal is outside the distribution's own bounds: {error}",
                             "let `contains` accept what `to_goal` makes") from error  # fmt: skip
    if not isinstance(family.describe(goal[0]), str):
        raise Broken("describe did not return text", "return the goal in words")


def train_and_test_tasks(family: TaskFamily) -> None:
    """Disjoint, unless the family is a few named tasks."""
    train, test = (
        {tuple(g) for g in family.tasks.sample(300, np.random.default_rng(i), split).goal}  # type: ignore[arg-type]
        for i, split in enumerate(("train", "test"))
    )
    if train & test and train != test:
        raise Broken(f"{len(train & test)} sampled training tasks are test tasks too",
                     "use ContinuousTasks (uniform_box), or ChoiceTasks with held_out")  # fmt: skip


# -- the functions of a MuJoCo family ----------------------------------------------------------------------------------


def reset(family: Any) -> None:
    """Initial states: shapes, finite, from the generator alone."""
    model = family.model
    qpos, qvel = family.reset(np.random.default_rng(0))
    for name, value, size in (("qpos", qpos, model.nq), ("qvel", qvel, model.nv)):
        if np.shape(value) != (size,):
            raise Broken(f"reset returned {name} of shape {np.shape(value)}; the model has {size}",
                         f"return {name} as ({size},), as model.n{name[0]}{name[1]} says")  # fmt: skip
        if not np.isfinite(value).all():
            raise Broken(f"reset returned a {name} that is not finite", "return finite numbers")
    again = family.reset(np.random.default_rng(0))
    if not (np.array_equal(qpos, again[0]) and np.array_equal(qvel, again[1])):
        raise Broken("the same generator gave another initial state", "draw from the rng argument only")


def observe_reward_done(family: Any) -> None:
    """Shapes and types of what the functions return for several rows, and that they change and share nothing."""
    simulator, tasks = _started(family)
    goal = np.repeat(tasks.goal, N_ENVS, axis=0)
    state: Any = simulator.state  # type: ignore[attr-defined]  # of a MuJoCo family's simulator
    action, before = np.full((ROWS, family.spec.act_dim), 0.3), state.qpos.copy()
    inputs = {"qpos": state.qpos.copy(), "qvel": state.qvel.copy(), "action": action.copy(), "goal": goal.copy()}
    obs, reward = family.observe(state), family.reward(before, state, action, goal)
    done = family.done(state, goal)
    _array("observe", obs, (ROWS, len(obs[0]) if np.ndim(obs) == 2 else -1), "fi", "concatenate along axis=1")
    _array("reward", reward, (ROWS,), "f", "sum over axis=1, and take goal[:, 0] rather than goal[:, :1]")
    _array("done", done, (ROWS,), "b", "return a comparison of each row, such as state.qpos[:, 2] < 0.2")
    after = {"qpos": state.qpos, "qvel": state.qvel, "action": action, "goal": goal}
    for name, value in after.items():
        if not np.array_equal(value, inputs[name]):
            raise Broken(f"observe, reward or done wrote to {name}", "work on a copy")
    if any(np.shares_memory(obs, values) for values in (state.qpos, state.qvel)):
        raise Broken("observe returned a view of the state, which the next step changes", "return state.qpos.copy()")


def _array(where: str, value: Any, shape: tuple[int, ...], kinds: str, hint: str) -> None:
    words = {"fi": "numbers", "f": "floats", "b": "bool"}[kinds]
    got = np.asarray(value)
    if got.shape != shape:
        wanted = str(shape) if -1 not in shape else f"({shape[0]}, observation)"
        raise Broken(f"{where} returned shape {got.shape} for {ROWS} rows; expected {wanted}", hint)
    if got.dtype.kind not in kinds:
        raise Broken(f"{where} returned {got.dtype}; expected {words}", hint)
    if not np.isfinite(got).all():
        raise Broken(f"{where} returned a number that is not finite", "look for a division by zero, log or sqrt")


# -- rollouts ----------------------------------------------------------------------------------------------------------


def same_seed_same_rollout(family: TaskFamily) -> None:
    """Twice the same bits."""
    if not _same(_rollout(family), _rollout(family)):
        raise Broken("two rollouts with the same seeds and actions differ",
                     "keep no state in the family between calls, and draw from the rng argument only")  # fmt: skip


def finite_rollout(family: TaskFamily) -> None:
    """No NaN, and no simulation that diverges, under random actions."""
    simulator, _ = _started(family)
    try:
        steps = [simulator.step(action) for action in _actions(family)]
        if not all(np.isfinite(step.obs).all() and np.isfinite(step.reward).all() for step in steps):
            raise Broken("an observation or reward is not finite", "look for a division by zero, log or sqrt")
        if simulator.n_diverged:
            raise Broken(f"{simulator.n_diverged} simulations diverged within {N_STEPS} random steps",
                         "a smaller timestep, weaker motors (gear) or more damping")  # fmt: skip
    finally:
        simulator.close()


def rows_are_independent(family: TaskFamily) -> None:
    """A row's results do not change with its neighbours' actions and tasks."""
    other = _actions(family)
    other[:, 1:] *= -0.5
    one, two = _rollout(family), _rollout(family, other)
    if not _same([values[:1] for values in one], [values[:1] for values in two]):
        raise Broken("the first task's rows changed when other tasks' actions did",
                     "compute each row from itself: no mean or maximum over axis 0")  # fmt: skip


def single_equals_batch(family: TaskFamily) -> None:
    """One row simulated alone gives the bits it has in the batch: reward, end and observation."""
    batch = _rollout(family)
    tasks = _tasks(family)
    simulator = family.simulator(1, N_ENVS)
    try:
        obs = [simulator.reset(tasks[1], [np.random.default_rng(1)])]
        steps = [simulator.step(action[1:2]) for action in _actions(family)]
    finally:
        simulator.close()
    alone = [
        np.stack([*obs, *[s.obs for s in steps]], axis=1),
        np.stack([s.reward for s in steps], axis=1),
        np.stack([s.terminated for s in steps], axis=1),
    ]
    for name, one, all_rows in zip(("observation", "reward", "end"), alone, batch, strict=True):
        if not np.array_equal(one, all_rows[1:2]):
            raise Broken(f"the {name} of a task alone differs from the same task's in a batch",
                         "index rows with [:, ...], and do not assume a number of rows")  # fmt: skip


def goal_is_hidden(family: TaskFamily) -> None:
    """The first observation is the same whatever the task: a policy that sees the goal need not adapt."""
    tasks, other = _tasks(family), family.tasks.sample(N_TASKS, np.random.default_rng(99))
    if not np.array_equal(_first_obs(family, tasks), _first_obs(family, other)):
        raise Broken("the first observation depends on the task, so the policy need not find it out",
                     "leave the goal out of the observation; oracle=True appends it where that is wanted")  # fmt: skip


def task_matters(family: TaskFamily) -> None:
    """Rewards or motion differ between tasks; nothing can be said if no reward came up in so few steps."""
    tasks = _tasks(family)
    if not len(np.unique(tasks.goal, axis=0)) > 1:
        return
    one, other = _rollout(family), _rollout(family, tasks=tasks[[1, 2, 0]])
    if (one[1] == one[1].flat[0]).all():
        return
    differ = (tasks.goal != tasks.goal[[1, 2, 0]]).any(axis=1)
    if _same([v[differ] for v in one], [v[differ] for v in other]):
        raise Broken("neither reward nor motion depends on the task: there is nothing to adapt to",
                     "use the goal in reward, done or dynamics")  # fmt: skip


def _tasks(family: TaskFamily) -> Tasks:
    return family.tasks.sample(N_TASKS, np.random.default_rng(7))


def _actions(family: TaskFamily) -> np.ndarray:
    return np.random.default_rng(11).uniform(-1, 1, (N_STEPS, N_TASKS, N_ENVS, family.spec.act_dim))


def _started(family: TaskFamily) -> tuple[RowSimulator, Tasks]:
    simulator, tasks = family.simulator(N_TASKS, N_ENVS), _tasks(family)
    simulator.reset(tasks, [np.random.default_rng(i) for i in range(N_TASKS)])
    return simulator, tasks


def _rollout(family: TaskFamily, actions: np.ndarray | None = None, tasks: Tasks | None = None) -> list[np.ndarray]:
    """Observations, rewards and ends, (task, time, env, ...)."""
    simulator = family.simulator(N_TASKS, N_ENVS)
    try:
        obs = [simulator.reset(tasks or _tasks(family), [np.random.default_rng(i) for i in range(N_TASKS)])]
        steps = [simulator.step(action) for action in (_actions(family) if actions is None else actions)]
    finally:
        simulator.close()
    return [
        np.stack([*obs, *[s.obs for s in steps]], axis=1),
        np.stack([s.reward for s in steps], axis=1),
        np.stack([s.terminated for s in steps], axis=1),
    ]


def _first_obs(family: TaskFamily, tasks: Tasks) -> np.ndarray:
    simulator = family.simulator(N_TASKS, N_ENVS)
    try:
        return simulator.reset(tasks, [np.random.default_rng(i) for i in range(N_TASKS)])
    finally:
        simulator.close()


def _same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


MUJOCO_ONLY = (reset, observe_reward_done)
STAGES: list[list[Callable[[Any], None]]] = [
    [sampled_tasks, train_and_test_tasks, reset],
    [observe_reward_done],
    [finite_rollout],
    [same_seed_same_rollout, rows_are_independent, single_equals_batch, goal_is_hidden, task_matters],
]
