"""A benchmark's sides: a process each, which take turns and wait idle while another one works.

`benchmarks/peers/serve.py` defines their protocol.
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
from typing import Any

import numpy as np

SECONDS = 1.5  # of work in a round, for each side


class SideError(Exception):
    """A side could not start or ended early; the message is one line."""


@dataclass(frozen=True)
class Command:
    """How to start a side; `name` is what to call it if it fails before it has given its own name."""

    words: Sequence[str]
    environment: Mapping[str, str]
    name: str


class Side:
    """A running side; a context manager that ends the process.

    Attributes:
      ready: what the side reported: `name`, `left_out`, `amount`, `parameters`, `peak_bytes`.
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
        """Seconds that `count` units of work take."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # _answer says why
            print(count, file=self._process.stdin, flush=True)
        return float(self._answer())

    def calibrate(self, seconds: float) -> int:
        """Number of units that take about `seconds`."""
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

    def __exit__(self, *_: object) -> None:
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
    """Results of sides that took turns.

    Attributes:
      rates: by side, ours first: units' amounts per second, one number per round.
      left_out: what each side did before the first round.
      failed: why a side could not run.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def race(commands: Sequence[Command], rounds: int, seconds: float = SECONDS) -> Race:
    """Lets sides take turns; the first is ours.

    Peers that fail are listed in the result. Raises SideError if ours fails, or if a peer's model has a different
    number of parameters.
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
    """Refuses sides whose models differ in size; None is a side without a network."""
    first, *others = parameters.items()
    for name, count in others:
        if count is not None and count != first[1]:
            raise SideError(f"{name}: its model has {count} parameters, that of {first[0]} has {first[1]}")


def median(values: Sequence[float]) -> float:
    """The median as a Python float."""
    return float(np.median(values))
