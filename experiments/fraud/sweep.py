"""The sweep behind the report recipe's default weight: train at each weight, measure on validation rows only."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from experiments import PROGRAM
from experiments.command_line import parse, run
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import FRAUD, Inputs
from experiments.fraud.models import fitted, score_rows, train_recipe
from experiments.runs import run_folder
from experiments.runs.loop import read_log
from experiments.runs.progress import console
from experiments.runs.sweep import sweep
from experiments.startup import prepare_jax
from vae_jax.detector.recipes import posterior_means
from vae_jax.training import active_latents

COMMAND = f"{PROGRAM} sweep"


@dataclass(frozen=True)
class SweepConfig:
    """Compare weights of the RMSE in the report recipe, measured on validation rows only."""

    data: str = "auto"
    """Transactions to use, as in the fraud command."""
    weights: tuple[float, ...] = (1, 10, 30, 100, 300, 1000, 3000, 10000)
    """Weights to try."""
    epochs: int = 200
    """Passes over the training rows."""
    num_models: int = 4
    """Models trained at each weight; the table shows their mean ± standard deviation."""
    seed: int = 0
    """Random seed."""


def main(arguments: Sequence[str]) -> None:
    """Runs the sweep."""
    config = parse(SweepConfig, COMMAND, arguments)
    options = {name: value for name, value in asdict(config).items() if name != "weights"}
    sweep(
        FRAUD,
        {weight: FraudConfig(**options, report_weight=weight, recipes=("report",)) for weight in config.weights},
        ("RMSE", "KL (nats)", "active latents", "ROC AUC", "average precision", "of the average"),
        measure_weight,
        lambda inputs: f"validation rows of {inputs.table.source}",
    )


def measure_weight(config: FraudConfig, inputs: Inputs) -> list[str]:
    """Trains the report recipe, and returns the cells of its row."""
    with tempfile.TemporaryDirectory() as folder:
        opened = run_folder.create("sweep", folder, config)
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
