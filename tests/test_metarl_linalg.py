"""Conjugate gradients against a direct solve; the backtracking line search by hand."""

import math

import pytest
import torch

from metarl.linalg import backtracking_line_search, conjugate_gradient


def spd(n: int, seed: int) -> torch.Tensor:
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.t() / n + torch.eye(n, dtype=torch.float64)


def vector(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 5, 20])
def test_n_iterations_solve_n_equations(n):
    a, b = spd(n, 0), vector(n, 1)
    x = conjugate_gradient(lambda v: a @ v, b, iterations=n, tolerance=0.0)
    torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=1e-5, atol=1e-6)


def test_as_many_iterations_as_distinct_eigenvalues_are_enough():
    basis = torch.linalg.qr(spd(30, 0))[0]
    eigenvalues = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64).repeat(10)
    a, b = basis @ torch.diag(eigenvalues) @ basis.t(), vector(30, 1)
    exact = torch.linalg.solve(a, b)
    torch.testing.assert_close(conjugate_gradient(lambda v: a @ v, b, iterations=3), exact, rtol=1e-9, atol=1e-10)
    assert not torch.allclose(conjugate_gradient(lambda v: a @ v, b, iterations=2), exact, rtol=1e-3)


def test_one_iteration_is_the_exact_line_minimum_along_b():
    a, b = spd(6, 0), vector(6, 1)
    x = conjugate_gradient(lambda v: a @ v, b, iterations=1)
    torch.testing.assert_close(x, b * (b @ b) / (b @ a @ b))


def test_b_is_not_changed():
    a, b = spd(6, 0), vector(6, 1)
    before = b.clone()
    conjugate_gradient(lambda v: a @ v, b)
    assert torch.equal(b, before)


def test_it_stops_at_the_tolerance():
    calls = []

    def product(v: torch.Tensor) -> torch.Tensor:
        calls.append(v)
        return 2 * v

    b = vector(6, 1)
    torch.testing.assert_close(conjugate_gradient(product, b, iterations=10), b / 2)
    assert len(calls) == 1


def test_a_zero_right_side_needs_no_product():
    x = conjugate_gradient(lambda v: pytest.fail("no product is needed"), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(x, torch.zeros(4, dtype=torch.float64))


def test_negative_curvature_keeps_what_was_found_before():
    """diag(1, 1, -1): the first direction b has curvature b.Ab = 9 > 0, the second one is negative."""
    a = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    b = torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    x = conjugate_gradient(lambda v: a @ v, b, iterations=10)
    torch.testing.assert_close(x, b * 11 / 9)


def test_negative_curvature_along_b_gives_zero():
    assert torch.equal(conjugate_gradient(lambda v: -v, torch.ones(3)), torch.zeros(3))


def test_the_full_step_is_taken_when_it_is_admissible():
    assert backtracking_line_search(lambda f: (-f, 0.01 * f * f), 0.0, 0.01) == (1.0, -1.0, 0.01)


@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_the_largest_admissible_fraction_is_taken(ratio):
    """KL = fraction^2 <= 0.1: the first power of the ratio below sqrt(0.1)."""
    tried = []

    def evaluate(fraction: float) -> tuple[float, float]:
        tried.append(fraction)
        return -fraction, fraction**2

    found = backtracking_line_search(evaluate, 0.0, 0.1, ratio)
    power = math.ceil(math.log(math.sqrt(0.1)) / math.log(ratio))
    assert found.fraction == pytest.approx(ratio**power)
    assert found.loss == -found.fraction
    assert found.kl == found.fraction**2
    assert tried == pytest.approx([ratio**i for i in range(power + 1)])


def test_a_step_that_does_not_lower_the_loss_is_refused():
    """Loss 1 - 3 f + 4 f^2 starts at 1 and is below 1 for f < 3/4 only."""
    found = backtracking_line_search(lambda f: (1 - 3 * f + 4 * f * f, 0.0), 1.0, 0.01, ratio=0.75)
    assert found.fraction == 0.75**2
    assert backtracking_line_search(lambda f: (1.0, 0.0), 1.0, 0.01).fraction == 0.0, "an equal loss is no descent"


@pytest.mark.parametrize("bad", [(math.nan, 0.0), (-1.0, math.nan), (math.nan, math.nan), (math.inf, 0.0)])
def test_nan_is_refused(bad):
    found = backtracking_line_search(lambda f: bad if f > 0.7 else (-f, 0.0), 0.0, 0.01, ratio=0.8)
    assert found.fraction == pytest.approx(0.64)


def test_giving_up_returns_the_start():
    calls = []

    def worse(fraction: float) -> tuple[float, float]:
        calls.append(fraction)
        return 9.0, 0.5

    assert backtracking_line_search(worse, 2.0, 0.01, max_steps=4) == (0.0, 2.0, 0.0)
    assert len(calls) == 4
