"""The test run checks shapes and types of metarl's functions, in each of its processes."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from metarl.returns import discounted_returns


def test_a_wrong_type_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="discounted_returns"):
        discounted_returns(torch.tensor([1, 2]), 0.9)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="discounted_returns"):
        discounted_returns(torch.tensor(1.0), 0.9)
