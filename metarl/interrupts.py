"""Ctrl-C, SIGTERM and SIGHUP (a terminal that is closed) while work is under way that has to end whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, where this is the main thread. One that is ignored (nohup) stays so."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    with _handling([number for number in _FROM_OUTSIDE if signal.getsignal(number) != signal.SIG_IGN], interrupt):
        yield


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back Ctrl-C, SIGTERM and SIGHUP until the block is done, where this is the main thread."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_FROM_OUTSIDE)}
    caught: list[int] = []
    # One that is ignored (nohup, a shell's background job) or left to the system is none of ours.
    ours = [number for number, handler in before.items() if callable(handler)]
    with _handling(ours, lambda number, frame: caught.append(number)):
        yield
    for number in caught[:1]:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, None)


@contextmanager
def _handling(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Another handler for some signals; nothing outside the main thread, where Python allows none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
