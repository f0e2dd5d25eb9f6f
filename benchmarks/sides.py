"""A side of a benchmark is a process of its own; sides take turns, and wait idle while another one works.

The protocol is that of `benchmarks/peers/serve.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

SECONDS = 1.5  # of work in a round, for each side


class SideError(Exception):
    """A side that could not start or ended before its time; the message is one line."""


@dataclass(frozen=True)
class Command:
    """How to start a side.

    Attributes:
      words: the program and its arguments.
      environment: of the process, whole.
      name: what to call it if it fails before it has said its own name.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    name: str


class Side:
    """A running side. A context manager: at its end the process is gone.

    Attributes:
      ready: what the side said when it was: `name`, `left_out`, `amount`, `parameters`, `peak_bytes`.
      seconds_to_ready: from the start of the process.
    """

    def __init__(self, command: Command):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        started = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                command.words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=command.environment,
            )
        except OSError as error:
            raise SideError(f"{command.words[0] or 'no interpreter'}: {error.strerror}") from error
        try:
            self.ready: dict[str, Any] = json.loads(self._answer())
        except BaseException:
            self.close()
            raise
        self.seconds_to_ready = time.perf_counter() - started

    def measure(self, count: int) -> float:
        """Seconds that so many units of work take."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # the answer says why
            print(count, file=self._process.stdin, flush=True)
        return float(self._answer())

    def calibrate(self, seconds: float) -> int:
        """How many units take about so long."""
        count = 1
        while (taken := self.measure(count)) < seconds / 4:
            count *= max(2, min(16, int(seconds / 2 / max(taken, 1e-9))))
        return max(1, round(count * seconds / taken))

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answer(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            return line
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        errors = [line for line in said if re.match(r"[\w.]*(Error|Exception)\b", line)]
        raise SideError((errors or said or [f"ended with exit code {self._process.wait()}"])[-1])


@dataclass
class Race:
    """What came out of sides that took turns.

    Attributes:
      rates: of each side that ran, in the order given, one number a round: units' amounts a second.
      left_out: what each did before the first round.
      failed: why, for each side that could not run.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def race(commands: Sequence[Command], rounds: int, seconds: float = SECONDS) -> Race:
    """Lets sides work in turn.

    Args:
      commands: the sides; the first is ours and must run, of the others those that fail are named with their reason.
      rounds: how often each works.
      seconds: about how long each works in a round.

    Returns:
      The rates.

    Raises:
      SideError: if the first side fails, or a side's model has another number of parameters than the first one's.
    """
    found = Race()
    with ExitStack() as stack:
        running: dict[str, tuple[Side, int]] = {}
        for command in commands:
            try:
                side = stack.enter_context(Side(command))
                count = side.calibrate(seconds)
            except SideError as error:
                if not running:
                    raise SideError(f"{command.name}: {error}") from error
                found.failed[command.name] = str(error)
                continue
            running[side.ready["name"]] = side, count
            found.left_out[side.ready["name"]] = side.ready["left_out"]
        check_parameters({name: side.ready["parameters"] for name, (side, _) in running.items()})
        for _ in range(rounds):
            for name, (side, count) in running.items():
                rate = side.ready["amount"] * count / side.measure(count)
                found.rates.setdefault(name, []).append(rate)
    return found


def check_parameters(parameters: Mapping[str, int | None]) -> None:
    """Refuses sides whose models differ in size."""
    first, *others = parameters.items()
    for name, count in others:
        if count != first[1]:
            raise SideError(f"{name}: its model has {count} parameters, that of {first[0]} has {first[1]}")


def median(values: Sequence[float]) -> float:
    """The median as a Python number."""
    return float(np.median(values))
