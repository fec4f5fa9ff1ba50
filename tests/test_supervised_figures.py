"""Figures of supervised evaluations: what they show is what the learner answered, and they are written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from omniglot_files import png, write_files
from PIL import Image
from small_runs import call

from metarl.supervised.evaluation import generator_of_tests
from metarl.supervised.figures import PicturedEpisode, adaptation_figure, episode_figure
from metarl.supervised.pictures import QUERIES_OF_A_CLASS, pictured_episode, task_curves
from metarl.supervised.scoring import EPISODES_AT_ONCE, one_episode, score
from metarl.supervised.sinusoid import SinusoidSampler
from metarl.supervised.trained import open_trained

TINY = ("--iterations", 2, "--meta-batch", 2, "--validation-episodes", 2, "--quiet", "--out")
IMAGES = ("--way", 2, "--dataset.size", 16, "--network.filters", 4)


@pytest.fixture
def waves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert call(capsys, "regression", "train", "sinusoid", *TINY, tmp_path / "run")[0] == 0
    return tmp_path / "run"


@pytest.fixture
def images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    files = {f"class{k}/{i}.png": png(seed=100 * k + i, size=(16, 16)) for k in range(20) for i in range(12)}
    data = write_files(tmp_path / "data", files)
    options = ("--learner", "prototypical", "--data", data, *IMAGES, "--query", 9, "--train-query", 5)
    assert call(capsys, "fewshot", "train", "folder", *options, *TINY, tmp_path / "run")[0] == 0
    return tmp_path / "run"


def assert_pictures(stem: Path, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        with Image.open(f"{stem}-{kind}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10, kind  # not blank


def test_sinusoids_are_drawn_as_the_learner_predicts_them(waves: Path) -> None:
    trained = open_trained(waves, "regression")
    sampler = trained.sampler(trained.size(shot=5))
    assert isinstance(sampler, SinusoidSampler)
    episodes, _ = sampler.with_truth(EPISODES_AT_ONCE, generator_of_tests(7))
    for task, curves in enumerate(task_curves(trained, sampler, 7, [0, 1, 2, 10])):
        assert list(curves.predictions) == ["before adaptation", "after 1 step", "after 10 steps"]
        np.testing.assert_allclose(np.interp(curves.support_x, curves.x, curves.truth), curves.support_y, atol=0.01)
        np.testing.assert_array_equal(curves.support_x, episodes.support.x[task, :, 0])
        adapted = trained.learner.adapt(trained.params, episodes.support, 10)
        x = torch.from_numpy(curves.x)[None, :, None].expand(EPISODES_AT_ONCE, -1, -1)
        expected = trained.learner.predict(adapted, x)[task, :, 0]
        np.testing.assert_allclose(curves.predictions["after 10 steps"], expected, rtol=1e-5)


def test_an_episode_is_pictured_with_the_learners_answers(images: Path) -> None:
    trained = open_trained(images, "fewshot")
    size = trained.size()
    picture = pictured_episode(trained, size, 7, None)
    assert [int((picture.query_y == k).sum()) for k in range(2)] == [QUERIES_OF_A_CLASS] * 2
    small = trained.size(query=QUERIES_OF_A_CLASS)
    picture = pictured_episode(trained, small, 7, None)
    episode = one_episode(trained.sampler(small)(EPISODES_AT_ONCE, generator_of_tests(7)), 0)
    found = score(trained.learner, trained.params, episode).accuracy
    assert found is not None
    assert (picture.answer == picture.query_y).mean() == pytest.approx(float(found[0]))
    np.testing.assert_array_equal(picture.query, episode.query.x[0])


def test_evaluating_writes_pictures(waves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "regression", "evaluate", waves, "--episodes", 3, "--steps", 2, "--shot", 5)
    assert code == 0
    assert_pictures(waves / "evaluation-5shot-2steps", ("steps", "tasks"))
    assert "evaluation-5shot-2steps-steps.png" in out


@pytest.mark.parametrize(("inverted", "dark"), [(False, False), (True, True)])
def test_grey_images_are_drawn_as_they_looked(tmp_path: Path, inverted: bool, dark: bool) -> None:
    """All pixels at 1: white, or ink where black was read as 1."""
    white, y = np.ones((2, 1, 8, 8), np.float32), np.arange(2)
    episode_figure(PicturedEpisode(white, y, white, y, y, inverted), "two classes", tmp_path / "episode.png")
    with Image.open(tmp_path / "episode.png") as picture:
        share = float((np.asarray(picture.convert("L")) < 10).mean())
    assert (share > 0.1) == dark


@pytest.mark.parametrize("median", [0.2, math.inf])
def test_means_that_blew_up_are_written_not_drawn(median: float, tmp_path: Path) -> None:
    """The same picture whether a mean is 1e10 or 1e24, but for what is written."""
    pictures = []
    for mean in (1e10, 1e24):
        loss = [{"mean": m, "ci95": m / 2, "median": d, "n_not_finite": 1} for m, d in ((3.0, 1.0), (mean, median))]
        row = {"learner": "maml", "statistics": None, "steps": [0, 1], "loss": loss, "episodes": 9}
        adaptation_figure(row | {"other_statistics": {}, "baselines": {}}, "waves", tmp_path / "steps.png")
        with Image.open(tmp_path / "steps.png") as picture:
            pictures.append(np.asarray(picture.convert("L"), float))
    assert 0 < (pictures[0] != pictures[1]).mean() < 0.002


def test_a_learner_without_steps_has_a_picture_of_its_answers(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "fewshot", "evaluate", images, "--episodes", 2)[0] == 0
    assert_pictures(images / "evaluation", ("tasks",))
    assert not (images / "evaluation-steps.png").exists()
    assert call(capsys, "fewshot", "evaluate", images, "--episodes", 2, "--baselines")[0] == 0
    assert_pictures(images / "evaluation", ("steps", "tasks"))
