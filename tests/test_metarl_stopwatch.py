"""Stopwatch adds wall time by stage, also of a block that raises."""

import time

import pytest

from metarl.stopwatch import Stopwatch


def test_times_of_a_stage_add_up():
    watch = Stopwatch()
    for _ in range(2):
        with watch("sleep"):
            time.sleep(0.02)
    with watch("nothing"):
        pass
    assert 0.04 <= watch.seconds["sleep"] < 2.0
    assert 0.0 <= watch.seconds["nothing"] < watch.seconds["sleep"]


def test_a_block_that_raises_is_counted():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch("stage"):
        raise KeyError
    assert set(watch.seconds) == {"stage"}
