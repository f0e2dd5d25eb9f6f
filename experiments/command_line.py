"""From a command line to a frozen config, and from an exception to one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import tyro

from experiments import fill_closed_streams
from vae_jax.data.errors import OneLineError

Config = TypeVar("Config")

USAGE_ERROR = 2
FAILURE = 1
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)  # the disk is full, or standard output is closed


class UsageError(OneLineError):
    """A user's mistake: a one-line message, exit code 2."""


class RunError(OneLineError):
    """A run that failed through no fault of the command line: a one-line message, exit code 1."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. A BaseException, like KeyboardInterrupt, so that no library swallows it."""

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


def parse(config_type: type[Config], command: str, arguments: Sequence[str], default: Config | None = None) -> Config:
    """Parses options into a config; raises UsageError for anything tyro rejects.

    Args:
      config_type: a frozen dataclass; the strings below its fields are the help texts.
      command: the command's name in help and errors, e.g. "bash run.sh fraud".
      arguments: the words after it.
      default: supplies options that are not given; by default the class's own defaults.
    """
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            return tyro.cli(config_type, prog=command, args=list(arguments), default=default or config_type())
    except SystemExit as end:
        if not end.code:
            raise
        raise UsageError(f"{_first_sentence(refusal.getvalue())} (see {command} --help)") from None


def as_option(name: str) -> str:
    """A field's name as its option is typed."""
    return f"--{name.replace('_', '-')}"


def as_typed(value: Any) -> str:
    """A field's value as its option's is typed: several words for several values."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def refusal(name: str, value: Any, expected: str) -> UsageError:
    """The error for an option with an invalid value."""
    return UsageError(f"{as_option(name)} {as_typed(value)}: expected {expected}")


def require(config: Any, rules: Iterable[tuple[str, Any, str]]) -> None:
    """Raises UsageError for the first failing rule: (option, whether its value is valid, what was expected)."""
    for name, fine, expected in rules:
        if not fine:
            raise refusal(name, getattr(config, name), expected)


def _first_sentence(box: str) -> str:
    """Extracts tyro's message: the lines between the title and the next rule (minus signs without box characters)."""
    box = re.sub(r"\x1b\[[\d;]*m", "", box)  # colours, which tyro adds if standard output is a terminal
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    parts = [list(part) for is_rule, part in groupby(lines, lambda line: not line.strip("-─╰╯ ")) if not is_rule]
    return " ".join(parts[0]) if parts else "wrong options"


def run(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Runs a command, and turns what it raises into one line on stderr and an exit code.

    Returns:
      0; 2 for a user's mistake; 1 for a failed run; 128 + the signal's number if a signal stopped it.
    """
    fill_closed_streams()
    try:
        try:
            command(arguments)
        finally:
            sys.stdout.flush()  # here, where a closed pipe can still be handled
        return 0
    except BaseException as error:
        return report(error)


def report(error: BaseException) -> int:
    """Prints in one line what ended a command, and returns its exit code; re-raises unexpected errors."""
    if isinstance(error, SystemExit):  # --help
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, UsageError):
        return _say(error, USAGE_ERROR)
    if isinstance(error, RunError):
        return _say(error, FAILURE)
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    if isinstance(error, BrokenPipeError):
        _forget_output()  # the reader has closed the pipe
        return FAILURE
    if isinstance(error, OSError) and error.errno in NOT_WRITTEN:  # standard output or a temporary file
        _forget_output()
        return _say(f"can't write to standard output or a temporary file: {os.strerror(error.errno)}", FAILURE)
    raise error


def _forget_output() -> None:
    """Discards pending output: Python would complain about it again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: Exception | str, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
