"""Returns and advantages by hand, at the ends of lambda, and against Stable-Baselines3."""

import math

import numpy as np
import pytest
import torch

from metarl.returns import discounted_returns, generalised_advantages, standardised


def tensor(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_returns_by_hand():
    reward = tensor([1.0, 2.0, 4.0], [0.0, -1.0, 0.0])
    torch.testing.assert_close(discounted_returns(reward, 0.5), tensor([3.0, 4.0, 4.0], [-0.5, -1.0, 0.0]))
    torch.testing.assert_close(discounted_returns(reward, 1.0), tensor([7.0, 6.0, 4.0], [-1.0, -1.0, 0.0]))


def test_returns_leave_their_input_alone():
    reward = tensor([1.0, 2.0])
    discounted_returns(reward, 0.5)
    assert torch.equal(reward, tensor([1.0, 2.0]))


def test_advantages_by_hand():
    """discount 1/2, lambda 1/2: delta = (1 + 2 - 2, 2 + 4 - 4, 4 - 8) = (1, 2, -4); A = (1.25, 1, -4)."""
    valid = torch.ones(1, 3, dtype=torch.bool)
    advantage = generalised_advantages(tensor([1.0, 2.0, 4.0]), tensor([2.0, 4.0, 8.0]), valid, 0.5, 0.5)
    torch.testing.assert_close(advantage, tensor([1.25, 1.0, -4.0]))


def test_the_value_after_the_last_valid_step_is_zero():
    """As by hand above, and a fourth step that is not part of the episode and whose value must not be used."""
    valid = torch.tensor([[True, True, True, False]])
    reward, value = tensor([1.0, 2.0, 4.0, 0.0]), tensor([2.0, 4.0, 8.0, 1e6])
    advantage = generalised_advantages(reward, value, valid, 0.5, 0.5)
    torch.testing.assert_close(advantage, tensor([1.25, 1.0, -4.0, 0.0]))
    assert float(value[0, 3]) == 1e6, "the values were changed"


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_lambda_zero_is_the_temporal_difference_and_one_the_return_less_the_value(discount):
    reward, value = normal(4, 9, seed=0), normal(4, 9, seed=1)
    valid = torch.ones(4, 9, dtype=torch.bool)
    value_tp1 = torch.cat([value[:, 1:], torch.zeros(4, 1, dtype=torch.float64)], dim=1)
    difference = reward + discount * value_tp1 - value
    torch.testing.assert_close(generalised_advantages(reward, value, valid, discount, 0.0), difference)
    expected = discounted_returns(reward, discount) - value
    torch.testing.assert_close(generalised_advantages(reward, value, valid, discount, 1.0), expected)


def test_an_ended_episode_equals_a_shorter_one():
    reward, value, lengths = normal(3, 9, seed=0), normal(3, 9, seed=1), [9, 4, 1]
    valid = torch.arange(9) < torch.tensor(lengths)[:, None]
    advantage = generalised_advantages(reward * valid, value, valid, 0.9, 0.7)
    for i, n in enumerate(lengths):
        alone = generalised_advantages(reward[i, :n], value[i, :n], valid[i, :n], 0.9, 0.7)
        torch.testing.assert_close(advantage[i, :n], alone)
        assert not advantage[i, n:].any()


@pytest.mark.filterwarnings("ignore")
def test_advantages_are_those_of_stable_baselines3():
    """Env 0 runs to the horizon (value after it 0, as ours), env 1 ends after 6 steps and starts another episode."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    time, end, discount, gae_lambda = 10, 6, 0.97, 0.8
    reward, value = normal(2, time, seed=0).float(), normal(2, time, seed=1).float()
    box = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(time, box, box, "cpu", gae_lambda, discount, n_envs=2)
    for t in range(time):
        start = np.array([t == 0, t in (0, end)], dtype=np.float32)
        zeros = np.zeros((2, 1), dtype=np.float32)
        buffer.add(zeros, zeros, reward[:, t].numpy(), start, value[:, t], torch.zeros(2))
    buffer.compute_returns_and_advantage(torch.zeros(2), np.zeros(2, dtype=np.float32))
    expected = torch.from_numpy(buffer.advantages.T.copy())

    valid = torch.arange(time) < torch.tensor([time, end])[:, None]
    advantage = generalised_advantages(reward * valid, value, valid, discount, gae_lambda)
    torch.testing.assert_close(advantage[valid], expected[valid], rtol=1e-5, atol=1e-6)


def test_standardised_over_the_valid_steps():
    advantage = 3 * normal(4, 9, seed=0) + 5
    valid = torch.arange(9) < torch.tensor([9, 4, 1, 7])[:, None]
    advantage[~valid] = 1e3
    result = standardised(advantage, valid)
    rows = advantage[valid].numpy()
    torch.testing.assert_close(result[valid], torch.from_numpy((rows - rows.mean()) / rows.std()))
    assert not result[~valid].any()


def test_equal_advantages_become_zero_and_not_nan():
    valid = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(standardised(torch.full((2, 3), 0.25), valid), torch.zeros(2, 3))
    assert torch.equal(standardised(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)), torch.zeros(2, 3))


def test_a_nan_reward_reaches_every_advantage_of_its_task():
    """So that it cannot be overlooked; containment of diverged simulations is the simulator's."""
    reward = torch.tensor([[1.0, math.nan], [1.0, 2.0]])
    valid = torch.ones(2, 2, dtype=torch.bool)
    advantage = generalised_advantages(reward, torch.zeros(2, 2), valid, 0.99, 1.0)
    assert standardised(advantage, valid).isnan().all()
