"""What Arrow needs help with: its functions of arrays for type checkers, and text for its readers."""

from typing import Any

import pyarrow as pa
import pyarrow.compute

# They are made when they are imported, so type checkers don't see them.
pc: Any = pyarrow.compute


def reader_of(text: bytes) -> pa.BufferReader:
    """A file of text in Arrow's own memory.

    Arrow's readers may let go of it in a thread of theirs after they have returned. If Python is ending by then,
    letting go of Python's bytes aborts the process.
    """
    buffer = pa.allocate_buffer(len(text))
    pa.FixedSizeBufferWriter(buffer).write(text)
    return pa.BufferReader(buffer)
