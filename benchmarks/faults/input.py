"""Hostile and broken input: every reader fuzzed, each in a process of its own.

An input is survived if it is read or refused with the reader's own error in one line: no other error, no crash, no more
than some seconds and gigabytes, and nothing read that the input doesn't say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.faults import runs
from benchmarks.faults.outcome import NOTHING, Outcome
from benchmarks.faults.readers import NAMES, reader_of
from benchmarks.faults.readers.fuzz import ACCEPTED, CORPUS, COUNTS, FAULTS, FAULTY, TRIED, WORDS
from benchmarks.faults.settings import Settings

TRIES, SECONDS = 1_000_000, 10_800  # for each reader, whichever comes first
OF_A_PROCESS = 100_000  # tries, before memory that libraries lose little by little reaches what one input may take
MOST_ENDS = 20  # processes that an input may end before a reader is given up
IN_MEMORY = Path("/dev/shm")


def outcomes(settings: Settings, names: tuple[str, ...] = NAMES) -> Iterator[Outcome]:
    """Fuzzes the readers, as many at once as this process may use cores."""
    with (
        tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else settings.folder) as folder,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        runs.all_stopped(),
    ):
        yield from pool.map(lambda name: fuzzed(name, Path(folder, name), settings), names)


def fuzzed(name: str, folder: Path, settings: Settings) -> Outcome:
    """Fuzzes one reader until tries or time are used up, in one process after another; an input may end one early."""
    reader = reader_of(name)
    _prepare(folder, reader.seeds(), reader.words)
    tries, end = settings.number(TRIES), time.monotonic() + settings.number(SECONDS)
    counts = np.memmap(folder / COUNTS, np.int64, "w+", shape=3)
    ends: list[str] = []
    begun = 0
    while (
        (left := tries - int(counts[TRIED])) > 0 and (seconds := end - time.monotonic()) > 1 and len(ends) < MOST_ENDS
    ):
        options = [name, folder, min(left, OF_A_PROCESS), int(seconds), settings.seed + begun]
        command = [sys.executable, "-m", "benchmarks.faults.readers.fuzz", *options]
        process = runs.begin(command, stdout=subprocess.PIPE, errors="replace")
        output, errors = process.communicate()
        (folder / f"log-{begun}").write_text(output + errors)
        begun += 1
        if process.returncode:
            ends.append(_reason(errors))
    tried, faulty = int(counts[TRIED]), int(counts[FAULTY])
    lost = [*dict.fromkeys([*_places(folder), *ends])]
    return Outcome(
        reader.title,
        tried,
        tried - faulty - len(ends),
        "; ".join(lost) or NOTHING,
        f"{int(counts[ACCEPTED]):,} read, the others refused",
    )


def _prepare(folder: Path, seeds: Sequence[bytes], words: Sequence[bytes]) -> None:
    (folder / CORPUS).mkdir(parents=True)
    for i, seed in enumerate(seeds):
        (folder / CORPUS / str(i)).write_bytes(seed)
    quoted = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in words)
    (folder / WORDS).write_text("\n".join(quoted) + "\n")


def _places(folder: Path) -> list[str]:
    """Where faults came from."""
    if not (folder / FAULTS).exists():
        return []
    return [json.loads(line)["place"] for line in (folder / FAULTS).read_text(encoding="utf-8").splitlines()]


def _reason(log: str) -> str:
    """Why a process ended, in libFuzzer's words."""
    found = [line.partition("libFuzzer: ")[2] for line in log.splitlines() if "ERROR: libFuzzer: " in line]
    return found[0] if found else (log.strip().splitlines() or ["no reason given"])[-1][:200]
