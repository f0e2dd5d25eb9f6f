"""Rate of reading rows of text, without scoring: the score command's reader, an earlier one, and others' readers.

    git worktree add ../before COMMIT
    PYTHONPATH=. .venv/bin/python -m benchmarks.readers --before ../before

Simulated transactions of 31 columns, repeated to a million rows. Every reading is a process of its own, and the sides
take turns. Rates leave out the first part of the rows, in which modules are imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.score_stream import ROOT
from experiments.command_line import RunError, parse, run
from experiments.runs.progress import console
from vae_jax.tables.synthetic import simulate_transactions

ROWS, TIMES = 10_101, 99  # different rows, and how often they are repeated
PEERS = ("pyarrow", "pandas")


@dataclass(frozen=True)
class ReadersConfig:
    """Measure rates of reading."""

    before: str | None = None
    """Folder of another checkout, to be measured beside this one."""
    rounds: int = 5
    """Rounds; the medians count."""
    seconds: float = 5.0
    """Longest time of a reading, after which the rows read so far count."""


def cut(row: str) -> str:
    """A row without its end: a cell too few, or no JSON."""
    return row.rpartition(",")[0]


def word(row: str) -> str:
    """A row with a word for a number."""
    before, _, rest = row.partition(",")
    name, colon, _ = rest.partition(",")[0].rpartition(": ")
    quote = '"' if colon else ""
    return ",".join([before, f"{name}{colon}{quote}two{quote}", rest.partition(",")[2]])


# Of how many rows the middle one is broken, and what breaks them, in turns.
BROKEN: dict[str, tuple[int, Sequence[Callable[[str], str]]]] = {
    "none": (2 * ROWS, (cut,)),
    "99, cut off": (ROWS, (cut,)),
    "99, a word for a number": (ROWS, (word,)),
    "1 %, both": (100, (cut, word)),
}


def main(arguments: Sequence[str]) -> None:
    """Measures each format and kind of broken rows, and prints the table."""
    config = parse(ReadersConfig, "python -m benchmarks.readers", arguments)
    sides = {"before": config.before} if config.before else {}
    ours = {**sides, "now": str(ROOT)}
    table = Table(title="thousand rows a second, and in brackets a second of CPU time; medians")
    for title in ("format", "broken rows", *ours, *PEERS):
        table.add_column(title)
    frame = simulate_transactions(rows=ROWS)
    header = ",".join(frame.columns) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "rows")
        for name, text in (
            ("csv", frame.to_csv(index=False, header=False)),
            ("jsonl", "".join(json.dumps(row) + "\n" for row in frame.to_dict("records"))),
        ):
            for kind, (every, breaks) in BROKEN.items():
                rows = text.splitlines()
                for i in range(every // 2, ROWS, every):
                    rows[i] = breaks[i // every % len(breaks)](rows[i])
                body.write_text(header + "\n".join(rows) + "\n")
                runs = [(side, "score", at) for side, at in ours.items()]
                runs += [(peer, peer, str(ROOT)) for peer in PEERS if kind == "none"]
                rates = {side: [] for side, _, _ in runs}
                for _ in range(config.rounds):
                    for side, reader, at in runs:
                        rates[side].append(read(reader, at, name, body, config.seconds))
                cells = [_medians(rates[side]) for side in rates]
                table.add_row(name, kind, *cells)
                console().print(name, kind, dict(zip(rates, cells, strict=True)))
    console().print(table)


def read(reader: str, sources: str, file_format: str, body: Path, seconds: float) -> tuple[float, float]:
    """Thousand rows a second, and a second of CPU time, in a process of its own."""
    todo = {"side": reader, "format": file_format, "body": str(body), "times": TIMES, "seconds": seconds}
    script = Path(__file__).with_name("reader_side.py")
    command = [sys.executable, str(script), json.dumps(todo)]
    done = subprocess.run(command, env={"PYTHONPATH": sources}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{reader} of {sources} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    sound, broken, taken, used = json.loads(done.stdout)
    return (sound + broken) / taken / 1e3, (sound + broken) / used / 1e3


def _medians(rates: Sequence[tuple[float, float]]) -> str:
    wall, cpu = (median(of) for of in zip(*rates, strict=True))
    return f"{wall:,.0f} ({cpu:,.0f})"


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
