"""Ctrl-C and SIGTERM: immediate between the stages of a run, after the current step during training."""

from __future__ import annotations

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager

from experiments.command_line import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """The signal, if any, received within a `deferred` block."""

    def __init__(self) -> None:
        self.signal_number: int | None = None


@contextmanager
def immediate() -> Iterator[None]:
    """Within this block the signals raise Interrupted at once."""

    def stop(number: int, frame: types.FrameType | None) -> None:
        raise Interrupted(number)

    with _handler(stop):
        yield


@contextmanager
def deferred() -> Iterator[StopRequest]:
    """Within this block the first signal is only recorded; a second one stops at once."""
    request = StopRequest()

    def note(number: int, frame: types.FrameType | None) -> None:
        if request.signal_number is not None:
            raise Interrupted(number)
        request.signal_number = number

    with _handler(note):
        yield request


@contextmanager
def _handler(handler: signal._HANDLER) -> Iterator[None]:
    previous = [signal.signal(number, handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, old in zip(SIGNALS, previous, strict=True):
            signal.signal(number, old)
