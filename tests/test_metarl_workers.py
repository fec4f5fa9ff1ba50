"""Workers: order, exceptions, torch's thread count."""

import threading
import time

import pytest
import torch

from metarl.workers import Workers, core_count, one_torch_thread


@pytest.fixture(params=[1, 2, 3])
def workers(request):
    pool = Workers(request.param)
    yield pool
    pool.close()


def test_results_come_in_the_order_of_the_items(workers):
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i == 0 else 0.0)
        return i * i

    assert workers.map(slow_first, range(20)) == [i * i for i in range(20)]


def test_no_items_give_no_results(workers):
    assert workers.map(lambda i: i, []) == []


def test_the_first_exception_is_raised_and_the_pool_goes_on(workers):
    def fail_at_two(i: int) -> int:
        if i >= 2:
            raise KeyError(i)
        return i

    with pytest.raises(KeyError) as raised:
        workers.map(fail_at_two, range(6))
    assert raised.value.args == (2,)
    assert workers.map(lambda i: i + 1, range(3)) == [1, 2, 3]


def test_torch_has_one_thread_inside_and_its_own_count_after(workers):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert workers.map(lambda i: torch.get_num_threads(), range(4)) == [1] * 4
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError):
            workers.map(lambda i: 1 // i, [0, 1])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_one_torch_thread_restores_the_count():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_torch_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_one_thread_is_the_calling_thread():
    assert Workers(1).map(lambda i: threading.get_ident(), range(3)) == [threading.get_ident()] * 3


def test_several_threads_run_at_once():
    """Two items that wait for each other finish only if both run at the same time."""
    barrier = threading.Barrier(2, timeout=10)
    workers = Workers(2)
    assert sorted(workers.map(lambda i: barrier.wait(), range(2))) == [0, 1]
    workers.close()


def test_a_closed_pool_can_be_used_again():
    workers = Workers(2)
    assert workers.map(lambda i: i, range(3)) == [0, 1, 2]
    workers.close()
    workers.close()
    assert workers.map(lambda i: i, range(3)) == [0, 1, 2]
    workers.close()


def test_zero_threads_means_one_per_core():
    assert Workers(0).n_threads == core_count() >= 1


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(ValueError, match=r"n_threads=-1 must be at least 0 \(0: one per core\)"):
        Workers(-1)
