"""What libraries print past Python, in one of several processes."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from experiments.command_line import FAILURE

LAST_WORDS_SECONDS = 10  # for a process that JAX is about to end to say why, even on a busy machine


class NativeOutput:
    """Reads line by line what libraries print past Python.

    When a process has lost the others, JAX ends it from a thread of its own with a stack trace and SIGABRT, whatever
    Python is doing, even waiting for a collective that will never end. Here that becomes one line and exit code 1.
    Everything else goes to stderr, except the messages printed for every connection.

    Attributes:
      meaning: the message if JAX ends the process.
      last_words: lock held by the thread that ends the process.
      leave: how this process exits if JAX aborts it while it is ending for a reason of its own; None before that.
    """

    _START = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d")  # of a message, which may span several lines
    _NOISE = re.compile(r"coordination_service|preemption_sync")
    # Printed for every connection, in pieces and by several threads at once, so lines are interleaved.
    _CONNECTED = re.compile(r".*(\[Gloo\]|peer ranks)|\d*$")
    _FATAL = re.compile(r"F.*JAX distributed service detected fatal errors")

    def __init__(self, meaning: str):
        self.meaning = meaning
        self.last_words = threading.Lock()
        self.leave: Callable[[], object] | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self._python = sys.stdout, sys.stderr
        self._saved = os.dup(1), os.dup(2)
        text: dict[str, Any] = {"mode": "w", "buffering": 1, "errors": "backslashreplace"}
        sys.stdout, sys.stderr = (os.fdopen(number, **text) for number in self._saved)
        reading, writing = os.pipe()
        for number in (1, 2):
            os.dup2(writing, number)
        os.close(writing)
        self._thread = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._thread.start()
        self._on_abort()

    def silence(self) -> None:
        """Discards what Python prints on stdout."""
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)

    def _read(self, reading: int) -> None:
        noise = False
        with os.fdopen(reading, errors="backslashreplace") as lines:
            for line in lines:
                if self._FATAL.match(line):
                    self._end()
                if self._START.match(line):
                    noise = self._NOISE.search(line) is not None
                if not noise and not self._CONNECTED.match(line):
                    sys.stderr.write(line)

    def _end(self) -> NoReturn:
        with self.last_words:
            print(f"error: {self.meaning}", file=sys.stderr)
            exit_now(FAILURE)

    def _on_abort(self) -> None:
        """Keeps an aborting thread waiting until its message has been read."""

        def wait(number: int) -> None:
            if self.leave is not None:  # the main thread may be in a call that this thread would have to answer
                self.leave()
            time.sleep(LAST_WORDS_SECONDS)
            os._exit(128 + number)  # something else aborted

        # C's signal, because Python's handlers run only in the main thread, and only once it returns to Python.
        self._wait = ctypes.CFUNCTYPE(None, ctypes.c_int)(wait)
        self._signal = ctypes.CDLL(None).signal
        self._signal.argtypes, self._signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        self._default = self._signal(signal.SIGABRT, ctypes.cast(self._wait, ctypes.c_void_p))

    def close(self) -> None:
        """Restores stdout and stderr."""
        sys.stdout.flush()
        sys.stderr.flush()
        for number, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, number)
        self._thread.join()
        self._signal(signal.SIGABRT, self._default)
        sys.stdout, sys.stderr = self._python


def exit_now(code: int) -> NoReturn:
    """Exits at once, without waiting for threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
