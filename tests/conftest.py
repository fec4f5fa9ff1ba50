"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import jaxtyping
import pytest

# Before torch is imported: the run's processes, and those that tests start, share the cores among them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# A test run in a shell's background ignores Ctrl-C, one under nohup SIGHUP, and so would every process it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    """Families, Gymnasium ids, import paths and user modules (of examples/ or the test's folder) are gone after it."""
    from metarl.envs import registry  # after OMP_NUM_THREADS is set
    from metarl.envs.entry_points import offered

    families, ids, path, modules = dict(registry._FAMILIES), set(gymnasium.registry), list(sys.path), set(sys.modules)
    offered.cache_clear()
    yield
    registry._FAMILIES.clear()
    registry._FAMILIES.update(families)
    for name in set(gymnasium.registry) - ids:
        del gymnasium.registry[name]
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith((str(EXAMPLES), str(tmp_path))):
            del sys.modules[name]
    offered.cache_clear()


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Call as users do, without the run-time type checks of the test run.

    To see our own error messages, and for trainings, whose time would be spent on checking the same types again and
    again.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
