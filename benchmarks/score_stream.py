"""Rate and memory of the score command, from ten thousand to ten million rows.

    PYTHONPATH=. .venv/bin/python -m benchmarks.score_stream --model FOLDER

A few thousand simulated rows are repeated, since their content affects neither time nor memory. CSV comes through a
pipe and is never on disk; Parquet, which must be a file, is a temporary one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from experiments.command_line import RunError, UsageError, parse, run
from experiments.runs.progress import console
from vae_jax.tables.synthetic import simulate_transactions

ROOT = Path(__file__).parent.parent
DIFFERENT = 20_000  # simulated rows, which are repeated


@dataclass(frozen=True)
class ScoreStreamConfig:
    """Measure rate and memory of the score command."""

    model: str | None = None
    """Folder of a saved model of card transactions. Required."""
    rows: tuple[int, ...] = (10_000, 1_000_000, 10_000_000)
    """Numbers of rows to measure, in rising order."""
    formats: tuple[Literal["csv", "parquet"], ...] = ("csv", "parquet")
    """Formats of the input; the output is CSV."""
    explain: int = 0
    """Passed to the score command's --explain."""


@dataclass(frozen=True)
class Cost:
    """Of one call: seconds from start to end, and peak memory in bytes."""

    seconds: float
    memory: int


def main(arguments: Sequence[str]) -> None:
    """Measures each format and size, and prints the table."""
    config = parse(ScoreStreamConfig, "python -m benchmarks.score_stream", arguments)
    if config.model is None:
        raise UsageError("--model: expected the folder of a saved model")
    output = console()
    table = Table(title="score command, including start-up")
    for title in ("input", "rows", "seconds", "rows/s", "rows/s of the added rows", "peak memory, MB"):
        table.add_column(title, justify="left" if title == "input" else "right")
    for name in config.formats:
        before: tuple[int, float] | None = None
        for rows in config.rows:
            cost = MEASURES[name](config, rows)
            further = (rows - before[0]) / (cost.seconds - before[1]) if before else None
            numbers = f"{rows:,}", f"{cost.seconds:,.1f}", f"{rows / cost.seconds:,.0f}"
            table.add_row(name, *numbers, f"{further:,.0f}" if further else "-", f"{cost.memory / 1e6:,.0f}")
            output.print(f"{name}, {rows:,} rows: {cost.seconds:,.1f} s, {cost.memory / 1e6:,.0f} MB")
            before = rows, cost.seconds
    output.print(table)


def measure_csv(config: ScoreStreamConfig, rows: int) -> Cost:
    """Rows as text through a pipe."""
    header, _, body = simulate_transactions(rows=DIFFERENT).to_csv(index=False).encode().partition(b"\n")
    short = b"".join(line + b"\n" for line in body.splitlines()[: rows % DIFFERENT])

    def feed(pipe: IO[bytes]) -> None:
        with suppress(BrokenPipeError), pipe:  # the command has failed, which `measure` reports
            pipe.write(header + b"\n")
            for _ in range(rows // DIFFERENT):
                pipe.write(body)
            pipe.write(short)

    return measure(config, "-", rows, feed)


def measure_parquet(config: ScoreStreamConfig, rows: int) -> Cost:
    """Rows in a file with a single row group, the hardest case for memory."""
    table = pa.Table.from_pandas(simulate_transactions(rows=DIFFERENT), preserve_index=False)
    whole = pa.concat_tables([table] * (rows // DIFFERENT) + [table.slice(0, rows % DIFFERENT)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pq.write_table(whole, path, row_group_size=max(rows, 1))
        return measure(config, str(path), rows, lambda pipe: pipe.close())


MEASURES = {"csv": measure_csv, "parquet": measure_parquet}


def measure(config: ScoreStreamConfig, source: str, rows: int, feed: Callable[[IO[bytes]], None]) -> Cost:
    """Runs the command without run.sh; raises RunError if it fails or does not score all rows."""
    words = ["--model", str(config.model), "--input", source, "--explain", str(config.explain)]
    command = [sys.executable, "-m", "experiments.score", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, **pipes)
    feeding = threading.Thread(target=feed, args=(process.stdin,), daemon=True)
    feeding.start()
    said = process.stderr.read().decode()
    # Not Popen.wait, which drops the resource usage.
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not re.search(rf"\b{rows:,} rows scored", said):
        raise RunError(f"{' '.join(command)} ended with {process.returncode}: {said.strip().splitlines()[-1:]}")
    return Cost(seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
