"""One contract for every algorithm: names, settings, an iteration, determinism, resuming, what it does with NaN."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from plain_maml import make_batches, make_meta, make_policy
from small_runs import assert_same_run, call, fails, small_config, train_small
from synthetic_batches import Wrapped

from metarl.algorithms.maml_trpo import MAMLTRPO
from metarl.algorithms.registry import ALGORITHMS, Algo, AlgorithmName, algorithm_name, update_of
from metarl.commands.train_command import parse
from metarl.config import TrainConfig, config_from_dict, config_to_dict
from metarl.losses import task_batches
from metarl.metrics import read_metrics
from metarl.presets import PRESETS, preset
from metarl.rollout import Collector
from metarl.runs import open_run
from metarl.train import initial_state, load_state, make_collector, meta_iteration, resume
from metarl.workers import Workers

SEED = np.random.SeedSequence(0)
WITHOUT_OPTIMISER = ("maml-trpo", "fo-maml", "meta-sgd", "reptile")
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)


def small(name: AlgorithmName, env: str = "point-nav") -> TrainConfig:
    return replace(small_config(env), algo=preset(env, algorithm=name).algo, meta_batch=3)


def iterations(config: TrainConfig, n: int, n_threads: int = 1):
    workers, family = Workers(n_threads), config.env.make()
    state, records = initial_state(config, family, workers), []
    collector = make_collector(config, family, config.policy.make(family, state.normaliser), workers)
    for _ in range(n):
        state, record = meta_iteration(config, collector, state, workers)
        records.append(record)
    workers.close()
    return state, records


def test_the_names_are_the_algorithms() -> None:
    assert set(get_args(AlgorithmName)) == set(ALGORITHMS)
    assert {type(entry.settings) for entry in ALGORITHMS.values()} == set(get_args(Algo))


@every_algorithm
def test_settings_are_of_the_name_and_of_no_other(name: AlgorithmName) -> None:
    assert algorithm_name(ALGORITHMS[name].settings) == name
    assert update_of(ALGORITHMS[name].settings) is ALGORITHMS[name].update


@every_algorithm
@pytest.mark.parametrize("env", ["point-nav", "half-cheetah-dir", "ant-vel"])
def test_every_preset_has_it_and_survives_json(name: AlgorithmName, env: str) -> None:
    for preset_name in PRESETS:
        config = preset(env, preset_name, algorithm=name)
        assert algorithm_name(config.algo) == name
        assert config.algo.discount == preset(env, preset_name).algo.discount
        data = json.loads(json.dumps(config_to_dict(config)))
        assert data["algorithm"] == name
        assert config_from_dict(TrainConfig(), data) == config


def test_settings_without_a_name_are_those_of_maml_trpo() -> None:
    """As written before there were other algorithms."""
    data = config_to_dict(preset("point-nav"))
    assert data.pop("algorithm") == "maml-trpo"
    assert config_from_dict(TrainConfig(), data) == preset("point-nav")


@every_algorithm
@pytest.mark.parametrize("env", ["point-nav", "half-cheetah-dir"])
def test_an_iteration_learns_something_finite(name: AlgorithmName, env: str) -> None:
    config = small(name, env)
    state, (record,) = iterations(config, 1)
    start = initial_state(config, config.env.make(), Workers(1))
    assert state.meta.theta.isfinite().all()
    assert not torch.equal(state.meta.theta, start.meta.theta)
    assert torch.equal(state.meta.step_size, start.meta.step_size) == (name != "meta-sgd")
    numbers = [record.loss_before, record.loss_after, record.gradient_norm, record.kl, record.step_fraction]
    assert np.isfinite(numbers).all()
    assert record.gradient_norm > 0
    assert 0 < record.step_fraction <= 1


@pytest.mark.usefixtures("no_type_checks")
@every_algorithm
def test_it_learns_to_find_the_goal_after_one_step(name: AlgorithmName) -> None:
    """Known optimum: walking straight to a goal that is 0.38 m away on average, about -1 in 20 steps.

    Seed 0 gains 3.3 (MAML-TRPO) to 1.3 (Reptile) in 15 iterations with the preset of point navigation.
    """
    config = preset("point-nav", algorithm=name)
    config = replace(
        config,
        env=replace(config.env, horizon=20),
        policy=replace(config.policy, hidden_sizes=(16,)),
        meta_batch=10,
        trajectories=10,
    )
    _, records = iterations(config, 15)
    after = np.array([record.return_after for record in records])
    assert after[-3:].mean() > after[:3].mean() + 0.8


@pytest.mark.usefixtures("no_type_checks")
@every_algorithm
def test_the_same_seed_gives_the_same_bits_at_any_number_of_threads(name: AlgorithmName) -> None:
    (one, _), (other, _) = iterations(small(name), 2), iterations(small(name), 2, n_threads=3)
    assert torch.equal(one.meta.theta, other.meta.theta)
    assert torch.equal(one.meta.step_size, other.meta.step_size)
    assert (one.optimiser is None) == (other.optimiser is None)
    if one.optimiser is not None and other.optimiser is not None:
        assert torch.equal(one.optimiser.first, other.optimiser.first)
        assert torch.equal(one.optimiser.second, other.optimiser.second)


@every_algorithm
def test_the_generic_path_makes_the_update_of_the_closed_form(name: AlgorithmName) -> None:
    algo = replace(ALGORITHMS[name].settings, inner_steps=2)
    if isinstance(algo, MAMLTRPO):  # from all steps: a share of these few makes a Fisher matrix of rank 1
        algo = replace(algo, curvature_fraction=1.0)
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    query = [replace(batch, mean_return=torch.tensor(float(i), dtype=torch.float64)) for i, batch in enumerate(query)]
    closed, state, info = update_of(algo)(algo, policy, meta, support, query, SEED, Workers(2))
    generic, _, same = update_of(algo)(algo, Wrapped(policy), meta, support, query, SEED, Workers(2))
    torch.testing.assert_close(closed.theta, generic.theta, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(closed.step_size, generic.step_size, rtol=1e-6, atol=1e-8)
    assert info.loss_after == pytest.approx(same.loss_after, rel=1e-6)
    assert name == "reptile" or info.loss_after < info.loss_before
    assert (state is None) == (name in WITHOUT_OPTIMISER)


@every_algorithm
@pytest.mark.parametrize("where", ["support", "query"])
def test_a_nan_advantage_changes_nothing(name: AlgorithmName, where: str) -> None:
    algo = ALGORITHMS[name].settings
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta)
    _, optimiser, _ = update_of(algo)(algo, policy, meta, support, query, SEED, Workers(1))
    (support[0] if where == "support" else query)[1].weight[:] = math.nan
    new, after, info = update_of(algo)(algo, policy, meta, support, query, SEED, Workers(1), None, optimiser)
    assert new is meta
    assert after is optimiser
    assert info.step_fraction == 0.0


@every_algorithm
def test_without_advantages_the_first_update_changes_nothing(name: AlgorithmName) -> None:
    algo = ALGORITHMS[name].settings
    policy = make_policy()
    meta = make_meta(algo, policy)
    support, query = make_batches(algo, policy, meta, on_policy=True)
    support = [[replace(batch, weight=0 * batch.weight) for batch in batches] for batches in support]
    query = [replace(batch, weight=0 * batch.weight) for batch in query]
    new, _, info = update_of(algo)(algo, policy, meta, support, query, SEED, Workers(1))
    # The divergence of a policy from itself has a slope of rounding errors, of which Adam would make steps.
    close = {"rtol": 0.0, "atol": 0.0 if name != "promp" else 0.01}
    torch.testing.assert_close(new.theta, meta.theta, **close)
    assert info.gradient_norm < 1e-12


@every_algorithm
def test_resumed_equals_uninterrupted(name: AlgorithmName, tmp_path: Path) -> None:
    whole = train_small(tmp_path / "whole", "--algorithm", name, "--iterations", 4)
    run = train_small(tmp_path / "run", "--algorithm", name, "--iterations", 2)
    assert algorithm_name(open_run(run)[1].algo) == name
    saved = load_state(*open_run(run)).optimiser
    assert (saved is None) == (name in WITHOUT_OPTIMISER)
    resume(run, iterations=4, n_threads=2)
    assert_same_run(whole, run)


def test_the_moments_of_adam_are_checked_with_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train_small(tmp_path / "run", "--algorithm", "promp")
    path = run / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    assert content["adam_steps"] == 2 * ALGORITHMS["promp"].settings.epochs
    changed = [
        {**content, "adam_first": content["adam_first"] + 1},
        {**content, "adam_steps": 3},
        {key: value for key, value in content.items() if not key.startswith("adam")},
    ]
    for damaged in (*changed, {key: value for key, value in content.items() if key != "adam_second"}):
        torch.save(damaged, path)
        assert "is damaged" in fails(capsys, "evaluate", run)


def test_a_batch_knows_the_return_of_its_trajectories() -> None:
    config = small("e-maml")
    family, workers = config.env.make(), Workers(1)
    policy = config.policy.make(family)
    params = policy.init(torch.Generator().manual_seed(0)).expand(3, -1)
    tasks = family.tasks.sample(3, np.random.default_rng(0))
    rollout = Collector(family, policy, 3, 4, workers, horizon=6).collect(params, tasks, SEED)
    batches = task_batches(rollout, 0.99, 1.0, workers)
    for i, batch in enumerate(batches):
        assert float(batch.mean_return) == pytest.approx(float(rollout.reward[i].sum(-1).mean()))
        assert batch.subset(torch.tensor([0, 2])).mean_return == batch.mean_return
    assert len({float(batch.mean_return) for batch in batches}) == 3


@every_algorithm
def test_the_command_line_takes_it(name: AlgorithmName, tmp_path: Path) -> None:
    expected = preset("point-nav", algorithm=name)
    assert parse(["point-nav", "--algorithm", name]).settings == expected
    assert parse([f"--algorithm={name}", "--algo.inner-lr", "0.3", "point-nav"]).settings.algo == replace(
        expected.algo, inner_lr=0.3
    )
    file = tmp_path / "mine.toml"
    file.write_text(f'algorithm = "{name}"\n[env]\nname = "point-nav"\n[algo]\ninner_steps = 2\n')
    args = parse(["--config", str(file)])
    assert args.algorithm == name
    assert args.settings == replace(expected, algo=replace(expected.algo, inner_steps=2))
    other = parse(["--config", str(file), "--algorithm", "reptile", "--seed", "3"]).settings
    assert other.algo == replace(preset("point-nav", algorithm="reptile").algo, inner_steps=2)


def test_options_of_another_algorithm_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--algo.max-kl" in fails(capsys, "train", "point-nav", "--algorithm", "promp", "--algo.max-kl", "0.1")
    assert "clip is 0.0, but must be positive" in fails(
        capsys, "train", "--algorithm", "maml-ppo", "point-nav", "--algo.clip", "0"
    )


@pytest.mark.parametrize(
    ("name", "said"), [("prom", "did you mean promp?"), ("maml-trp", "maml-trpo"), ("x", "allowed: maml-trpo, fo-maml")]
)
def test_a_wrong_name_gets_the_nearest(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in fails(capsys, "train", "point-nav", "--algorithm", name)
    file = tmp_path / "mine.toml"
    file.write_text(f'algorithm = "{name}"\n')
    assert said in fails(capsys, "train", "--config", file)
    with pytest.raises(ValueError, match=f"settings: unknown algorithm '{name}'"):
        config_from_dict(TrainConfig(), {"algorithm": name}, "settings")


def test_a_run_is_named_after_its_algorithm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["train", "point-nav", "--algorithm", "reptile", "--iterations", "1", "--meta-batch", "2"]
    code, out, err = call(capsys, *argv, "--trajectories", "2", "--env.horizon", "5")
    assert (code, err) == (0, "")
    run = Path("runs/point-nav-reptile-default-modern-seed0")
    assert out.splitlines()[0] == f"point-nav (modern): 1 iterations by reptile -> {run}"
    assert json.loads((run / "config.json").read_text())["config"]["algorithm"] == "reptile"
    assert len(read_metrics(run / "metrics.jsonl")) == 1
    assert call(capsys, "evaluate", run, "--tasks", "2", "--steps", "2", "--threads", "1")[0] == 0
    assert call(capsys, "adapt", run, "--task", "0.1,0.2", "--threads", "1")[0] == 0


def test_the_list_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    out = call(capsys, "list")[1]
    assert all(f"\n  {name} " in out for name in ALGORITHMS)
    listed = json.loads(call(capsys, "list", "--json")[1])
    assert listed["algorithms"] == {name: entry.text for name, entry in ALGORITHMS.items()}
