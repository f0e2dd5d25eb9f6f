"""What Arrow needs help with: its functions of arrays for type checkers, and when its readers use threads."""

from typing import Any

import pyarrow.compute

# They are made when they are imported, so type checkers don't see them.
pc: Any = pyarrow.compute

BLOCK = 1 << 20  # bytes that Arrow's readers of text take at once


def use_threads(text: bytes) -> bool:
    """Whether Arrow reads a text in threads of its own: if it has more than one block.

    Such a thread may let go of Python's objects after the reader has returned. If Python is ending by then, which it is
    soon after a short text, that aborts the process.
    """
    return len(text) > BLOCK
