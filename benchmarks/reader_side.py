"""One side of `benchmarks/readers.py`: reads a stream of rows in a process of its own, with the sources on PYTHONPATH.

    python benchmarks/reader_side.py '{"side": "score", "format": "csv", "body": "rows", "times": 99, "seconds": 5}'

Prints rows, broken rows, seconds and seconds of CPU.
"""

import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Repeated(io.RawIOBase):
    """A text so many times, behind a header."""

    def __init__(self, header: bytes, body: bytes, times: int):
        self._left = [body] * times + [header] * bool(header)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            return 0
        part = memoryview(self._left.pop())
        size = min(len(part), len(buffer))
        buffer[:size] = part[:size]
        if size < len(part):
            self._left.append(part[size:])
        return size


def ours(stream: io.BufferedReader, file_format: Any, header: list[str]) -> Iterator[tuple[int, int]]:
    """The score command's reader, all columns but the last as features: numbers of sound and of broken rows."""
    from experiments.score.reader import Source, open_table
    from experiments.score.tables import Columns

    broken: list = []
    for block in open_table(Source("rows", stream), file_format, Columns(tuple(header[1:-1])), broken.extend).blocks:
        yield len(block), len(broken)
        broken.clear()


def pandas(stream: io.BufferedReader, file_format: str, header: list[str]) -> Iterator[tuple[int, int]]:
    """By chunks, as memory is bounded."""
    import pandas as pd

    read: Any = pd.read_csv if file_format == "csv" else lambda *of, **options: pd.read_json(*of, **options, lines=True)
    for frame in read(stream, chunksize=16_384):
        yield len(frame), 0


def pyarrow(stream: io.BufferedReader, file_format: str, header: list[str]) -> Iterator[tuple[int, int]]:
    """Its streaming readers, with their own block size."""
    import pyarrow.csv
    import pyarrow.json

    for batch in pyarrow.csv.open_csv(stream) if file_format == "csv" else pyarrow.json.open_json(stream):
        yield len(batch), 0


def main(side: str, format: str, body: str, times: int, seconds: float) -> None:
    """Reads until the end, or for about so many seconds."""
    rows = Path(body).read_bytes()
    names, _, rows = rows.partition(b"\n")
    stream = io.BufferedReader(Repeated(names + b"\n" if format == "csv" else b"", rows, times), 1 << 20)
    parts = {"score": ours, "pandas": pandas, "pyarrow": pyarrow}[side](stream, format, names.decode().split(","))
    sound, broken = next(parts)  # the first part pays for imports
    started, used, counts = time.perf_counter(), time.process_time(), [0, 0]
    for sound, broken in parts:
        counts = [counts[0] + sound, counts[1] + broken]
        if time.perf_counter() - started > seconds:
            break
    print(json.dumps([*counts, time.perf_counter() - started, time.process_time() - used]))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
