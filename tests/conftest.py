"""Fixtures that several test modules use."""

from __future__ import annotations

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Call as users do, without the run-time type checks of the test run, to see our own error messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
