"""Sinusoid tasks: their formula, their ranges, and that a seed decides all."""

import math

import pytest
import torch

from metarl.supervised.episodes import Problem
from metarl.supervised.sinusoid import Sinusoids, SinusoidSampler, sample_sinusoids, sinusoid_episodes, sinusoid_grid


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_function_is_amplitude_times_sine_of_x_minus_phase():
    sinusoids = Sinusoids(torch.tensor([2.0, 3.0]), torch.tensor([0.0, math.pi / 2]))
    x = torch.tensor([0.0, math.pi / 2, math.pi])[None, :, None]
    y = torch.tensor([[0.0, 2.0, 0.0], [-3.0, 0.0, 3.0]])[..., None]
    torch.testing.assert_close(sinusoids(x), y, atol=1e-6, rtol=0)


def test_ranges_and_moments_are_the_papers():
    """Uniform: the mean is half way, the variance width^2 / 12, and 20,000 draws come near both ends."""
    (episodes, truth) = SinusoidSampler(1, 1).with_truth(20_000, generator())
    for values, low, high in (
        (truth.amplitude, 0.1, 5.0),
        (truth.phase, 0.0, math.pi),
        (episodes.support.x, -5.0, 5.0),
        (episodes.query.x, -5.0, 5.0),
    ):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.01 * (high - low))
        assert values.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.03)


def test_episodes_are_points_of_the_true_functions():
    sampler = SinusoidSampler(shot=5, query=10)
    episodes, truth = sampler.with_truth(7, generator())
    assert sampler.problem == Problem((1,), 1, classification=False)
    for examples, n in ((episodes.support, 5), (episodes.query, 10)):
        assert examples.x.shape == examples.y.shape == (7, n, 1)
        assert examples.x.dtype == examples.y.dtype == torch.float32
        expected = truth.amplitude[:, None, None] * torch.sin(examples.x - truth.phase[:, None, None])
        torch.testing.assert_close(examples.y, expected)
    assert truth(sinusoid_grid(50)).shape == (7, 50, 1)
    assert sinusoid_grid(3).flatten().tolist() == [-5.0, 0.0, 5.0]


def test_the_same_seed_gives_the_same_tasks():
    sampler = SinusoidSampler(5, 5)
    a, b, c = (sampler(4, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(a.support.x, b.support.x)
    assert torch.equal(a.query.y, b.query.y)
    assert not torch.equal(a.support.x, c.support.x)


def test_a_fixed_set_of_functions_can_be_asked_with_other_shots():
    truth = sample_sinusoids(3, generator())
    five, ten = (sinusoid_episodes(truth, shot, 4, generator(9)) for shot in (5, 10))
    assert (five.support.x.shape[1], ten.support.x.shape[1]) == (5, 10)
    torch.testing.assert_close(ten.query.y, truth(ten.query.x))


@pytest.mark.parametrize(("shot", "query"), [(0, 1), (1, 0), (-1, 1)])
def test_a_task_without_points_is_refused(shot: int, query: int):
    with pytest.raises(ValueError, match="at least 1 point"):
        SinusoidSampler(shot, query)
