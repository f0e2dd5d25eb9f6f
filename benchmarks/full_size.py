"""The whole fraud experiment on as many rows as the original report had, with the time of each stage.

    PYTHONPATH=. .venv/bin/python -m benchmarks.full_size

The rows are stand-ins (see `stand_in.py`) in a temporary file: they show how long a run takes, and nothing about
frauds.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from rich.table import Table

import experiments.fraud.__main__ as fraud
from benchmarks.stand_in import FULL_ROWS, write_stand_in
from experiments.command_line import UsageError, parse, run
from experiments.runs.progress import console
from experiments.startup import prepare_jax

REPORT_HOURS = 7.5  # time of the report's run
# The experiment's stages, by function name.
STAGES = {
    "train_recipe": "train",
    "apply": "score",
    "evaluate": "measure",
    "conclude": "baselines, figures and page",
}


@dataclass(frozen=True)
class FullSizeConfig:
    """Run the fraud experiment on 284,807 stand-in rows, and show how long each stage takes."""

    epochs: int = 1000
    """Passes over the training rows; the original report made 1,000."""
    rows: int = FULL_ROWS
    """Number of rows."""
    recipes: tuple[str, ...] = ("report", "gaussian")
    """Models to train: report, gaussian."""


def main(arguments: Sequence[str]) -> None:
    """Writes the rows, runs the experiment and prints the table."""
    config = parse(FullSizeConfig, "python -m benchmarks.full_size", arguments)
    source = Path(os.environ.get("VAE_JAX_DATA", ""), "creditcard", "creditcard.csv")
    if not source.exists():
        raise UsageError(f"{source}: no such file; set VAE_JAX_DATA to the folder with creditcard/creditcard.csv")
    output = console()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "creditcard.csv")
        write_stand_in(path, config.rows, source)
        output.print(f"{config.rows:,} stand-in rows, {path.stat().st_size / 1e6:,.0f} MB")
        words = ["--data", str(path), "--run-dir", f"{folder}/run", "--epochs", str(config.epochs), "--recipes"]
        stages = timed_run([*words, *config.recipes])
    output.print(stage_table(config, stages))


def timed_run(arguments: Sequence[str]) -> dict[str, float]:
    """Runs the experiment; returns the seconds of each stage, in order."""
    stages: dict[str, float] = {}
    started = time.perf_counter()
    with ExitStack() as stack:
        for name, title in STAGES.items():
            stack.enter_context(mock.patch.object(fraud, name, timed(stages, title, getattr(fraud, name))))
        fraud.main(arguments)
    total = time.perf_counter() - started
    return {"read, split and standardise": total - sum(stages.values()), **stages, "all": total}


def timed(stages: dict[str, float], title: str, function: Callable) -> Callable:
    """Wraps a stage to record its seconds under its title and, if it has one, its recipe."""

    @functools.wraps(function)
    def wrapper(*arguments):
        started = time.perf_counter()
        found = function(*arguments)
        recipe = f" {arguments[0]}" if isinstance(arguments[0], str) else ""
        stages[title + recipe] = time.perf_counter() - started
        return found

    return wrapper


def stage_table(config: FullSizeConfig, stages: dict[str, float]) -> Table:
    """The stages compared with the report's time."""
    table = Table(title=f"{config.rows:,} rows, {config.epochs:,} epochs; the report took {REPORT_HOURS} hours")
    for title in ("stage", "seconds", "share of the report's time"):
        table.add_column(title, justify="left" if title == "stage" else "right")
    for title, seconds in stages.items():
        table.add_row(title, f"{seconds:,.1f}", f"{seconds / (3600 * REPORT_HOURS):.2%}")
    return table


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
