"""Fixed observation scaling."""

import pytest
import torch

from metarl.policies import GaussianMLP, ObsNormaliser
from metarl.policies.normaliser import measure_normaliser


def test_scaling_by_hand_with_clipping():
    normaliser = ObsNormaliser((1.0, 0.0), (2.0, 0.5))
    obs = torch.tensor([[5.0, 0.25], [1.0, -100.0]], dtype=torch.float64)
    before = obs.clone()
    assert normaliser(obs).tolist() == [[2.0, 0.5], [0.0, -5.0]]
    assert torch.equal(obs, before)
    assert normaliser(obs.float()).dtype == torch.float32


def test_measured_over_valid_steps():
    obs = 3 * torch.randn(4, 50, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, -2.0])
    valid = torch.arange(50) < torch.tensor([50, 20, 1, 50])[:, None]
    obs[~valid] = 1e6
    normaliser = measure_normaliser(obs, valid)
    scaled = (obs[valid] - torch.tensor(normaliser.mean)) / torch.tensor(normaliser.std)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(scaled.std(0), torch.ones(2), rtol=0, atol=1e-5)


def test_a_constant_observation_is_not_blown_up():
    normaliser = measure_normaliser(torch.full((2, 5, 1), 3.0), torch.ones(2, 5, dtype=torch.bool))
    assert normaliser.mean == (3.0,)
    assert normaliser.std == pytest.approx((0.05,))


def test_actor_and_distribution_scale_alike():
    policy = GaussianMLP(3, 2, (8,), normaliser=ObsNormaliser((0.5, -1.0, 0.0), (2.0, 0.5, 0.1)))
    params = torch.stack([policy.init(torch.Generator().manual_seed(i)) for i in range(2)])
    obs = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    before = obs.clone()
    torch.testing.assert_close(policy.actor(params)(obs), policy.distribution(params, obs)[0], rtol=1e-5, atol=2e-6)
    assert torch.equal(obs, before)
    raw = GaussianMLP(3, 2, (8,))
    assert not torch.allclose(policy.actor(params)(obs), raw.actor(params)(obs))
