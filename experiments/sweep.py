"""The sweep behind the default weight of the report recipe: train at each weight, measure on validation rows alone."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from sklearn.metrics import average_precision_score, roc_auc_score

from experiments import runs, stopping
from experiments.command_line import UsageError, parse, run
from experiments.fraud_config import FraudConfig, check
from experiments.fraud_recipes import Inputs, fitted, prepare, score_rows, train_recipe
from experiments.loop import read_log
from experiments.progress import console
from experiments.startup import prepare_jax, use_cores
from vae_jax.recipes import posterior_means
from vae_jax.training import active_latents

COMMAND = "bash run.sh sweep"


@dataclass(frozen=True)
class SweepConfig:
    """Measure weights of the RMSE in the report recipe, on validation rows alone."""

    data: str = "auto"
    """Where the transactions come from, as for the fraud command."""
    weights: tuple[float, ...] = (1, 10, 30, 100, 300, 1000, 3000, 10000)
    """Weights to measure."""
    epochs: int = 200
    """Passes over the training rows."""
    num_models: int = 4
    """Models at each weight; the table shows their mean ± standard deviation."""
    seed: int = 0
    """Seed of everything random."""


def main(arguments: Sequence[str]) -> None:
    """Prints a table, a row for each weight."""
    config = parse(SweepConfig, COMMAND, arguments)
    if not config.weights:
        raise UsageError("--weights: expected at least one weight")
    output = console()
    table = Table()
    for title in ("weight", "RMSE", "KL (nats)", "active latents", "ROC AUC", "average precision", "of the average"):
        table.add_column(title, justify="right")
    with stopping.immediate():
        inputs = None
        for weight in config.weights:
            fraud = FraudConfig(
                data=config.data,
                report_weight=weight,
                epochs=config.epochs,
                num_models=config.num_models,
                seed=config.seed,
                recipes=("report",),
            )
            use_cores(config.num_models)
            check(fraud)
            inputs = inputs or prepare(fraud)
            table.add_row(f"{weight:g}", *measure_weight(fraud, inputs))
    output.print(f"validation rows of {inputs.table.source}" if inputs else "")
    output.print(table)


def measure_weight(config: FraudConfig, inputs: Inputs) -> list[str]:
    """Trains the report recipe and returns the cells of its row."""
    with tempfile.TemporaryDirectory() as folder:
        opened = runs.create("sweep", folder, config)
        state = train_recipe("report", config, inputs, opened, console())
        log = read_log(opened, "report")[-1]
    rows = inputs.split.validation
    fraud = inputs.table.labels[rows]
    scores, _ = score_rows(fitted("report", state, config, inputs), inputs.x[rows])
    means = posterior_means(state.vae, state.params, inputs.x[rows])
    active = [int(active_latents(of_model[fraud == 0]).sum()) for of_model in means]
    return [
        f"{log['validation_reconstruction']:.3f}",
        f"{log['validation_kl']:.2f}",
        f"{min(active)} to {max(active)}",
        _spread([roc_auc_score(fraud, -values) for values in scores]),
        _spread([average_precision_score(fraud, -values) for values in scores]),
        f"{average_precision_score(fraud, -scores.mean(0)):.3f}",
    ]


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
