"""VAEDetector on tables of words, counts, yes and no, and gaps, beside scikit-learn's detectors.

    VAE_JAX_DATA=FOLDER PYTHONPATH=. .venv/bin/python -m benchmarks.columns claims

Prints Markdown: mean ± standard deviation over seeds. Normal rows are split 70/10/20 into training, validation and
test, anomalies 20/80 into validation and test. Choose settings with `--on validation`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tyro.conf import Positional, Suppress

from experiments.an_cho.kdd99 import COLUMNS, KINDS
from experiments.baselines import BASELINES, TITLES, Scorer, fifth_neighbour, pca_of_one_hot
from experiments.command_line import UsageError, parse, run
from experiments.startup import prepare_jax
from vae_jax import VAEDetector
from vae_jax.detector.settings import ModelSettings
from vae_jax.tables.cells import cells_of
from vae_jax.tables.files import read_frame
from vae_jax.tables.schema import Schema
from vae_jax.tables.splits import split_rows
from vae_jax.tables.text_numbers import to_numbers
from vae_jax.tables.transactions import load_transactions

Measured = dict[str, float]  # by title
FOLDER = Path(os.environ.get("VAE_JAX_DATA", ""))


@dataclass(frozen=True)
class ColumnsConfig(ModelSettings):
    """Measure VAEDetector on tables of columns of any kind."""

    task: Positional[Literal["claims", "adult", "kdd99", "kdd99_later", "gaps", "drowning"]] = "claims"
    """What to measure."""
    on: Literal["validation", "test"] = "test"
    """Rows to measure."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the split, of what is drawn and of the models."""
    seed: Suppress[int] = 0  # instead of it, each of `seeds`
    epochs: int = 100
    """Passes over the training rows, of the recipe gaussian; exemplar takes what makes 1,000 steps, at least one."""


class Rows(NamedTuple):
    """Normal rows to train on, and normal rows and anomalies of each class to measure."""

    train: Any
    normal: Any
    anomalies: dict[str, Any]

    def each(self, change: Callable[[pd.DataFrame], Any]) -> Rows:
        """All rows changed."""
        return Rows(change(self.train), change(self.normal), {name: change(of) for name, of in self.anomalies.items()})


def main(arguments: Sequence[str]) -> None:
    """Measures with each seed and prints the table."""
    config = parse(ColumnsConfig, "python -m benchmarks.columns", arguments)
    if not FOLDER.name:
        raise UsageError("set VAE_JAX_DATA to the folder with the data sets")
    of_seeds = [TASKS[config.task](config, seed) for seed in config.seeds]
    print(f"{TASKS[config.task].__doc__}\n\n`{config}`\n\n{markdown(of_seeds)}")


def markdown(of_seeds: Sequence[Mapping[str, Measured]]) -> str:
    """A table with a line for each detector."""
    titles, *_ = of_seeds[0].values()
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for name in of_seeds[0]:
        values = {title: [found[name][title] for found in of_seeds] for title in titles}
        timed = {title: f"{np.mean(values[title]):,.1f}" for title in ("fit s", "rows/s")}
        cells = {title: f"{np.mean(of):.3f} ± {np.std(of):.3f}" for title, of in values.items()} | timed
        lines.append(f"| {name} | {' | '.join(cells.values())} |")
    return "\n".join(lines)


def measured(rows: Rows, fit: Callable[[Any], Scorer]) -> Measured:
    """Fits and scores. The rate is that of a second scoring, without compilation."""
    started = time.perf_counter()
    score = fit(rows.train)
    measures, fit_seconds = {}, time.perf_counter() - started
    normal = score(rows.normal)
    started = time.perf_counter()
    score(rows.normal)
    rate = len(rows.normal) / (time.perf_counter() - started)
    for name, anomalies in rows.anomalies.items():
        suspicion = -np.concatenate([normal, score(anomalies)])
        is_anomaly = np.arange(len(suspicion)) >= len(normal)
        measures[f"{name} ROC AUC".strip()] = float(roc_auc_score(is_anomaly, suspicion))
        measures[f"{name} AP".strip()] = float(average_precision_score(is_anomaly, suspicion))
    return {**measures, "fit s": fit_seconds, "rows/s": rate}


def vaes(
    rows: Rows, config: ColumnsConfig, seed: int, columns: Mapping[str, Any] | None = None, what: str = ""
) -> dict[str, Measured]:
    """Measures a detector of each recipe; of numbers alone with those of other tables, too."""
    settings = {field.name: getattr(config, field.name) for field in fields(ModelSettings)}
    found = {}
    for recipe, epochs in (("exemplar", None), ("gaussian", config.epochs)):
        detector = VAEDetector(recipe, **{**settings, "epochs": epochs, "seed": seed}, columns=columns)
        found[f"VAE, {recipe}{what}"] = measured(rows, lambda train, of=detector: of.fit(train).score_samples)
    return found


def compare(rows: Rows, config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Measures VAEs and the other detectors on the same rows."""
    encoded = one_hot(rows)
    others = {title: measured(encoded, lambda train, fit=fit: fit(train, seed)) for title, fit in OTHERS.items()}
    return vaes(rows, config, seed) | others


def one_hot(rows: Rows) -> Rows:
    """Standardised numbers, or logarithms if the VAE sees those, filled with the mean; 0 or 1 for each level."""
    schema = Schema.fit(rows.train)
    parts = {name: schema[name].parts[0] for name in schema.modelled}
    numbers = [name for name, part in parts.items() if part.likelihood in ("gaussian", "count")]

    def typed(frame: pd.DataFrame) -> pd.DataFrame:
        cells = {name: cells_of(frame[name]) for name in parts}
        for name in numbers:
            values = to_numbers(cells[name], schema.number_format)[0] if cells[name].dtype == object else cells[name]
            cells[name] = np.log1p(values) if parts[name].log else values
        return pd.DataFrame({name: of if name in numbers else of.astype(str) for name, of in cells.items()})

    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    standardised = make_pipeline(SimpleImputer(), StandardScaler())
    encoder = ColumnTransformer([("numbers", standardised, numbers)], remainder=levels).fit(typed(rows.train))
    return rows.each(lambda frame: encoder.transform(typed(frame)))


def divide(normal: pd.DataFrame, anomalies: Mapping[str, pd.DataFrame], on: str, seed: int, most: int = 10**9) -> Rows:
    """Splits both at random, and keeps at most `most` training rows and rows of each class."""
    rng, divided = np.random.default_rng(seed), []
    for frame, shares in [(normal, (0.7, 0.8)), *((of, (0.0, 0.2)) for of in anomalies.values())]:
        order = rng.permutation(len(frame))
        train, validation, test = np.split(order, [round(share * len(frame)) for share in shares])
        divided.append((frame.iloc[train[:most]], frame.iloc[(validation if on == "validation" else test)[:most]]))
    return Rows(*divided[0], {name: of for name, (_, of) in zip(anomalies, divided[1:], strict=True)})


def claims(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Fraudulent vehicle insurance claims."""
    return compare(claims_rows(config.on, seed), config, seed)


def adult(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Census rows with a doctorate, which no training row has: a check by construction."""
    return compare(adult_rows(config.on, seed), config, seed)


def kdd99(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Each class of attack against normal connections, in the 10 % file (An & Cho 2015).

    At most 20,000 training rows, and of a class.
    """
    return compare(kdd99_rows(config.on, seed), config, seed)


def kdd99_later(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """As `kdd99`, with the attacks of the later file, some of kinds that the 10 % file has not.

    At most 20,000 training rows, and of a class.
    """
    return compare(kdd99_rows(config.on, seed, "corrected.gz"), config, seed)


def claims_rows(on: str, seed: int) -> Rows:
    """Vehicle insurance claims."""
    frame, _ = read_frame(FOLDER / "claims" / "fraud_oracle.csv")
    is_fraud = frame.pop("FraudFound_P") == "1"
    return divide(frame[~is_fraud], {"": frame[is_fraud]}, on, seed)


def adult_rows(on: str, seed: int) -> Rows:
    """Census rows without a doctorate, and with one."""
    frame, _ = read_frame(FOLDER / "adult" / "adult.csv", drop=["education-num"])  # education again
    is_doctor = frame["education"] == "Doctorate"
    return divide(frame[~is_doctor], {"": frame[is_doctor]}, on, seed)


def kdd99_rows(on: str, seed: int, name: str = "kddcup.data_10_percent.gz") -> Rows:
    """The attacks of one file against the normal rows of the 10 % file."""
    normal, rows = (pd.read_csv(FOLDER / "kdd99" / of, names=COLUMNS) for of in ("kddcup.data_10_percent.gz", name))
    label = rows.pop("label").str.rstrip(".")
    normal = normal[normal.pop("label") == "normal."]
    classes = {name: rows[label.isin(of.split())] for name, of in KINDS.items()}
    return divide(normal, classes, on, seed, most=20_000)


def transactions_rows(on: str, seed: int) -> Rows:
    """Genuine and fraudulent card transactions."""
    table = load_transactions()
    frame = pd.DataFrame(table.features, columns=table.feature_names)
    split = split_rows(table.features, table.labels, table.time, "random", seed)
    held_out, is_fraud = frame.iloc[getattr(split, on)], table.labels[getattr(split, on)] == 1
    return Rows(frame.iloc[split.train], held_out[~is_fraud], {"": held_out[is_fraud]})


def gaps(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Card transactions of which 20 % of the cells are removed."""
    rng, complete = np.random.default_rng(seed), transactions_rows(config.on, seed)
    with_gaps = complete.each(lambda of: of.mask(rng.random(of.shape) < 0.2))
    filled = with_gaps.each(lambda of: of.fillna(with_gaps.train.mean()))
    tables = {"complete rows": complete, "gaps as they are": with_gaps, "gaps filled with the mean": filled}
    found: dict[str, Measured] = {}
    for name, of_table in tables.items():
        found |= vaes(of_table, config, seed, what=f", {name}")
    return with_fall(found)


def drowning(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Card transactions with a column of 1,000 levels that tells nothing."""
    rng, shares = np.random.default_rng(seed), 1 / np.arange(1, 1001)
    names = np.array([f"level {i}" for i in range(1000)], object)
    without = transactions_rows(config.on, seed)
    given = without.each(lambda of: of.assign(level=rng.choice(names, len(of), p=shares / shares.sum())))
    real = dict.fromkeys(without.train.columns, "real")  # as the numbers alone are seen
    found = vaes(without, config, seed, real, ", without it") | vaes(given, config, seed, real, ", with it")
    with mock.patch.multiple("vae_jax.tables.parts", MOST_RARE=1, FEWEST_RARE=1, MOST_LEVELS=1000):
        return with_fall(found | vaes(given, config, seed, real, ", with it, no level pooled"))


def with_fall(found: dict[str, Measured]) -> dict[str, Measured]:
    """Adds how far the average precision is below that of the same recipe's first table."""
    first: dict[str, float] = {}
    added = {}
    for name, of in found.items():
        _, recipe, *_ = name.split(", ")
        fall = first.setdefault(recipe, of["AP"]) - of["AP"]
        added[name] = {"AP": of["AP"], "fall of AP": fall} | of
    return added


OTHERS: dict[str, Callable[[np.ndarray, int], Scorer]] = {
    **{TITLES[name]: fit for name, fit in BASELINES.items()},
    "PCA, 90 % of the variance": pca_of_one_hot,
    "Local outlier factor": lambda train, seed: LocalOutlierFactor(novelty=True).fit(train).score_samples,
    "Distance to 5th neighbour": fifth_neighbour,
}
TASKS = {task.__name__: task for task in (claims, adult, kdd99, kdd99_later, gaps, drowning)}

if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
