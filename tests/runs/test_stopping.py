"""Signals end a command, whatever they interrupt."""

import signal
import time
import weakref

import pytest

from experiments.command_line import Interrupted
from experiments.runs.stopping import deferred, held, immediate


class Thing:
    """What a weak reference can be made to."""


def drop_with_a_signal(number: int) -> None:
    """The signal comes while Python calls back for its garbage collector, where exceptions are dropped."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert reference() is None
    time.sleep(10)
    pytest.fail("it went on")


def turn_into_another_error(number: int) -> None:
    try:
        signal.raise_signal(number)
    except BaseException:
        raise ValueError("what a compiled library makes of it") from None


def signal_twice() -> None:
    signal.raise_signal(signal.SIGTERM)
    turn_into_another_error(signal.SIGINT)


def fail_on_its_own() -> None:
    raise ValueError("its own")


def signal_and_fail() -> None:
    signal.raise_signal(signal.SIGTERM)
    fail_on_its_own()


def swallow(number: int) -> None:
    try:
        signal.raise_signal(number)
    except BaseException:
        return


@pytest.fixture
def handlers():
    """Whoever stops puts back what was there."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("interrupted", [signal.raise_signal, drop_with_a_signal, turn_into_another_error, swallow])
def test_a_signal_ends_the_block(interrupted, number, capfd):
    with pytest.raises(Interrupted, match=str(int(number))), immediate():
        interrupted(number)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("handlers")
def test_only_the_second_signal_ends_a_deferred_block():
    with deferred() as request:
        signal.raise_signal(signal.SIGTERM)
    assert request.signal_number == signal.SIGTERM
    with pytest.raises(Interrupted, match="2"), deferred() as request:
        signal_twice()
    assert request.signal_number == signal.SIGTERM


@pytest.mark.usefixtures("handlers")
def test_errors_without_a_signal_stay_what_they_are():
    with pytest.raises(ValueError, match="its own"), immediate():
        fail_on_its_own()
    with pytest.raises(ValueError, match="its own"), deferred():
        signal_and_fail()


@pytest.mark.usefixtures("handlers")
def test_signals_that_are_held_come_at_the_end():
    done = []

    def twice_in_a_part_that_is_held() -> None:
        with held():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            done.append("part")
        done.append("more")

    with pytest.raises(Interrupted, match="15"), immediate():
        twice_in_a_part_that_is_held()
    assert done == ["part"]
    done.clear()
    with pytest.raises(Interrupted, match="2"), deferred():
        twice_in_a_part_that_is_held()
    assert done == ["part"]
