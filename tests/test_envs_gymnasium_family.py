"""Families of Gymnasium environments in worker processes: the same bits as a plain loop, and no hang when one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium_families import DirectionFamily, GoalFamily, Line, LineFamily, OwnTasksFamily, trouble
from small_runs import call

from metarl.config import PolicyConfig
from metarl.envs import GymnasiumFamily, MetaEnv, RowSimulator, Tasks, import_family
from metarl.envs.own_tasks import tasks_of
from metarl.rollout import Collector
from metarl.seeding import Purpose, seed_for
from metarl.workers import Workers

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "heavy_pendulum.py"
SMALL = ("--meta-batch", "2", "--trajectories", "2", "--env.horizon", "8", "--quiet")


@pytest.fixture(autouse=True)
def no_process_stays(nothing_stays: None) -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def rngs(n: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


def rollout(family: GymnasiumFamily, tasks: Tasks, actions: np.ndarray, n_workers: int) -> dict[str, np.ndarray]:
    simulator = family.simulator(len(tasks), actions.shape[2], n_workers)
    assert isinstance(simulator, RowSimulator)
    obs = [simulator.reset(tasks, rngs(len(tasks)))]
    steps = [simulator.step(action) for action in actions]
    simulator.close()
    return {
        "obs": np.stack(obs + [step.obs for step in steps]),
        "reward": np.stack([step.reward for step in steps]),
        "terminated": np.stack([step.terminated for step in steps]),
    }


@pytest.mark.parametrize("which", ["HeavyPendulum", "PendulumGravity"])
def test_rows_are_bit_for_bit_a_plain_gymnasium_loop(which: str) -> None:
    family = import_family(f"{EXAMPLE}:{which}")()
    tasks = family.tasks.sample(3, np.random.default_rng(0))
    actions = np.random.default_rng(1).uniform(-1.3, 1.3, (15, 3, 2, 1))
    rows = rollout(family, tasks, actions, 2)
    for task in range(3):
        rng = rngs(3)[task]
        for i in range(2):
            env = gymnasium.make("Pendulum-v1")
            if which == "HeavyPendulum":
                env.unwrapped.m, env.unwrapped.l = tasks.goal[task].tolist()
            else:
                env.unwrapped.g = float(tasks.goal[task, 0])
            obs, _ = env.reset(seed=int(rng.integers(2**31)))
            np.testing.assert_array_equal(rows["obs"][0, task, i], obs)
            for t, action in enumerate(np.clip(actions[:, task, i], -1, 1)):
                obs, reward, _, _, _ = env.step((2.0 * action).astype(np.float32))
                np.testing.assert_array_equal(rows["obs"][t + 1, task, i], obs)
                assert rows["reward"][t, task, i] == reward


def test_sizes_come_from_the_environment() -> None:
    family = import_family(f"{EXAMPLE}:PendulumGravity")()
    assert (family.spec.obs_dim, family.spec.act_dim, family.spec.goal_dim, family.spec.horizon) == (3, 1, 1, 200)
    assert family.spec.control_dt_s == 0.05
    assert GoalFamily().spec.obs_dim == 2
    assert LineFamily(oracle=True).spec.obs_dim == 3


def test_workers_change_nothing_and_goals_reach_the_right_rows() -> None:
    tasks = Tasks(np.array([[-1.0], [0.0], [1.0]]))
    actions = np.random.default_rng(1).uniform(-1, 1, (6, 3, 2, 1))
    one = rollout(LineFamily(), tasks, actions, 1)
    for family, n_workers in ((LineFamily(), 4), (GoalFamily(), 2)):
        other = rollout(family, tasks, actions, n_workers)
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    expected = -np.abs(one["obs"][1:, ..., 0] - tasks.goal[None])
    np.testing.assert_allclose(one["reward"], expected, atol=1e-6)
    oracle = rollout(LineFamily(oracle=True), tasks, actions, 1)
    np.testing.assert_array_equal(oracle["obs"][..., :2], one["obs"])
    np.testing.assert_array_equal(oracle["obs"][..., 2], np.broadcast_to(tasks.goal, (7, 3, 2)))


def test_episodes_end_and_inactive_rows_stand_still() -> None:
    family = LineFamily()
    simulator = family.simulator(1, 2)
    with pytest.raises(RuntimeError, match="call reset"):
        simulator.step(np.zeros((1, 2, 1)))
    simulator.reset(Tasks(np.zeros((1, 1))), rngs(1))
    action = np.array([[[1.0], [0.0]]])
    ends = []
    active = np.ones((1, 2), dtype=bool)
    for _ in range(20):
        step = simulator.step(np.where(active[..., None], action, np.nan), active)
        ends.append(step.terminated[0].tolist())
        active &= ~step.terminated
    assert [end[0] for end in ends].index(True) in (6, 7, 8)  # 1.5 m at 0.2 m a step
    assert sum(end[0] for end in ends) == 1
    assert [end[1] for end in ends] == [False] * 19 + [True]  # its own time limit
    with pytest.raises(ValueError, match="not finite"):
        simulator.step(np.full((1, 2, 1), np.nan))
    with pytest.raises(ValueError, match=r"actions have shape \(1, 2, 2\)"):
        simulator.step(np.zeros((1, 2, 2)))
    simulator.close()
    simulator.close()


# -- tasks that the environment samples -------------------------------------------------------------------------------


def test_own_tasks_are_vectors_by_name_split_and_reproducible() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    family, again = OwnTasksFamily(), OwnTasksFamily()
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert family.tasks.names == ("goal 0", "goal 1", "speed")
    np.testing.assert_array_equal(family.tasks.train, again.tasks.train)
    assert (len(family.tasks.train), len(family.tasks.test)) == (800, 200)
    train, test = ({tuple(g) for g in part} for part in (family.tasks.train, family.tasks.test))
    assert not train & test
    goal = family.tasks.sample(1, np.random.default_rng(0), "test").goal[0]
    assert tuple(goal) in test
    own = family.tasks.of_goal(goal)
    np.testing.assert_array_equal(own["goal"], goal[:2])
    assert own["speed"] == goal[2]
    np.testing.assert_array_equal(family.tasks.parse("0.1, -0.2, 0.5").goal, [[0.1, -0.2, 0.5]])
    with pytest.raises(ValueError, match="outside what the environment samples"):
        family.tasks.parse("0.1, -0.2, 5")


def test_own_tasks_reach_the_environment() -> None:
    family = OwnTasksFamily()
    tasks = family.tasks.sample(2, np.random.default_rng(0))
    rows = rollout(family, tasks, np.zeros((2, 2, 1, 1)), 1)
    goal = tasks.goal[:, :2].sum(axis=1) * tasks.goal[:, 2]
    np.testing.assert_allclose(rows["reward"][0, :, 0], -np.abs(rows["obs"][1, :, 0, 0] - goal), atol=1e-6)


def test_two_tasks_are_not_held_out() -> None:
    tasks = DirectionFamily().tasks
    for split in ("train", "test", "all"):
        assert sorted(tasks.sample(4, np.random.default_rng(0), split).goal[:, 0]) == [-1, -1, 1, 1]


class Words(Line):
    def sample_tasks(self, n: int) -> list[str]:
        return ["left", "right"] * n

    def set_task(self, task: str) -> None:
        pass


def test_tasks_that_are_not_numbers_are_explained() -> None:
    with pytest.raises(ValueError, match="tasks such as 'left'; each must be a number"):
        tasks_of(Words(), "Words")


# -- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("killed", r"test-trouble: the worker process of task 1 was killed by signal 9; its memory may have run out"),
        ("exits", r"the worker process of task 1 ended with exit code 3; .*importable"),
        ("raises", r"test-trouble: step of the environment raised RuntimeError: the robot fell over"),
        ("shape", r"step of the environment raised ValueError: the observation has shape \(3,\), and \(2,\) at first"),
    ],
)
def test_a_worker_in_trouble_is_a_clear_error_and_not_a_hang(what: str, said: str) -> None:
    family = trouble(what)
    simulator = family.simulator(2, 1, 2)
    bad, good = Tasks(np.array([[0.0], [0.9]])), Tasks(np.array([[0.0], [0.1]]))
    simulator.reset(bad, rngs(2))
    for _ in range(4):
        simulator.step(np.zeros((2, 1, 1)))
    start = time.monotonic()
    with pytest.raises(ChildProcessError, match=said) as error:
        simulator.step(np.zeros((2, 1, 1)))
    assert time.monotonic() - start < 10
    if what == "raises":
        assert "gymnasium_families.py" in error.value.__notes__[0]
    assert multiprocessing.active_children() == []
    simulator.reset(good, rngs(2))  # new processes
    for _ in range(6):
        simulator.step(np.zeros((2, 1, 1)))
    simulator.close()


def test_an_observation_that_is_not_finite_ends_its_episode() -> None:
    simulator = trouble("nan").simulator(2, 1, 1)
    simulator.reset(Tasks(np.array([[0.0], [0.9]])), rngs(2))
    steps = [simulator.step(np.zeros((2, 1, 1))) for _ in range(5)]
    assert steps[4].diverged[:, 0].tolist() == steps[4].terminated[:, 0].tolist() == [False, True]
    assert steps[4].reward[1, 0] == 0
    np.testing.assert_array_equal(steps[4].obs[1], steps[3].obs[1])
    assert simulator.n_diverged == 1
    simulator.close()


class NoTasks(GymnasiumFamily):
    name, title, horizon = "test-no-tasks", "", 5

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return Line()


class NoLimit(LineFamily):
    horizon = 0


class Discrete(LineFamily):
    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        env = Line()
        env.action_space = spaces.Discrete(3)
        return env


class Unbounded(LineFamily):
    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        env = Line()
        env.action_space = spaces.Box(-np.inf, np.inf, (1,))
        return env


class NotAnEnv(LineFamily):
    horizon = 0

    def make_env(self, task: np.ndarray) -> gymnasium.Env:
        return 3  # type: ignore[return-value]


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (NoTasks, "NoTasks has no tasks: set `tasks`"),
        (NoLimit, "NoLimit: its environment has no time limit; set the class's horizon"),
        (lambda: Discrete().spec, r"the action space is Discrete\(3\); policies are Gaussian"),
        (lambda: Unbounded().spec, "has infinite bounds, and actions are scaled to them"),
        (NotAnEnv, "make_env returned int, not a gymnasium.Env"),
        (lambda: LineFamily("finn2017"), "test-line has no protocol 'finn2017'"),
    ],
)
def test_a_wrong_family_is_explained(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_family_that_cannot_be_sent_is_explained() -> None:
    class Local(LineFamily):
        pass

    with pytest.raises(
        ValueError, match=r"Local cannot be sent to another process .*; define it at the top of a module"
    ):
        Local().simulator(1, 1).reset(Tasks(np.zeros((1, 1))), rngs(1))


UNGUARDED = """
import numpy as np
from gymnasium_families import Line
from metarl.envs import GymnasiumFamily, Tasks, uniform_box

class Mine(GymnasiumFamily):
    name, title, horizon = "mine", "mine", 5
    tasks = uniform_box([("goal", 0.0, 1.0)])
    def make_env(self, task):
        return Line()

try:
    Mine().simulator(1, 1).reset(Tasks(np.zeros((1, 1))), [np.random.default_rng(0)])
except ChildProcessError as error:
    print(error)
"""


def script(folder: Path, text: str) -> tuple[list[str], dict[str, str]]:
    (folder / "script.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    return [sys.executable, str(folder / "script.py")], env


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    command, env = script(tmp_path, UNGUARDED)
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "the worker process of task 0 ended with exit code 1" in result.stdout
    assert "must have its main part behind if __name__ == '__main__'" in result.stdout


WAITING = """
import numpy as np
from gymnasium_families import trouble
from metarl.envs import Tasks

if __name__ == "__main__":
    simulator = trouble("slow").simulator(2, 1, 2)
    simulator.reset(Tasks(np.array([[0.9], [0.9]])), [np.random.default_rng(i) for i in range(2)])
    print(*(worker.process.pid for worker in simulator._workers), flush=True)
    try:
        while True:
            simulator.step(np.zeros((2, 1, 1)))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def all_gone(pids: list[int]) -> bool:
    """Whether processes end within a minute; multiprocessing's resource tracker outlives its parent by a moment."""
    deadline = time.monotonic() + 60
    while not all(map(gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return all(map(gone, pids))


TRAINING = """
import sys
from metarl.cli import main

if __name__ == "__main__":
    options = ["--meta-batch", "2", "--trajectories", "1", "--threads", "2", "--out", sys.path[0] + "/run", "--quiet"]
    sys.exit(main(["train", "gymnasium_families:SlowFamily", *options]))
"""


@pytest.mark.parametrize(
    ("text", "code", "said"), [(WAITING, 0, ""), (TRAINING, 130, "metarl: interrupted; go on with 'metarl train")]
)
def test_ctrl_c_leaves_no_process(text: str, code: int, said: str, tmp_path: Path) -> None:
    """It goes to the whole group, workers included, while they are busy in a step of a minute."""
    command, env = script(tmp_path, text)
    mark = tmp_path / "busy"
    process = subprocess.Popen(
        command,
        env={**env, "METARL_TEST_MARK": str(mark)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    workers = [int(pid) for thread in threads for pid in (thread / "children").read_text().split()]
    assert len(workers) >= 2
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err
    assert err.startswith(said)
    assert err.count("\n") == bool(said)
    assert all_gone(workers)


def test_workers_of_a_killed_parent_end(tmp_path: Path) -> None:
    command, env = script(tmp_path, WAITING.replace('trouble("slow")', 'trouble("none")').replace("0.9", "0.1"))
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    assert all_gone(pids)


# -- training ---------------------------------------------------------------------------------------------------------


def test_maml_trpo_trains_on_it_and_the_number_of_processes_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = f"{EXAMPLE}:HeavyPendulum"
    for run, threads in (("one", 1), ("two", 2)):
        command = ("train", env, *SMALL, "--iterations", "2", "--threads", threads, "--out", tmp_path / run)
        assert call(capsys, *command)[0] == 0
    weights = [(tmp_path / run / "policy" / "model.safetensors").read_bytes() for run in ("one", "two")]
    assert weights[0] == weights[1]
    again = ("--import", env)
    assert call(capsys, "evaluate", tmp_path / "one", "--tasks", 2, "--steps", 1, *again)[0] == 0
    assert "heavy-pendulum" in call(capsys, "list", *again)[1]


def test_a_dying_worker_ends_the_collection() -> None:
    family = trouble("killed")
    with closing(Workers(2)) as workers:
        policy = PolicyConfig(hidden_sizes=(4,)).make(family)
        collector = Collector(family, policy, 2, 1, workers)
        params = policy.init(torch.Generator().manual_seed(0)).expand(2, -1)
        with pytest.raises(ChildProcessError, match="killed by signal 9"):
            collector.collect(params, Tasks(np.array([[0.1], [0.9]])), seed_for(0, Purpose.SUPPORT, 0))
        collector.close()


def test_it_is_no_gymnasium_environment_of_ours() -> None:
    import_family(f"{EXAMPLE}:HeavyPendulum")
    with pytest.raises(ValueError, match="has no MuJoCo model of ours"):
        MetaEnv("heavy-pendulum")
