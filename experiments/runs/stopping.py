"""Ctrl-C and SIGTERM: immediate between the stages of a run, after the current step during training."""

from __future__ import annotations

import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from experiments.command_line import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.05  # seconds after which a signal is sent again that could not end anything


class StopRequest:
    """The signal, if any, received within a `deferred` block."""

    def __init__(self) -> None:
        self.signal_number: int | None = None


@contextmanager
def immediate() -> Iterator[None]:
    """Within this block the signals raise Interrupted at once."""
    with _handler(lambda number: True):
        yield


@contextmanager
def deferred() -> Iterator[StopRequest]:
    """Within this block the first signal is only recorded; a second one stops at once."""
    request = StopRequest()

    def is_second(number: int) -> bool:
        second = request.signal_number is not None
        request.signal_number = request.signal_number or number
        return second

    with _handler(is_second):
        yield request


@contextmanager
def held() -> Iterator[None]:
    """Within this block, a short one, signals wait until its end: for what must not be left half done."""
    received: list[int] = []
    previous = [signal.signal(number, lambda number, frame: received.append(number)) for number in SIGNALS]
    try:
        yield
    finally:
        _put_back(previous)
        for number in received:
            signal.raise_signal(number)


@contextmanager
def _handler(stops: Callable[[int], bool]) -> Iterator[None]:
    """Within this block a signal raises Interrupted if `stops` says so, and nothing that is called can keep it.

    Python drops what is raised while it calls back for its garbage collector, and compiled libraries may raise an error
    of their own instead.
    """
    raised: list[int] = []
    unraisable, timers = sys.unraisablehook, []

    def stop(number: int, frame: types.FrameType | None) -> None:
        if stops(number):
            raised.append(number)
            raise Interrupted(number)

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, Interrupted):
            unraisable(what)
        else:
            timers.append(threading.Timer(AGAIN, os.kill, (os.getpid(), what.exc_value.signal_number)))
            timers[-1].start()

    previous = [signal.signal(number, stop) for number in SIGNALS]
    sys.unraisablehook = dropped
    try:
        yield
        if raised:
            raise Interrupted(raised[0])
    except Exception as error:
        if raised:
            raise Interrupted(raised[0]) from error
        raise
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = unraisable
        _put_back(previous)


def _put_back(handlers: list[Any]) -> None:
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
