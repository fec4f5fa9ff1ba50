"""Intervals, presets, and what is scored after each number of steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.supervised.datasets import DATASETS, ProblemName
from metarl.supervised.episodes import Problem
from metarl.supervised.evaluation import Summary, predictions, scores_by_step, step_numbers, summarise
from metarl.supervised.learners import LEARNERS, steps_at_test
from metarl.supervised.presets import PRESETS, preset
from metarl.supervised.scoring import NUMBERS_AT_ONCE, draw_episodes, score_all
from metarl.supervised.sinusoid import SinusoidSampler
from metarl.supervised.task_source import SinusoidTasks, TaskSize

SHAPES: dict[str, tuple[int, ...]] = {
    "sinusoid": (1,),
    "omniglot": (1, 28, 28),
    "mini-imagenet": (3, 84, 84),
    "folder": (3, 84, 84),
}


def can(learner: str, problem: ProblemName) -> bool:
    entry = LEARNERS[learner]
    return entry.regression if problem == "regression" else entry.classification


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(dataset: str, name: str) -> None:
    for learner in LEARNERS:
        if not can(learner, DATASETS[dataset].problem):
            continue
        for way, shot in ((5, None), (5, 5), (20, 1), (20, 5)):
            config = preset(dataset, learner, name, way, shot)
            config.check_learner()
            assert config.episodes.way == way or dataset == "sinusoid"
            assert shot in (None, config.episodes.shot)
            if dataset == "omniglot" and LEARNERS[learner].trains_on == "episodes":  # 20 images of a class
                sizes = [config.episodes.size(split) for split in ("train", "test")]
                assert all(size.shot + size.query <= 20 for size in sizes), learner
            outputs = 1 if dataset == "sinusoid" else way
            problem = Problem(SHAPES[dataset], outputs, dataset != "sinusoid")
            params = config.algo.make(problem, config.network).init(torch.Generator().manual_seed(0))
            assert all(value.isfinite().all() for value in params.values())


def test_papers_step_sizes_are_multiplied_by_the_ways() -> None:
    assert preset("omniglot", "maml", "paper", 5, 1).algo.step_size == pytest.approx(0.4 * 5)
    assert preset("omniglot", "maml", "paper", 20, 1).algo.step_size == pytest.approx(0.1 * 20)
    assert preset("mini-imagenet", "maml", "paper", 5, 5).algo.step_size == pytest.approx(0.01 * 5)
    assert preset("sinusoid", "maml", "paper").algo.step_size == pytest.approx(0.01)


def test_the_default_preset_takes_few_omniglot_tasks_an_update() -> None:
    found = preset("omniglot", "maml", "default", 5, 1)
    assert (found.meta_batch, found.episodes.train_query, found.algo.step_size) == (2, 3, pytest.approx(1.0))
    many = preset("omniglot", "maml", "default", 20, 1)
    assert (many.meta_batch, many.algo.steps, many.algo.step_size) == (2, 1, pytest.approx(3.0))
    assert (
        preset("omniglot", "anil", "default", 5, 1).meta_batch == preset("omniglot", "anil", "paper", 5, 1).meta_batch
    )
    assert preset("omniglot", "fo-maml", "default", 20, 1).algo.step_size == pytest.approx(1.0)
    proto = preset("omniglot", "prototypical", "default", 5, 1)
    assert (proto.episodes.train_way, proto.episodes.train_query, proto.outer.schedule) == (60, 1, "cosine")
    relation = preset("omniglot", "relation", "default", 5, 1)
    assert (relation.episodes.train_way, relation.meta_batch, relation.network.halvings) == (20, 1, 2)
    snail, papers = (preset("omniglot", "snail", name, 5, 1) for name in ("default", "paper"))
    assert (snail.algo.alike, snail.algo.label_scale, snail.meta_batch) == (True, 10.0, 16)
    assert (papers.algo.alike, papers.algo.label_scale, papers.meta_batch) == (False, 1.0, 32)
    for learner in ("meta-lstm", "lstm-optimizer"):
        learned = preset("omniglot", learner, "default", 5, 1)
        assert (learned.algo.steps, learned.meta_batch, learned.episodes.train_query) == (3, 2, 3)
    assert preset("folder", "maml", "default", 5, 1).meta_batch == 4


def test_the_interval_is_196_standard_errors() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    spread = math.sqrt(((values - 3) ** 2).sum() / 3)
    found = summarise(values)
    assert found == Summary(3.0, found.ci95, 2.5, 0)
    assert found.ci95 == pytest.approx(1.96 * spread / 2)
    blown = summarise(np.array([1.0, 2.0, math.inf, math.nan, 3.0]))
    assert (blown.mean, blown.median, blown.n_not_finite) == (2.0, 3.0, 2)
    assert math.isnan(summarise(np.array([1.0])).ci95)


def test_step_numbers() -> None:
    assert step_numbers(None) == [None]
    assert step_numbers(0) == [0]
    assert step_numbers(3) == [0, 1, 2, 3]
    assert step_numbers(50) == [0, 1, 2, 3, 5, 10, 20, 50]


def test_scores_by_step_are_those_of_each_number_alone() -> None:
    config = preset("sinusoid", "maml")
    sampler = SinusoidSampler(5, 7)
    learner = config.algo.make(sampler.problem, config.network)
    params = learner.init(torch.Generator().manual_seed(0))
    seen: list[int] = []
    (found,) = scores_by_step(
        [learner],
        params,
        sampler,
        25,
        torch.Generator().manual_seed(3),
        [0, 1, 4],
        lambda done, total: seen.append(done),
    )
    assert seen == [20, 25]
    for steps, scores in zip((0, 1, 4), found, strict=True):
        alone = score_all(learner, params, sampler, 25, torch.Generator().manual_seed(3), steps)
        np.testing.assert_array_equal(scores.loss, alone.loss)
    episodes = sampler(2, torch.Generator().manual_seed(4))
    answers = predictions(learner, params, episodes.support, episodes.query.x, [0, 4])
    assert [answer.shape for answer in answers] == [(2, 7, 1)] * 2
    assert steps_at_test(config.algo) == 10


def test_large_tasks_are_drawn_like_small_ones_and_come_in_fewer_at_once() -> None:
    sampler = SinusoidSampler(5, NUMBERS_AT_ONCE // 7)
    batches = list(draw_episodes(sampler, 25, torch.Generator().manual_seed(3)))
    assert [len(batch.query.x) for batch in batches] == [6, 6, 6, 2, 5]
    generator = torch.Generator().manual_seed(3)
    drawn = torch.cat([sampler(n, generator).query.y for n in (20, 5)])
    assert torch.equal(torch.cat([batch.query.y for batch in batches]), drawn)
    assert len(next(draw_episodes(SinusoidSampler(5, NUMBERS_AT_ONCE), 3, generator)).query.x) == 1


def test_an_oracle_meets_the_tasks_of_the_others() -> None:
    size = TaskSize(1, 5, 6)
    plain, told = (SinusoidTasks().sampler("test", size, kind) for kind in ("episodes", "truth"))
    assert plain is not None
    assert told is not None
    one, other = (sampler(3, torch.Generator().manual_seed(0)) for sampler in (plain, told))
    assert torch.equal(one.query.y, other.query.y)
    assert torch.equal(one.support.x, other.support.x[..., :1])
    amplitude, phase = other.query.x[..., 1:2], other.query.x[..., 2:]
    torch.testing.assert_close(other.query.y, amplitude * torch.sin(other.query.x[..., :1] - phase))
