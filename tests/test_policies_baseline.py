"""The ridge value baseline against numpy's least squares."""

import numpy as np
import pytest
import torch

from metarl.policies import baseline_by_episode, baseline_features, cross_fitted_baseline, ridge_baseline
from metarl.policies.baseline import CANDIDATES, FOLDS


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prefix_mask(lengths: list[int], time: int) -> torch.Tensor:
    return torch.arange(time) < torch.tensor(lengths)[:, None]


def test_features_by_hand():
    features = baseline_features(torch.tensor([[[2.0, -30.0], [-1.0, 0.5]]], dtype=torch.float64))
    expected = [
        [2.0, -10.0, 4.0, 100.0, 0.0, 0.0, 0.0, 1.0],
        [-1.0, 0.5, 1.0, 0.25, 1e-2, 1e-4, 1e-6, 1.0],
    ]
    torch.testing.assert_close(features[0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("coefficient", [1e-5, 0.3, 20.0])
def test_values_are_those_of_least_squares_with_the_ridge_as_extra_rows(coefficient):
    """min |X w - y|^2 + c |w|^2 is least squares on X with sqrt(c) I below it and y with zeros."""
    obs, target = normal(4, 12, 3, seed=0), normal(4, 12, seed=1)
    valid = prefix_mask([12, 5, 1, 9], 12)
    features = baseline_features(obs).numpy()
    x, y = features[valid.numpy()], target[valid].numpy()
    n = x.shape[1]
    rows, zeros = np.sqrt(coefficient) * np.eye(n), np.zeros(n)
    weights = np.linalg.lstsq(np.concatenate([x, rows]), np.concatenate([y, zeros]), rcond=None)[0]
    values = ridge_baseline(obs, target, valid, coefficient)
    torch.testing.assert_close(values, torch.from_numpy(features @ weights), rtol=1e-6, atol=1e-8)


def test_a_value_that_is_linear_in_the_features_is_recovered():
    obs = normal(10, 50, 3, seed=0)
    weights = normal(10, seed=1)
    target = baseline_features(obs) @ weights
    values = ridge_baseline(obs, target, torch.ones(10, 50, dtype=torch.bool))
    torch.testing.assert_close(values, target, rtol=0, atol=1e-4)


def test_invalid_steps_do_not_influence_the_fit():
    obs, target, valid = normal(4, 12, 3, seed=0), normal(4, 12, seed=1), prefix_mask([12, 5, 1, 9], 12)
    garbage_obs, garbage_target = obs.clone(), target.clone()
    garbage_obs[~valid] = 7.0
    garbage_target[~valid] = 1e6
    values, other = ridge_baseline(obs, target, valid), ridge_baseline(garbage_obs, garbage_target, valid)
    assert torch.equal(values[valid], other[valid])


def test_repeated_and_constant_observations_survive():
    """Features that are equal or constant make X^T X singular; the ridge term alone keeps it solvable."""
    obs = normal(3, 20, 1, seed=0).expand(3, 20, 2).clone()
    obs = torch.cat([obs, torch.ones(3, 20, 2, dtype=torch.float64)], dim=-1)
    target = 2 * obs[..., 0] - 3
    values = ridge_baseline(obs, target, torch.ones(3, 20, dtype=torch.bool))
    torch.testing.assert_close(values, target, rtol=0, atol=1e-4)


def test_a_singular_system_is_solved_with_more_ridge():
    obs, target = torch.zeros(2, 6, 3, dtype=torch.float64), normal(2, 6, seed=1)
    obs[..., 0] = 1.0
    values = ridge_baseline(obs, target, torch.ones(2, 6, dtype=torch.bool), coefficient=0.0)
    assert torch.isfinite(values).all()


def test_fewer_steps_than_features_survive():
    obs, target = normal(2, 5, 4, seed=0), normal(2, 5, seed=1)
    valid = prefix_mask([1, 1], 5)
    values = ridge_baseline(obs, target, valid)
    assert torch.isfinite(values).all()
    torch.testing.assert_close(values[valid], target[valid], rtol=0, atol=1e-3)


def test_values_have_the_dtype_of_the_target():
    obs, valid = normal(2, 5, 4, seed=0).float(), torch.ones(2, 5, dtype=torch.bool)
    assert ridge_baseline(obs, torch.ones(2, 5), valid).dtype == torch.float32
    assert ridge_baseline(obs, torch.ones(2, 5, dtype=torch.float64), valid).dtype == torch.float64


def test_by_episode_each_has_a_fit_of_its_own():
    obs, target = normal(3, 40, 4, seed=0), normal(3, 40, seed=1)
    valid = prefix_mask([40, 25, 40], 40)
    values = baseline_by_episode(obs, target, valid)
    for e in range(3):
        torch.testing.assert_close(values[e], ridge_baseline(obs[e : e + 1], target[e : e + 1], valid[e : e + 1])[0])
    changed = target.clone()
    changed[1] += 5.0
    torch.testing.assert_close(baseline_by_episode(obs, changed, valid)[[0, 2]], values[[0, 2]], rtol=0, atol=0)


def plain_cross_fit(obs: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, coefficient: float) -> np.ndarray:
    """Each fold's values from least squares on the other folds, with the ridge as extra rows; one coefficient."""
    features = baseline_features(obs).numpy()[..., :-1]
    mean, spread = features[valid.numpy()].mean(0), features[valid.numpy()].std(0)
    x = np.concatenate([(features - mean) / spread, np.ones((*target.shape, 1))], axis=-1)
    values = np.zeros(target.shape)
    for k in range(FOLDS):
        inside = np.arange(len(obs)) % FOLDS == k
        rows, y = x[~inside][valid.numpy()[~inside]], target.numpy()[~inside][valid.numpy()[~inside]]
        ridge = np.sqrt(coefficient * len(rows)) * np.eye(x.shape[-1])
        ridge[-1] *= 1e-3
        zeros = np.zeros(len(ridge))
        weights = np.linalg.lstsq(np.concatenate([rows, ridge]), np.concatenate([y, zeros]), rcond=None)[0]
        values[inside] = x[inside] @ weights
    return values


@pytest.mark.parametrize("noise", [0.1, 3.0, 300.0])
def test_cross_fitted_values_are_those_of_the_best_coefficient(noise):
    obs, valid = normal(12, 15, 2, seed=0), prefix_mask([15, 9, 15, 4, 15, 15, 12, 15, 1, 15, 15, 8], 15)
    target = obs @ normal(2, seed=1) + noise * normal(12, 15, seed=2)
    tried = [plain_cross_fit(obs, target, valid, c) for c in CANDIDATES]
    errors = [((values - target.numpy())[valid.numpy()] ** 2).sum() for values in tried]
    values = cross_fitted_baseline(obs, target, valid)
    expected = tried[int(np.argmin(errors))]
    torch.testing.assert_close(values[valid], torch.from_numpy(expected)[valid], rtol=1e-6, atol=1e-8)


def test_cross_fitted_values_do_not_see_their_own_episodes():
    """An episode's return moves the values of other folds, and of its own only through the choice of coefficient."""
    obs, target = normal(10, 20, 3, seed=0), normal(10, 20, seed=1)
    valid = torch.ones(10, 20, dtype=torch.bool)
    shifted = target.clone()
    shifted[3] += 1e-3
    one, other = (cross_fitted_baseline(obs, y, valid) for y in (target, shifted))
    same = torch.arange(10) % FOLDS == 3
    torch.testing.assert_close(one[same], other[same], rtol=0, atol=1e-14)
    assert (one[~same] != other[~same]).all()


def test_what_ridge_explains_of_pure_noise_the_cross_fitted_baseline_does_not():
    obs, target = normal(20, 10, 40, seed=0), normal(20, 10, seed=1)
    valid = torch.ones(20, 10, dtype=torch.bool)
    left = [
        float((target - fit(obs, target, valid)).var() / target.var())
        for fit in (ridge_baseline, cross_fitted_baseline)
    ]
    assert left[0] < 0.7
    assert 0.95 < left[1] < 1.1


def test_cross_fitting_survives_little_data():
    one_step = torch.zeros(7, 4, dtype=torch.bool)
    one_step[0, 0] = True
    for n, valid in ((1, torch.ones(1, 4, dtype=torch.bool)), (2, torch.ones(2, 4, dtype=torch.bool)), (7, one_step)):
        values = cross_fitted_baseline(normal(n, 4, 3, seed=0), normal(n, 4, seed=1), valid)
        assert torch.isfinite(values).all()
        assert n > 1 or not values.any()
