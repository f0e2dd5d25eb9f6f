"""A child process that was forked, in which JAX would hang."""

from __future__ import annotations

import os

_process: int | None = None  # in which JAX was first used here


def refuse_forked_process() -> None:
    """Raises RuntimeError where JAX was used before this process was forked: its threads are missing here.

    Only uses that began with a call of this function are noticed.
    """
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise RuntimeError(
            "JAX can't run in a process forked after JAX was used; start it by multiprocessing.get_context('spawn')"
        )
