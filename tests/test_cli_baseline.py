"""`metarl baseline` and `metarl evaluate --baselines`: the oracle and the pretrained policy, end to end and small."""

from __future__ import annotations

import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import call, fails, start_process, train_small

from metarl import load_policy
from metarl.algorithms.maml_trpo import MAMLTRPO, MetaParams
from metarl.baselines import KINDS, BaselineConfig, BaselineKind, PPOConfig, load_baselines
from metarl.cli import main
from metarl.commands.loading import load_run
from metarl.config import EnvConfig
from metarl.envs import MetaSB3VecEnv
from metarl.evaluate import GENTLER, adaptation_score, contenders, evaluate
from metarl.policies.sb3 import gaussian_mlp_from_sb3
from metarl.ppo_training import CurvePoint, make_ppo, restore, resumable, train_baseline
from metarl.presets import preset
from metarl.results import result_record
from metarl.run_tables import results_table
from metarl.runs import read_json, write_atomic
from metarl.workers import Workers

TINY = (
    *("--ppo.envs", "4", "--ppo.epochs", "2", "--ppo.minibatches", "3", "--env.horizon", "5"),
    *("--ppo.hidden-sizes", "8", "--ppo.value-hidden-sizes", "6", "--steps", "50", "--threads", "1"),
)
TINY_PPO = PPOConfig(envs=4, epochs=2, minibatches=3, hidden_sizes=(8,), value_hidden_sizes=(6,))


def baseline(kind: str, out: Path, env: str = "point-nav", *options: object) -> Path:
    """A baseline of three updates."""
    assert main([str(a) for a in ("baseline", kind, env, *TINY, "--quiet", "--out", out, *options)]) == 0
    return out


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both baselines of point-nav, and a run beside them."""
    parent = tmp_path_factory.mktemp("points")
    for kind in KINDS:
        baseline(kind, parent / f"point-nav-modern-{kind}")
    train_small(parent / "run")
    return parent


def test_the_folder_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "baseline", "oracle", "half-cheetah-vel", *TINY, "--out", tmp_path, "--seed", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"half-cheetah-vel (modern), oracle: 50 steps, 4 episodes an update -> {tmp_path}"
    assert "60/50" in lines[-2]
    assert lines[-1] == f"done: {tmp_path}"
    record = json.loads((tmp_path / "baseline.json").read_text(), parse_constant=pytest.fail)
    assert (record["kind"], record["seed"], record["finished"]) == ("oracle", 3, True)
    assert record["env_steps"] == 60
    assert record["command"].startswith("metarl baseline oracle half-cheetah-vel --ppo.envs 4")
    assert record["config"]["env"] == {"name": "half-cheetah-vel", "protocol": "modern", "oracle": True, "horizon": 5}
    assert "stable-baselines3" in record["versions"]
    assert [point["env_steps"] for point in record["curve"]] == [20, 40, 60]
    assert all(point["episode_length"] == 5 and point["mean_return"] < 0 for point in record["curve"])
    assert record["wall_s"] >= record["curve"][-1]["wall_s"] > record["curve"][0]["wall_s"] > 0
    policy = load_policy(tmp_path)
    env = policy.make_env()
    obs, info = env.reset(seed=0)
    np.testing.assert_array_equal(obs[-1:], info["task"])
    assert policy.act(obs).shape == (6,)


@pytest.mark.parametrize(("kind", "extra"), [("oracle", 2), ("pretrained", 0)])
def test_the_policy_is_the_one_that_sb3_trained(points: Path, kind: BaselineKind, extra: int) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecNormalize

    folder = points / f"point-nav-modern-{kind}"
    env = MetaSB3VecEnv("point-nav", 1, oracle=kind == "oracle")
    scaling = VecNormalize.load(str(folder / "vec_normalize.pkl"), env)
    model = PPO.load(folder / "sb3_model.zip", device="cpu")
    policy = load_policy(folder)
    assert policy.network.obs_dim == 2 + extra
    obs = np.random.default_rng(0).uniform(-3, 3, (200, 2 + extra))
    expected, _ = model.predict(scaling.normalize_obs(obs), deterministic=True)
    np.testing.assert_allclose(policy.act(obs), expected, rtol=0, atol=1e-6)
    assert torch.equal(policy.network.layout.unflatten(policy.theta)["log_std"], model.policy.log_std.detach())


@pytest.mark.parametrize("kind", KINDS)
def test_an_oracle_sees_the_goal_and_a_pretrained_policy_does_not(kind: BaselineKind) -> None:
    n = 20
    env_config = EnvConfig("half-cheetah-vel", oracle=kind == "oracle", horizon=3)
    model, env = make_ppo(BaselineConfig(kind, env_config, PPOConfig(envs=n)), n_threads=1)
    model.get_env().reset()
    goals = []
    for _ in range(2):  # episodes
        goals.append(np.stack(env.get_attr("task")))
        for _ in range(2):
            env.step(np.zeros((n, 6), dtype=np.float32))
            raw = env.get_original_obs()
            if kind == "oracle":
                np.testing.assert_array_equal(raw[:, 17:], goals[-1])
            else:
                assert raw.shape == (n, 17)
        assert env.step(np.zeros((n, 6), dtype=np.float32))[2].all()
    assert len(np.unique(goals)) == 2 * n  # every episode has a task of its own
    env.close()


def test_the_seed_decides_and_threads_do_not(tmp_path: Path) -> None:
    def weights(name: str, *options: object) -> bytes:
        return (baseline("oracle", tmp_path / name, "ant-vel", *options) / "model.safetensors").read_bytes()

    one = weights("one")
    assert weights("two", "--threads", "2") == one
    assert weights("three", "--seed", "1") != one


@pytest.mark.usefixtures("no_type_checks")
def test_an_oracle_learns_where_the_goal_is_all(tmp_path: Path) -> None:
    """Point-nav with the goal in view: from a random walk to at least halfway there in a few seconds."""
    options = ("--steps", "60000", "--env.horizon", "20", "--ppo.envs", "40", "--ppo.hidden-sizes", "32")
    record = read_json(baseline("oracle", tmp_path, "point-nav", *options) / "baseline.json")
    returns = [point["mean_return"] for point in record["curve"]]
    assert np.mean(returns[-3:]) > 0.6 * np.mean(returns[:3])


def test_evaluate_compares_on_the_same_tasks(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", points / "run", "--tasks", "6", "--steps", "2", "--out", tmp_path / "with"]
    code, out, err = call(capsys, *argv, "--baselines", points, "--json")
    assert (code, err) == (0, "")
    result = json.loads(out, parse_constant=pytest.fail)
    code, out, err = call(capsys, *argv[:-1], tmp_path / "without", "--json")
    without = json.loads(out)
    for name in ("meta-trained", "random initialisation", "goals"):
        assert result[name] == without[name]
    assert not {"score", "baselines", "pretrained", "oracle"} & set(without)
    assert np.shape(result["pretrained"]["returns"]) == (3, 6)
    assert np.shape(result["oracle"]["returns"]) == (1, 6)
    random, oracle = result["random initialisation"]["mean"], result["oracle"]["mean"][0]
    assert result["baselines"] == {"random": random, "pretrained": result["pretrained"]["mean"], "oracle": oracle}
    if oracle > random[0]:
        expected = (np.array(result["meta-trained"]["mean"]) - random[0]) / (oracle - random[0])
        np.testing.assert_allclose(result["score"], expected)
    else:
        assert result["score"] == [None] * 3
    made = result["baselines_made"]["oracle"]
    assert made["path"] == str(points / "point-nav-modern-oracle")
    assert (made["env_steps"], made["seed"], made["finished"]) == (60, 0, True)


def test_all_are_adapted_with_the_same_step_size(points: Path) -> None:
    run = load_run(points / "run")
    baselines = load_baselines(run.config.env, points)
    theta = run.state.meta.theta
    learned = MetaParams(theta, torch.linspace(0.0, 0.2, len(theta)))  # Meta-SGD: one of each parameter
    for meta, expected in ((MetaParams(theta, torch.tensor(0.3)), 0.3), (learned, 0.1)):
        listed = contenders(run.config.algo, run.family, run.policy, meta, 3, 0, baselines)
        assert [c.n_steps for c in listed] == [3, 3, 3, 3, 0]
        found = {c.name: c for c in reversed(listed)}  # the first of the two pretrained ones
        assert torch.equal(found["random initialisation"].meta.step_size, meta.step_size)
        assert float(found["pretrained"].meta.step_size) == pytest.approx(expected)
        assert found["oracle"].family.oracle
        assert not found["pretrained"].family.oracle


def test_beside_a_context_baselines_are_adapted_as_the_default_preset_adapts(points: Path) -> None:
    run = load_run(points / "run")
    baselines = load_baselines(run.config.env, points)
    plain = run.policy
    policy = replace(plain, context_dim=2, context_scale=27.0, guess_std=1.0)
    meta = MetaParams(policy.init(torch.Generator().manual_seed(0)), torch.tensor(0.005))
    own, usual = MAMLTRPO(inner_lr=0.005, later_lr_ratio=0.1), preset("point-nav").algo
    listed = contenders(own, run.family, policy, meta, 3, 0, baselines, usual)
    # The pretrained policy is also adapted as the run is, in case this suits it better.
    twice = [c for c in listed if c.name == "pretrained"]
    assert [(c.algo, float(c.meta.step_size)) for c in twice] == [(usual, 0.5), (own, pytest.approx(0.005))]
    found = {c.name: c for c in reversed(listed)}
    assert (found["meta-trained"].algo, found["meta-trained"].policy) == (own, policy)
    alike = {c.name: c for c in contenders(usual, run.family, plain, run.state.meta, 3, 0, None)}
    for name in ("random initialisation", "pretrained"):
        assert found[name].algo == usual
        assert float(found[name].meta.step_size) == usual.inner_lr == 0.5
    # The same start as that of a run without a context.
    assert found["random initialisation"].policy == plain
    assert torch.equal(found["random initialisation"].meta.theta, alike["random initialisation"].meta.theta)


def test_a_pretrained_policy_is_adapted_in_the_way_that_suits_it(points: Path) -> None:
    run = load_run(points / "run")
    baselines = load_baselines(run.config.env, points)
    small, large = MAMLTRPO(inner_lr=0.001), MAMLTRPO(inner_lr=100.0)  # one that hardly moves and one that breaks
    returns = []
    for own, usual in ((small, large), (large, small)):
        meta = MetaParams(run.state.meta.theta, torch.tensor(own.inner_lr))
        workers = Workers(1)
        result = evaluate(
            *(own, run.family, run.policy, meta),
            n_tasks=4,
            n_steps=1,
            trajectories=4,
            seed=0,
            workers=workers,
            baselines=baselines,
            baseline_algo=usual,
        )
        workers.close()
        returns.append(result["pretrained"]["mean"])
        assert result["pretrained"]["inner_lr"] in (pytest.approx(0.001), pytest.approx(100.0))
        assert result["random initialisation"]["inner_lr"] == pytest.approx(usual.inner_lr)
    assert returns[0] == returns[1], "whichever is the run's"


def test_a_pretrained_policy_may_take_smaller_steps(points: Path) -> None:
    run = load_run(points / "run")
    baselines = load_baselines(run.config.env, points)
    own = float(run.state.meta.step_size)
    both = contenders(run.config.algo, run.family, run.policy, run.state.meta, 1, 0, baselines)
    assert [float(c.meta.step_size) for c in both if c.name == "pretrained"] == pytest.approx([own, GENTLER * own])
    found = {}
    for lr in (100.0, 0.001):  # one that breaks, and one of which a fifth does less
        meta = MetaParams(run.state.meta.theta, torch.tensor(lr))
        workers = Workers(1)
        arguments = (MAMLTRPO(inner_lr=lr), run.family, run.policy, meta)
        found[lr] = evaluate(
            *arguments, n_tasks=4, n_steps=1, trajectories=4, seed=0, workers=workers, baselines=baselines
        )["pretrained"]
        workers.close()
        assert found[lr]["inner_lr"] in (pytest.approx(lr), pytest.approx(GENTLER * lr))
    assert found[100.0]["mean"][0] == found[0.001]["mean"][0]


def test_the_table_has_the_baselines(points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["evaluate", points / "run", "--tasks", "3", "--steps", "1", "--out", tmp_path, f"--baselines={points}"]
    code, out, err = call(capsys, *argv)
    assert (code, err) == (0, "")
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    result = read_json(tmp_path / "evaluation.json")
    assert f"{result['pretrained']['mean'][1]:.1f} +- " in rows["pretrained"]
    assert f"{result['oracle']['mean'][0]:.1f} +- " in rows["oracle"]
    assert "score" in rows
    assert "pretrained: scored after 1 gradient step(s)" in out
    assert (tmp_path / "evaluation.png").exists()


def test_a_record_carries_the_comparison(points: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = points / "run"
    assert call(capsys, "evaluate", run, "--tasks", "3")[0] == 0
    old = result_record(run)
    assert set(old["baselines"]) == {"random", "random_ci95"}
    assert "score" not in old
    assert call(capsys, "evaluate", run, "--tasks", "3", "--baselines", points)[0] == 0
    new = result_record(run)
    evaluation = read_json(run / "evaluation.json")
    assert new["score"] == evaluation["score"]
    assert new["baselines"]["oracle"] == evaluation["oracle"]["mean"][0]
    assert new["baselines"]["random"] == old["baselines"]["random"]
    assert len(new["baselines"]["pretrained"]) == len(new["baselines"]["pretrained_ci95"]) == 4
    header, _, first, second = results_table([old, {**new, "score": [0.0, 0.5, 0.6, 0.7]}]).splitlines()[:4]
    assert len({row.count("|") for row in (header, first, second)}) == 1
    assert "| 0.50 |" in second
    assert f"| {new['baselines']['oracle']:.1f} | 0.50 |" in second
    assert "|  |  |" in first


def test_the_score() -> None:
    assert adaptation_score([-10.0, 20.0, 50.0], random=-10.0, oracle=50.0) == [0.0, 0.5, 1.0]
    assert np.isnan(adaptation_score([1.0, 2.0], random=3.0, oracle=3.0)).all()
    assert np.isnan(adaptation_score([1.0], random=3.0, oracle=2.0)).all()


def test_without_a_folder_it_looks_in_the_usual_place(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = points / "run"
    error = fails(capsys, "evaluate", run, "--baselines", "--tasks", "2", "--out", tmp_path)
    assert "runs/baselines/point-nav-modern-oracle" in error
    assert "make it with 'metarl baseline oracle point-nav --env.horizon 5'" in error
    for kind in KINDS:
        shutil.copytree(points / f"point-nav-modern-{kind}", Path("runs", "baselines", f"point-nav-modern-{kind}"))
    for argv in ((run, "--tasks", "2", "--baselines"), ("--baselines", "--tasks", "2", run)):
        assert call(capsys, "evaluate", *argv, "--out", tmp_path)[0] == 0
        assert "score" in read_json(tmp_path / "evaluation.json")


def test_a_baseline_without_out_goes_to_the_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "baseline", "pretrained", "point-nav", *TINY, "--quiet", "--env.protocol", "finn2017")
    assert (code, out) == (0, "runs/baselines/point-nav-finn2017-pretrained\n")
    error = fails(capsys, "baseline", "pretrained", "point-nav", *TINY, "--quiet", "--env.protocol", "finn2017")
    assert "holds a baseline already" in error
    assert "--replace" in error
    again = ("baseline", "pretrained", "point-nav", *TINY, "--quiet", "--env.protocol", "finn2017", "--replace")
    assert call(capsys, *again)[0] == 0


def test_a_missing_or_wrong_baseline_names_the_command(
    points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = points / "run"
    oracle = "point-nav-modern-oracle"
    error = fails(capsys, "evaluate", run, "--baselines", tmp_path, "--out", tmp_path)
    assert f"'metarl baseline oracle point-nav --env.horizon 5 --out {tmp_path / oracle}'" in error
    shutil.copytree(points / oracle, tmp_path / oracle)
    error = fails(capsys, "evaluate", run, "--baselines", tmp_path, "--out", tmp_path)
    assert "there is no pretrained baseline" in error
    shutil.copytree(points / oracle, tmp_path / "point-nav-modern-pretrained")
    error = fails(capsys, "evaluate", run, "--baselines", tmp_path, "--out", tmp_path)
    assert "holds another baseline than its name says" in error
    assert not (tmp_path / "evaluation.json").exists()
    env = EnvConfig("point-nav", horizon=7)
    with pytest.raises(ValueError, match=r"horizon of 5, but the run has 7.*--env.horizon 7"):
        load_baselines(env, points)
    record = read_json(tmp_path / oracle / "baseline.json")
    del record["env_steps"]
    write_atomic(tmp_path / oracle / "baseline.json", json.dumps(record))
    error = fails(capsys, "evaluate", run, "--baselines", tmp_path, "--out", tmp_path)
    assert "is damaged: it lacks 'env_steps'" in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("orcale", "point-nav"), "did you mean oracle?"),
        (("oracle", "point-na"), "did you mean point-nav"),
        (("oracle", "point-nav", "--env.protocol", "finn2018"), "did you mean finn2017"),
        (("oracle", "point-nav", "--steps", "0"), "steps is 0"),
        (("oracle", "point-nav", "--seed", "-1"), "seed -1"),
        (("oracle", "point-nav", "--threads", "-1"), "--threads is -1"),
        (("oracle", "point-nav", "--env.horizon", "-1"), "horizon is -1"),
        (("oracle", "point-nav", "--ppo.envs", "0"), "envs is 0"),
        (("oracle", "point-nav", "--ppo.learning-rate", "nan"), "learning_rate is nan"),
        (("oracle", "point-nav", "--ppo.init-std", "0"), "init_std is 0"),
        (("oracle", "point-nav", "--ppo.discount", "1.5"), "discount is 1.5"),
        (("oracle", "point-nav", "--ppo.entropy-coef", "-1"), "entropy_coef is -1"),
        (("oracle", "point-nav", "--ppo.hidden-sizes", "0"), "hidden_sizes is (0,)"),
        (("oracle", "point-nav", "--ppo.envs", "1", "--ppo.minibatches", "100"), "minibatches must be at most 50"),
        (("oracle",), "ENV"),
    ],
)
def test_wrong_arguments(
    argv: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, "baseline", *argv)
    assert list(tmp_path.iterdir()) == []


def test_the_kind_and_the_environment_must_agree() -> None:
    with pytest.raises(ValueError, match=r"env\.oracle is False for the oracle"):
        BaselineConfig("oracle", EnvConfig("point-nav"))
    config = BaselineConfig("oracle", EnvConfig("point-nav", oracle=True))
    with pytest.raises(ValueError, match=r"env\.oracle is True for the pretrained"):
        replace(config, kind="pretrained")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_there_is(number: signal.Signals, tmp_path: Path) -> None:
    argv: list[Any] = ["baseline", "oracle", "point-nav", *TINY, "--steps", "100000000", "--out", tmp_path]
    process = start_process(*argv)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]  # two of the heading, one of progress
    assert "return" in lines[2]
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.startswith("metarl: interrupted after ")
    assert f"the policy so far is in {tmp_path}" in err
    record = read_json(tmp_path / "baseline.json")
    assert not record["finished"]
    assert record["env_steps"] >= 20
    assert load_policy(tmp_path).act(np.zeros(4)).shape == (2,)


def test_an_interrupted_baseline_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_process("baseline", "oracle", "point-nav", *TINY, "--steps", "100000000", "--out", tmp_path)
    assert process.stdout is not None
    for _ in range(3):  # two of the heading, one of progress
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert "--resume goes on" in process.communicate()[1]
    before = read_json(tmp_path / "baseline.json")
    goal = before["env_steps"] + 60
    code, heading, error = call(capsys, "baseline", "oracle", "point-nav", "--out", tmp_path)
    assert (code, heading) == (2, "")  # nothing was started
    assert "--replace or --resume it" in error
    again = ("baseline", "oracle", "point-nav", "--out", tmp_path, "--resume", "--threads", 1, "--quiet")
    assert call(capsys, *again, "--steps", goal)[0] == 0
    after = read_json(tmp_path / "baseline.json")
    assert after["finished"]
    assert after["config"] == {**before["config"], "steps": goal}
    assert goal <= after["env_steps"] < goal + 20
    n = len(before["curve"])
    assert after["curve"][:n] == before["curve"]
    assert len(after["curve"]) >= n + 3
    assert after["curve"][n]["wall_s"] > before["wall_s"]
    assert after["command"] == f"{before['command']} && metarl {' '.join(map(str, again))} --steps {goal}"
    error = fails(capsys, *again)
    assert f"has {after['env_steps']:,} steps already" in error
    assert "--steps" in error


def test_what_is_resumed_is_what_was_saved(tmp_path: Path) -> None:
    """Weights, Adam's memory and the scaling: a continuation of nothing would begin with those of a new policy."""
    folder = baseline("oracle", tmp_path, "half-cheetah-vel")
    config = BaselineConfig("oracle", EnvConfig("half-cheetah-vel", oracle=True, horizon=5), TINY_PPO, steps=100)
    record = resumable(config, folder)
    model, env = make_ppo(config, n_threads=1)
    restore(model, env, folder, record)
    saved = load_policy(folder)
    network, theta = gaussian_mlp_from_sb3(model.policy, env)
    assert torch.equal(theta, saved.theta)
    assert network.normaliser is not None
    assert saved.network.normaliser is not None
    assert network.normaliser.mean == saved.network.normaliser.mean
    assert model.num_timesteps == 60
    assert {int(state["step"]) for state in model.policy.optimizer.state.values()} == {3 * 2 * 3}
    model.learn(40, reset_num_timesteps=False)
    assert model.num_timesteps == 100
    assert model.lr_schedule(model._current_progress_remaining) < 1e-3 * 41 / 100
    env.close()


def test_what_cannot_be_resumed_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ("baseline", "oracle", "point-nav", "--resume", "--quiet", "--out", tmp_path / "oracle")
    assert "leave out --resume" in fails(capsys, *again)
    baseline("oracle", tmp_path / "oracle")
    kept = (tmp_path / "oracle" / "baseline.json").read_bytes()
    for options in (("--seed", "1"), ("--ppo.envs", "8"), ("--env.horizon", "6")):
        error = fails(capsys, *again, "--steps", "100", *options)
        assert "an oracle of point-nav (modern) made with other settings" in error
    assert "exclude each other" in fails(capsys, *again, "--replace")
    assert "is an oracle of" in fails(capsys, "baseline", "pretrained", *again[2:])
    (tmp_path / "oracle" / "sb3_model.zip").unlink()
    assert "lacks sb3_model.zip" in fails(capsys, *again, "--steps", "100")
    assert (tmp_path / "oracle" / "baseline.json").read_bytes() == kept


def test_what_there_is_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.ppo_training.SAVE_EVERY", 2)
    found: list[tuple[int, bool]] = []

    def look(_: CurvePoint) -> None:
        if (tmp_path / "baseline.json").exists():
            record = read_json(tmp_path / "baseline.json")
            found.append((len(record["curve"]), record["finished"]))

    config = BaselineConfig("oracle", EnvConfig("point-nav", oracle=True, horizon=5), TINY_PPO, steps=100)
    train_baseline(config, tmp_path, n_threads=1, on_update=look)
    assert found == [(2, False), (2, False), (4, False)]
    assert read_json(tmp_path / "baseline.json")["finished"]
