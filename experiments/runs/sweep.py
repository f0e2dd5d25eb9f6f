"""A sweep: train at each weight of the reconstruction term, and measure on validation data only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from experiments.command_line import RunError, UsageError
from experiments.runs import stopping
from experiments.runs.experiment import Experiment
from experiments.runs.progress import console
from experiments.startup import use_cores


def sweep(
    experiment: Experiment,
    configs: Mapping[float, Any],
    columns: Sequence[str],
    measure: Callable[[Any, Any], list[str]],
    describe: Callable[[Any], str],
) -> None:
    """Trains at each weight and prints a table with a row per weight; one that fails does not keep the others from it.

    Args:
      experiment: what is trained.
      configs: by weight; all use the same data.
      columns: titles of the measures.
      measure: (config, inputs) -> the cells of a row.
      describe: inputs -> what the table is measured on.

    Raises:
      RunError: at the end, if a weight failed.
    """
    if not configs:
        raise UsageError("--weights: expected at least one weight")
    for weight in configs:
        if not 0 < weight < math.inf:
            raise UsageError(f"--weights {weight:g}: expected more than 0")
    # Of 80 columns, so that the usual terminal cuts off nothing.
    output, table, inputs = console(), Table(box=box.SIMPLE_HEAD, padding=0), None
    failures = []
    for title in ("weight", *columns):
        table.add_column(title.replace(" ", "\n"), justify="right", overflow="fold")
    with stopping.immediate():
        for config in configs.values():  # before hours of training
            use_cores(experiment.divided(config))
            experiment.check(experiment.settle(config))
        try:
            for weight, config in configs.items():
                config = experiment.settle(config)
                inputs = inputs or experiment.prepare(config)
                output.print(f"weight  {weight:g}")
                try:
                    table.add_row(f"{weight:g}", *measure(config, inputs))
                except RunError as error:
                    failures.append(f"--weights {weight:g}: {error}")
                    table.add_row(f"{weight:g}", "failed")
        finally:  # what was measured before a failure or Ctrl-C
            if table.row_count:
                output.print(describe(inputs))
                output.print(table)
    if failures:
        raise RunError("; ".join(failures))
