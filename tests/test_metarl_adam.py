"""Adam against torch.optim.Adam and closed forms, in float64."""

import pytest
import torch

from metarl.adam import AdamState, adam_step, init_adam


def test_the_steps_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, generator=generator, dtype=torch.float64)
    reference = torch.nn.Parameter(x.clone())
    optimiser = torch.optim.Adam([reference], lr=0.03)
    state = init_adam(x)
    for _ in range(12):
        gradient = torch.randn(7, generator=generator, dtype=torch.float64) * torch.logspace(-6, 3, 7)
        reference.grad = gradient
        optimiser.step()
        state, step = adam_step(state, gradient, 0.03)
        x = x - step
        torch.testing.assert_close(x, reference.detach(), rtol=1e-12, atol=1e-13)
    assert state.n_steps == 12


def test_the_first_step_is_the_sign_of_the_gradient():
    gradient = torch.tensor([3.0, -0.2, 0.0], dtype=torch.float64)
    _, step = adam_step(init_adam(gradient), gradient, 0.1)
    assert step.tolist() == pytest.approx([0.1, -0.1, 0.0], rel=1e-6)


def test_a_constant_gradient_has_its_own_moments():
    """The bias corrections make the mean g and the mean square g^2 at every step."""
    gradient = torch.tensor([2.0, -5.0], dtype=torch.float64)
    state = init_adam(gradient)
    for t in range(1, 6):
        state, step = adam_step(state, gradient, 1.0)
        torch.testing.assert_close(state.first, (1 - 0.9**t) * gradient)
        torch.testing.assert_close(state.second, (1 - 0.999**t) * gradient**2)
        assert step.tolist() == pytest.approx([1.0, -1.0], rel=1e-7)


def test_what_is_given_is_not_changed():
    state, gradient = AdamState(torch.ones(2), torch.ones(2), 3), torch.ones(2)
    adam_step(state, gradient, 0.1)
    assert (state.first.tolist(), state.second.tolist(), state.n_steps) == ([1.0, 1.0], [1.0, 1.0], 3)
    assert gradient.tolist() == [1.0, 1.0]
