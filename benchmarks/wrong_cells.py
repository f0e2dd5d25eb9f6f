"""Whether VAEDetector finds wrong cells, and names them.

    VAE_JAX_DATA=FOLDER PYTHONPATH=. .venv/bin/python -m benchmarks.wrong_cells claims

One cell of each of 1,000 normal rows is replaced by another value of its column, all as likely. Prints Markdown: how
well changed rows are told from the same rows unchanged, and how often the cell is named first, or among the first
three; mean ± standard deviation over seeds. Rows are those of `benchmarks.columns`. Choose settings with `--on
validation`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from tyro.conf import Positional

from benchmarks import columns
from experiments.command_line import UsageError, parse, run
from experiments.startup import prepare_jax
from vae_jax import VAEDetector

MOST = 1_000  # rows that are changed


@dataclass(frozen=True)
class WrongCellsConfig:
    """Measure how VAEDetector finds and names wrong cells."""

    task: Positional[Literal["claims", "adult", "kdd99", "transactions"]] = "claims"
    """Table to take."""
    on: Literal["validation", "test"] = "test"
    """Rows to measure."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the split, of the cells and of the models."""
    epochs: int = 100
    """Passes over the training rows, of the recipe gaussian."""


def main(arguments: Sequence[str]) -> None:
    """Measures with each seed and prints the table."""
    config = parse(WrongCellsConfig, "python -m benchmarks.wrong_cells", arguments)
    if not columns.FOLDER.name:
        raise UsageError("set VAE_JAX_DATA to the folder with the data sets")
    of_seeds = [measure(config, seed) for seed in config.seeds]
    print(f"`{config}`\n\n| | found, ROC AUC | named first | among three |\n| --- | ---: | ---: | ---: |")
    for recipe in of_seeds[0]:
        values = np.array([of[recipe] for of in of_seeds])
        cells = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(values.mean(0), values.std(0), strict=True)]
        print(f"| `{recipe}` | {' | '.join(cells)} |")


def measure(config: WrongCellsConfig, seed: int) -> dict[str, list[float]]:
    """The three measures of each recipe."""
    rows = TABLES[config.task](config.on, seed)
    found = {}
    for recipe, epochs in (("exemplar", None), ("gaussian", config.epochs)):
        detector = VAEDetector(recipe, epochs=epochs, seed=seed).fit(rows.train)
        names = list(detector.features_.modelled)
        original, changed, places = with_wrong_cells(rows, names, np.random.default_rng(seed))
        suspicion = -np.concatenate([detector.score_samples(original), detector.score_samples(changed)])
        shares = detector.explain(changed)
        named = detector.most_suspicious(shares.to_numpy(), 3) == places[:, None]
        is_changed = np.repeat([False, True], len(changed))
        found[recipe] = [roc_auc_score(is_changed, suspicion), named[:, 0].mean(), named.any(1).mean()]
    return found


def with_wrong_cells(
    rows: columns.Rows, names: list[str], rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Rows, the same with a wrong cell each, and the places of these among the names."""
    original = rows.normal.iloc[rng.permutation(len(rows.normal))[:MOST]].reset_index(drop=True)
    changed, places = original.astype(object), np.empty(len(original), np.int64)
    values = {name: rows.train[name].dropna().unique() for name in names}
    several = [place for place, name in enumerate(names) if len(values[name]) > 1]
    for i in range(len(original)):
        places[i] = rng.choice(several)
        name = names[places[i]]
        others: Any = values[name]
        changed.loc[i, name] = rng.choice(others[others != original.loc[i, name]])
    return original, changed.astype(original.dtypes.to_dict()), places


TABLES = {
    "claims": columns.claims_rows,
    "adult": columns.adult_rows,
    "kdd99": columns.kdd99_rows,
    "transactions": columns.transactions_rows,
}

if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
