"""From a command line to a frozen config, and from an exception to one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")

USAGE_ERROR = 2
FAILURE = 1
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UsageError(Exception):
    """A user's mistake: the message is one line, the exit code 2."""


class RunError(Exception):
    """A run that can't go on, through no mistake on the command line: one line, exit code 1."""


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; a BaseException, like KeyboardInterrupt, so that no library swallows it.

    Attributes:
      signal_number: which signal.
    """

    def __init__(self, signal_number: int):
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number


def parse(config_type: type[Config], command: str, arguments: Sequence[str], default: Config | None = None) -> Config:
    """Reads options into a config.

    Args:
      config_type: a frozen dataclass; its fields' docs are the help texts.
      command: the command's name in help and errors, e.g. "bash run.sh fraud".
      arguments: the words after it.
      default: where options that are not given come from; the class's own defaults if None.

    Returns:
      The config.

    Raises:
      UsageError: for anything that tyro refuses.
    """
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            return tyro.cli(config_type, prog=command, args=list(arguments), default=default or config_type())
    except SystemExit as end:
        if not end.code:
            raise
        raise UsageError(f"{_first_sentence(refusal.getvalue())} (see {command} --help)") from None


def refusal(name: str, value: Any, expected: str) -> UsageError:
    """The error for an option of a config that can't be used."""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return UsageError(f"--{name.replace('_', '-')} {shown}: expected {expected}")


def require(config: Any, rules: Iterable[tuple[str, Any, str]]) -> None:
    """Raises UsageError for the first option whose rule does not hold.

    Args:
      config: the options.
      rules: for each an option's name, whether its value is fine, and what was expected, in words.
    """
    for name, fine, expected in rules:
        if not fine:
            raise refusal(name, getattr(config, name), expected)


def _first_sentence(box: str) -> str:
    """Takes the message out of what tyro draws: the lines between the title and the next rule, with or without a box.

    Where the output takes no box characters, lines of minus signs stand above and below the message.
    """
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    parts = [list(part) for is_rule, part in groupby(lines, lambda line: not line.strip("-─╰╯ ")) if not is_rule]
    return " ".join(parts[0]) if parts else "wrong options"


def run(command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Runs a command and turns what it raises into one line on stderr and an exit code.

    Args:
      command: the command's main function.
      arguments: the words of its command line.

    Returns:
      0; 2 for a user's mistake; 1 for a run that failed; 128 + the signal's number where one stopped it.
    """
    try:
        try:
            command(arguments)
        finally:
            sys.stdout.flush()  # here, where a reader that has left can still be handled
        return 0
    except BaseException as error:
        return report(error)


def report(error: BaseException) -> int:
    """Says in one line what ended a command, and returns its exit code; raises again what nobody foresaw."""
    if isinstance(error, SystemExit):  # --help
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, UsageError):
        return _say(error, USAGE_ERROR)
    if isinstance(error, RunError):
        return _say(error, FAILURE)
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    if isinstance(error, BrokenPipeError):
        _forget_output()  # whoever read it has left
        return FAILURE
    if isinstance(error, OSError) and error.errno in DISK_FULL:  # of standard output, or of temporary files
        _forget_output()
        return _say(f"can't write to standard output or a temporary file: {os.strerror(error.errno)}", FAILURE)
    raise error


def _forget_output() -> None:
    """Lets what is still to be printed go nowhere: Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: Exception | str, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
