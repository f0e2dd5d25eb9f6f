"""The reader of KDD Cup 1999."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.faults.readers.reader import Reader, WrongError
from experiments.an_cho.kdd99 import FIRST, Encoding, levels_of, read_folder, split
from vae_jax.data.errors import DataError

ROW = "0,tcp,http,SF" + ",0" * 37
WORDS = (
    *b"normal. smurf. rootkit. tcp nan inf 1e999".split(),
    b"9" * 30,
    b",",
    b"\n",
    b'"',
    b"\0",
    b"\xff",
    b"\x1f\x8b",
)


def _seeds() -> list[bytes]:
    text = "".join(f"{ROW},{label}.\n" for label in ["normal"] * 3 + ["smurf", "smurf", "rootkit", "rootkit"]).encode()
    return [text, gzip.compress(text, mtime=0)]


def _prepare(folder: Path) -> Callable[[bytes], object]:
    def read(data: bytes) -> None:
        # What is not packed is, so that changes reach the text.
        (folder / FIRST).write_bytes(data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1))
        found = read_folder(folder, later=False)
        rows = split(found, "test", None, 0)
        encoded = Encoding.fit(rows.train, levels_of(found)).encode(rows.normal) if len(rows.train) else np.zeros(1)
        if not np.isfinite(encoded).all():
            raise WrongError("a row that is no finite numbers")

    return read


kdd99 = Reader("KDD99's files", _seeds, _prepare, DataError, WORDS)
