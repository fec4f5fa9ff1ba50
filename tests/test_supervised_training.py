"""The outer loop of supervised learning: steps equal torch's, resumed equals uninterrupted, nothing is lost."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_supervised_runs import class_folders

from metarl.metrics import read_metrics
from metarl.seeding import Purpose, torch_generator_for
from metarl.supervised import training
from metarl.supervised.config import EpisodesConfig, SupervisedConfig, config_from_dict, config_to_dict
from metarl.supervised.datasets import FolderConfig
from metarl.supervised.embedding_settings import LSTM, Prototypical
from metarl.supervised.learner import MetaGradient
from metarl.supervised.network_config import NetworkConfig
from metarl.supervised.outer_optimiser import OuterConfig, gradient_norm, outer_step, step_size
from metarl.supervised.runs import open_run
from metarl.supervised.scoring import TaskScores, score_all
from metarl.supervised.train_state import Best, SupervisedState, load_state
from metarl.supervised.training import Row, initial_state, resume, train, validated

SMALL = SupervisedConfig(
    episodes=EpisodesConfig(shot=4, query=4),
    network=NetworkConfig(hidden=(8,), init_std=0.3),
    algo=LSTM(hidden=8),
    iterations=12,
    meta_batch=3,
    log_every=4,
    validate_every=6,
    validation_episodes=5,
    checkpoint_every=5,
)
TIMED = {"wall_s", "tasks_per_s"}


def rows_of(run: Path) -> str:
    """Rows of metrics without times, as text: NaN equals NaN."""
    rows = read_metrics(run / "metrics.jsonl")
    return repr([{key: value for key, value in row.items() if key not in TIMED} for row in rows])


def assert_same_state(one: Path, other: Path) -> None:
    a, b = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (one, other))
    assert set(a) == set(b)
    for name, value in a.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b[name]), name
        elif name not in ("wall_s", "cpu_s", "crc"):
            assert value == b[name], name
    assert rows_of(one) == rows_of(other)


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_resumed_equals_uninterrupted(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(SMALL, tmp_path / "whole")
    real = training.meta_iteration

    def interrupted(config: SupervisedConfig, setup: training.Setup, state: SupervisedState) -> SupervisedState:
        if state.iteration == stop:
            raise KeyboardInterrupt
        return real(config, setup, state)

    with monkeypatch.context() as patch:
        patch.setattr(training, "meta_iteration", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, tmp_path / "stopped")
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["iteration"] == stop
    resume(tmp_path / "stopped")
    assert_same_state(tmp_path / "whole", tmp_path / "stopped")
    record = json.loads((tmp_path / "stopped" / "config.json").read_text())
    assert record["resumed"][0]["iteration"] == stop


def test_a_run_says_what_it_did(tmp_path: Path) -> None:
    seen: list[Row] = []
    run = train(SMALL, tmp_path / "run", command="test", on_row=lambda row, state: seen.append(row))
    assert [row.iteration for row in seen] == [3, 5, 7, 11]
    assert [math.isnan(row.validation_loss) for row in seen] == [True, False, True, False]
    assert open_run(run.path)[1] == SMALL
    with pytest.raises(ValueError, match="metarl regression train --resume"):
        train(SMALL, run.path)
    with pytest.raises(ValueError, match="has done 12"):
        resume(run.path, iterations=3)


def test_the_best_on_validation_tasks_is_kept() -> None:
    setup = SMALL.setup()
    state = initial_state(SMALL, setup)
    first, loss, _ = validated(SMALL, setup, state)
    assert first.best is not None
    worse = {name: value + 100 for name, value in state.params.items()}
    second, worse_loss, _ = validated(SMALL, setup, replace(first, iteration=1, params=worse))
    assert worse_loss > loss
    assert second.best == first.best


def test_losses_are_compared_by_medians_with_their_errors() -> None:
    draws = np.random.default_rng(0).exponential(size=(4000, 100))
    draws[:, :5] = np.inf
    draws[:, 5:8] = np.nan
    scores = [training._score(TaskScores(draw, None)) for draw in draws]
    medians, errors = np.array(scores).T
    assert medians.std() == pytest.approx(errors.mean(), rel=0.1)
    assert training._score(TaskScores(np.full(4, np.nan), None)) == (-math.inf, 0.0)


@pytest.mark.parametrize(("ahead", "kept"), [(-1.0, False), (0.0, False), (0.9, False), (1.1, True)])
def test_later_parameters_within_a_standard_error_replace_the_best(ahead: float, kept: bool, tmp_path: Path) -> None:
    config = SupervisedConfig(
        dataset=FolderConfig(size=16, channels=1),
        data=str(class_folders(tmp_path)),
        episodes=EpisodesConfig(way=3, shot=1, query=2),
        network=NetworkConfig(kind="conv4", filters=4),
        algo=Prototypical(),
        validation_episodes=20,
    )
    setup = config.setup()
    state = initial_state(config, setup)
    scores = score_all(setup.learner, state.params, setup.validation, 20, torch_generator_for(0, Purpose.VALIDATION))
    accuracy, error = scores.accuracy.mean(), scores.accuracy.std(ddof=1) / math.sqrt(20)
    assert 0 < error < accuracy
    earlier = Best(1, accuracy + ahead * error, {})
    best = validated(config, setup, replace(state, iteration=2, best=earlier))[0].best
    assert (best.iteration == 1) == kept
    assert best.score == pytest.approx(max(accuracy, earlier.score))


def test_a_meta_gradient_that_is_not_finite_is_left_out() -> None:
    setup = SMALL.setup()
    state = initial_state(SMALL, setup)
    broken = replace(state, params={name: value * math.nan for name, value in state.params.items()})
    after = training.meta_iteration(SMALL, setup, broken)
    assert (after.iteration, after.n_skipped, after.interval.n, after.moments) == (1, 1, 0, {})


def test_a_checkpoint_of_another_learner_is_refused(tmp_path: Path) -> None:
    run = train(replace(SMALL, iterations=1), tmp_path / "run")
    other = replace(SMALL, algo=LSTM(hidden=9))
    with pytest.raises(ValueError, match=r"does not belong to this run.*lstm"):
        load_state(run.checkpoint, initial_state(other, other.setup()).params)


@pytest.mark.parametrize("beta_1", [0.9, 0.0])
def test_the_outer_step_is_torchs_adam(beta_1: float) -> None:
    generator = torch.Generator().manual_seed(0)
    params = {name: torch.randn(3, 2, generator=generator, dtype=torch.float64) for name in "abc"}
    theirs = {name: value.clone().requires_grad_() for name, value in params.items()}
    reference = torch.optim.Adam(theirs.values(), lr=0.01, betas=(beta_1, 0.999))
    moments: dict = {}
    config = OuterConfig(lr=0.01, beta_1=beta_1)
    for _ in range(4):
        gradient = {name: torch.randn(3, 2, generator=generator, dtype=torch.float64) for name in "ab"}
        for name, value in gradient.items():
            theirs[name].grad = value.clone()
        reference.step()
        update = MetaGradient(gradient, torch.tensor(0.0), {"c": params["c"] + 1})
        params, moments = outer_step(config, params, update, moments, 0.01, gradient_norm(gradient))
    for name in "ab":
        torch.testing.assert_close(params[name], theirs[name].detach())
    torch.testing.assert_close(params["c"], theirs["c"].detach() + 4)


def test_sgd_and_clipping() -> None:
    params, gradient = {"a": torch.zeros(2)}, {"a": torch.tensor([3.0, 4.0])}
    update = MetaGradient(gradient, torch.tensor(0.0))
    for config, step in (
        (OuterConfig(optimiser="sgd"), [3.0, 4.0]),
        (OuterConfig(optimiser="sgd", clip_norm=1.0), [0.6, 0.8]),
        (OuterConfig(optimiser="sgd", clip_value=3.5), [3.0, 3.5]),
    ):
        after, _ = outer_step(config, params, update, {}, 0.5, 5.0)
        torch.testing.assert_close(after["a"], -0.5 * torch.tensor(step))


def test_schedules_start_at_lr_and_fall() -> None:
    assert [step_size(OuterConfig(lr=1.0, schedule="linear"), it, 4) for it in range(4)] == [1.0, 0.75, 0.5, 0.25]
    cosine = OuterConfig(lr=1.0, final_lr=0.5, schedule="cosine")
    assert [step_size(cosine, it, 2) for it in range(3)] == pytest.approx([1.0, 0.75, 0.5])
    halving = OuterConfig(lr=1.0, schedule="halving", halve_every=2)
    assert [step_size(halving, it, 9) for it in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_settings_go_through_json_and_name_what_is_wrong() -> None:
    assert config_from_dict(SupervisedConfig(), json.loads(json.dumps(config_to_dict(SMALL)))) == SMALL
    changed = config_from_dict(SMALL, {"learner": "prototypical", "algo": {"statistics": "support"}})
    assert changed.algo == Prototypical(statistics="support")
    with pytest.raises(ValueError, match="unknown learner 'prototypica'; did you mean prototypical"):
        config_from_dict(SMALL, {"learner": "prototypica"})
    with pytest.raises(ValueError, match="did you mean hidden"):
        config_from_dict(SMALL, {"algo": {"hiden": 3}})
    with pytest.raises(ValueError, match="does no regression"):
        replace(SMALL, algo=Prototypical()).setup()


def test_it_needs_no_mujoco() -> None:
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mujoco", "OpenGL"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import metarl.supervised.training, metarl.commands.parsing, metarl.commands.checks
"""
    subprocess.run([sys.executable, "-c", code], check=True)
