"""Our speed compared with other libraries on the same machine, and with the machine's limits.

    bash run.sh bench --help

In each row the sides (processes of their own, see `sides.py`) take turns; figures are medians over the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks import rows, scaling
from benchmarks.results import Result, show
from benchmarks.rows import ROOT, Bench
from benchmarks.sides import SECONDS, SideError
from experiments.command_line import RunError, UsageError, parse, run
from experiments.runs import stopping
from experiments.runs.progress import console

COMMAND = "bash run.sh bench"
SCALING = "scaling"  # how cost grows: a study of its own, without peers
OUR_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")
PEER_PACKAGES = ("torch", "keras", "tensorflow", "tensorflow-cpu", "pyod", "numpy")
FIND_VERSIONS = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class BenchConfig:
    """Compare speed with PyTorch's, Keras's and the machine's limits. Ratios: higher is better."""

    suite: Literal["cpu", "gpu"] = "cpu"
    """Which rows to measure, and on which device; cpu uses no GPU even if there is one."""
    only: tuple[str, ...] = ()
    """Rows to measure: names, or their beginnings up to an underscore (fraud, fraud_train, ...); by default the whole \
suite."""
    rounds: int = 5
    """Number of rounds; in each, every side works once."""
    seconds: float = SECONDS
    """Approximate working time of a side per round."""
    output: str | None = None
    """JSON file for the results; a plot of how cost grows goes beside it."""


def main(arguments: Sequence[str]) -> None:
    """Measures the rows, prints tables and writes the file."""
    config = parse(BenchConfig, COMMAND, arguments)
    check(config)
    names = choose(config)
    output = console()
    python = os.environ.get("VAE_JAX_BENCH_PYTHON", "")
    record = {"machine": describe_machine(python, arguments), "results": []}
    with stopping.immediate(), tempfile.TemporaryDirectory() as folder:
        bench = Bench(config.suite, config.rounds, config.seconds, python, Path(folder))
        for name in names:
            output.print(f"measuring {name}")
            try:
                measure(name, bench, record, output)
            except SideError as error:
                raise RunError(f"{name}: {error}") from error
            write(config.output, record)
    if SCALING in record:
        output.print(f"plot    {scaling.draw(record[SCALING], config.output)}", soft_wrap=True)
    if record["results"]:
        output.print(summary_table(record["results"]))


def measure(name: str, bench: Bench, record: dict, output: Console) -> None:
    """Measures a row, prints its table and adds it to the record."""
    if name == SCALING:
        record[SCALING] = scaling.measure(bench)
        for table in scaling.tables(record[SCALING]):
            output.print(table)
    else:
        result = rows.ROWS[name].measure(bench)
        output.print(result_table(result))
        record["results"].append(result.record())


def check(config: BenchConfig) -> None:
    """Raises UsageError, naming the option, for an invalid value."""
    if config.rounds < 1:
        raise UsageError(f"--rounds {config.rounds}: expected 1 or more")
    if not config.seconds > 0:
        raise UsageError(f"--seconds {config.seconds}: expected more than 0")
    if config.output is not None and not Path(config.output).absolute().parent.is_dir():
        raise UsageError(f"--output {config.output}: there is no such folder")


def choose(config: BenchConfig) -> list[str]:
    """The names of the rows to measure, in order."""
    possible = [name for name, row in rows.ROWS.items() if config.suite in row.suites]
    possible += [SCALING] if config.suite == "cpu" else []
    for word in config.only:
        if not any(f"{name}_".startswith(f"{word}_") for name in possible):
            raise UsageError(f"--only {word}: no such row in suite {config.suite}; there are {', '.join(possible)}")
    words = config.only or possible
    return [name for name in possible if any(f"{name}_".startswith(f"{word}_") for word in words)]


def describe_machine(peer_python: str, arguments: Sequence[str]) -> dict:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "gpu": _first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "cores": len(os.sched_getaffinity(0)),
        "os": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in OUR_PACKAGES},
        "peers": json.loads(_first_line(peer_python, "-c", FIND_VERSIONS, *PEER_PACKAGES) or "{}"),
        "commit": _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
        "command": shlex.join([*COMMAND.split(), *arguments]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _first_line(*command: str) -> str | None:
    """The first line of a program's output, or None if it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return next(iter(done.stdout.splitlines()), None)


def result_table(result: Result) -> Table:
    """The sides of a row."""
    table = Table(title=f"{result.name}, {result.unit}", title_justify="left")
    for title in ("side", "median", "lowest to highest", "ours against it", "left out"):
        table.add_column(title, justify="left" if title in ("side", "left out") else "right")
    for side in result.values:
        table.add_row(*result.cells(side))
    for side, reason in result.failed.items():
        table.add_row(side, "-", "", "", f"did not run: {reason}")
    if result.limit is not None:
        table.caption = f"limit {show(result.limit)}: {result.limit_arithmetic}"
    return table


def summary_table(records: Sequence[dict]) -> Table:
    """One line per row."""
    table = Table(title="Medians. Ratio: how many times better than the best peer. Of limit: share of it reached.")
    for title in ("row", "unit", "ours", "best peer", "ratio (spread)", "limit", "of limit"):
        table.add_column(title, justify="left" if title in ("row", "unit") else "right")
    for record in records:
        spread = record["ratio_spread"]
        best = record["peers"].get(record["best_peer"])
        table.add_row(
            record["name"],
            record["unit"],
            show(record["ours"]),
            "-" if best is None else show(best),
            "-" if best is None else f"{record['ratio_to_best_peer']:.2f} ({spread[0]:.2f} to {spread[1]:.2f})",
            "-" if record["limit"] is None else show(record["limit"]),
            "-" if record["limit"] is None else f"{record['ratio_to_limit']:.3g}",
        )
    return table


def write(path: str | None, record: dict) -> None:
    """Writes the record so far, atomically."""
    if path is None:
        return
    partial = Path(f"{path}.partial")
    try:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise RunError(f"--output {path}: can't be written ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
