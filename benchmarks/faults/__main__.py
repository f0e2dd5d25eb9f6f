"""Does to runs and readers what the world does to them, counts what they survive, and writes benchmarks/FAULTS.md.

    bash run.sh faults --help

Each part is a module of this folder with a generator `outcomes(settings)`. A short form of each is among the tests.
"""

from __future__ import annotations

import importlib
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from benchmarks.faults import runs
from benchmarks.faults.outcome import HEADER, Outcome, write_line, write_section
from benchmarks.faults.readers import NAMES as READERS
from benchmarks.faults.settings import Settings
from experiments.command_line import RunError, UsageError, parse, require, run
from experiments.runs import stopping
from experiments.runs.progress import console

COMMAND = "bash run.sh faults"
FAULTS = Path(__file__).parent.parent / "FAULTS.md"
PARTS = {  # module and heading of each
    "kills": "Kills and signals",
    "disk": "Disk and file system",
    "numbers": "Numbers gone wrong",
    "input": "Hostile and broken input",
    "determinism": "Determinism",
    "concurrency": "Several at once",
    "long": "Long run",
}


@dataclass(frozen=True)
class FaultsConfig:
    """Break runs, disks, numbers and input in every way that was thought of, and count what was survived."""

    only: tuple[str, ...] = ()
    """Parts: kills, disk, numbers, input, determinism, concurrency, long; by default all of them, which takes a day."""
    readers: tuple[str, ...] = ()
    """With --only input: readers to fuzz, e.g. score_csv; by default all of them. Only their lines are written anew."""
    tries: float = 1.0
    """Share of the usual number of tries, e.g. 0.1 for a tenth."""
    seed: int = 0
    """Seed of all random choices, such as the moment of a kill."""
    write: bool = True
    """Write the outcomes into benchmarks/FAULTS.md."""


def main(arguments: Sequence[str]) -> None:
    """Runs the parts, prints a table of each and writes it; raises RunError if anything was lost."""
    config = parse(FaultsConfig, COMMAND, arguments)
    require(config, [("tries", config.tries > 0, "more than 0")])
    if unknown := [name for name in config.only if name not in PARTS]:
        raise UsageError(f"--only {unknown[0]}: expected some of {', '.join(PARTS)}")
    if unknown := [name for name in config.readers if name not in READERS]:
        raise UsageError(f"--readers {unknown[0]}: expected some of {', '.join(READERS)}")
    if config.readers and config.only != ("input",):
        raise UsageError("--readers needs --only input")
    output, lost = console(), []
    with stopping.immediate(), runs.all_stopped():
        for name in config.only or PARTS:
            lost += [outcome for outcome in _measure(name, config, output) if outcome.survived < outcome.tries]
    if lost:
        raise RunError(f"not all survived: {'; '.join(outcome.fault for outcome in lost)}")


def _measure(name: str, config: FaultsConfig, output: Console) -> list[Outcome]:
    """Runs one part in a folder of its own, showing and writing each outcome as it comes: a part takes hours."""
    output.print(PARTS[name], style="bold")
    outcomes = []
    names = [config.readers] if config.readers else []
    with tempfile.TemporaryDirectory(prefix=f"faults_{name}_") as folder:
        settings = Settings(Path(folder), config.tries, config.seed)
        for outcome in importlib.import_module(f"benchmarks.faults.{name}").outcomes(settings, *names):
            output.print("  ".join(outcome.cells), soft_wrap=True)
            outcomes.append(outcome)
            if config.write and config.readers:
                write_line(FAULTS, PARTS[name], outcome)
            elif config.write:
                command = " ".join([COMMAND, "--only", name, *_tries(config)])
                write_section(FAULTS, PARTS[name], command, _machine(), outcomes)
    table = Table(*HEADER, title=PARTS[name])
    for outcome in outcomes:
        table.add_row(*outcome.cells)
    output.print(table)
    return outcomes


def _tries(config: FaultsConfig) -> list[str]:
    words = [("--tries", config.tries, 1.0), ("--seed", config.seed, 0)]
    return [shlex.quote(str(word)) for option, value, usual in words if value != usual for word in (option, value)]


def _machine() -> str:
    device = jax.devices()[0]
    return f"{jax.local_device_count()} x {device.device_kind}, jax {jax.__version__}, {time.strftime('%Y-%m-%d')}"


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
