"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import jaxtyping
import pytest

# Before torch is imported: the run's processes, and those that tests start, share the cores among them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test run started in a shell's background ignores Ctrl-C, and so would every process it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Call as users do, without the run-time type checks of the test run.

    To see our own error messages, and for trainings, whose time would be spent on checking the same types again and
    again.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
