"""Fuzzes one reader in a process of its own: `python -m benchmarks.faults.readers.fuzz NAME FOLDER TRIES SECONDS SEED`.

The fuzzer (atheris, libFuzzer for Python) keeps the inputs that reach new lines and varies them. A fault is noted and
fuzzing goes on; an input that takes too long or too much memory, or that crashes the interpreter, ends the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import traceback
from pathlib import Path

import atheris
import numpy as np

TRIED, ACCEPTED, FAULTY = range(3)  # what is counted
SECONDS, MEGABYTES = 60, 4_096  # for one input
COUNTS, FAULTS, CORPUS, WORDS = "counts", "faults.jsonl", "corpus", "words.txt"
FOLLOWED = ["vae_jax", "experiments", "PIL", "openpyxl"]  # packages whose lines guide the fuzzer


def main(name: str, folder: Path, tries: int, seconds: int, seed: int) -> None:
    """Fuzzes until so many inputs were tried, or so much time has passed."""
    with atheris.instrument_imports(include=FOLLOWED):
        from benchmarks.faults.readers import reader_of
        from benchmarks.faults.readers.reader import try_one

        reader = reader_of(name)
    counts = np.memmap(folder / COUNTS, np.int64, "r+", shape=3)  # a file, so that they outlive a crash
    place = folder / "place"
    place.mkdir(exist_ok=True)
    read = reader.prepare(place)
    for valid in sorted((folder / CORPUS).iterdir()):  # so that imports count for no input's time
        with contextlib.suppress(Exception):
            read(valid.read_bytes())
    seen: set[str] = set()

    def one(data: bytes) -> None:
        counts[TRIED] += 1
        try:
            counts[ACCEPTED] += try_one(reader, read, data)
        except Exception as error:
            counts[FAULTY] += 1
            note(folder, error, data, seen)

    longest = max(reader.longest, *(2 * path.stat().st_size for path in (folder / CORPUS).iterdir()))
    options = {"runs": tries, "max_total_time": seconds, "seed": seed + 1, "max_len": longest, "len_control": 0}
    options |= {"timeout": SECONDS, "rss_limit_mb": MEGABYTES, "artifact_prefix": f"{folder}/"}
    options |= {"dict": folder / WORDS, "verbosity": 0, "close_fd_mask": 3}  # libtiff complains of each picture
    atheris.Setup([sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(folder / CORPUS)], one)
    atheris.Fuzz()


def note(folder: Path, error: Exception, data: bytes, seen: set[str]) -> None:
    """Keeps the first input of each fault, told apart by the type of the error and the line that it comes from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {frame.name}, line {frame.lineno} of {Path(frame.filename).name}"
    if place in seen:
        return
    seen.add(place)
    kept = folder / f"fault-{hashlib.sha256(data).hexdigest()[:16]}"
    kept.write_bytes(data)
    trace = traceback.format_exception(error)
    with open(folder / FAULTS, "a", encoding="utf-8") as file:
        print(json.dumps({"place": place, "input": str(kept), "error": str(error)[:500], "trace": trace}), file=file)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
