"""Diagonal Gaussians against torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metarl.policies import gaussian_entropy, gaussian_kl, gaussian_log_prob


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(mean: torch.Tensor, log_std: torch.Tensor) -> Independent:
    return Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


@pytest.mark.parametrize("log_std_shape", [(3,), (4, 7, 3)])
def test_log_prob(log_std_shape):
    mean, log_std, action = normal(4, 7, 3, seed=0), normal(*log_std_shape, seed=1), normal(4, 7, 3, seed=2)
    torch.testing.assert_close(gaussian_log_prob(action, mean, log_std), reference(mean, log_std).log_prob(action))


def test_log_prob_of_the_mean_of_a_standard_normal():
    zero = torch.zeros(2, dtype=torch.float64)
    assert float(gaussian_log_prob(zero, zero, zero)) == pytest.approx(-math.log(2 * math.pi), rel=1e-14)


@pytest.mark.parametrize("log_std_shape", [(3,), (5, 3)])
def test_kl(log_std_shape):
    mean_p, mean_q = normal(5, 3, seed=0), normal(5, 3, seed=1)
    log_std_p, log_std_q = normal(*log_std_shape, seed=2), normal(*log_std_shape, seed=3)
    expected = kl_divergence(reference(mean_p, log_std_p), reference(mean_q, log_std_q))
    torch.testing.assert_close(gaussian_kl(mean_p, log_std_p, mean_q, log_std_q), expected)


def test_kl_of_a_distribution_with_itself_is_zero():
    mean, log_std = normal(5, 3, seed=0), normal(3, seed=1)
    torch.testing.assert_close(gaussian_kl(mean, log_std, mean, log_std), torch.zeros(5, dtype=torch.float64))


def test_kl_by_hand():
    """KL(N(0, 1) || N(1, 2^2)) = log 2 + (1 + 1) / 8 - 1/2."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    kl = gaussian_kl(zero, zero, one, math.log(2.0) * one)
    assert float(kl) == pytest.approx(math.log(2.0) - 0.25, rel=1e-14)


def test_entropy():
    log_std = normal(4, 3, seed=0)
    expected = reference(torch.zeros(4, 3, dtype=torch.float64), log_std).entropy()
    torch.testing.assert_close(gaussian_entropy(log_std), expected)
