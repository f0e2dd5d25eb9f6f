"""Anomaly detectors on the tables of ADBench, beside the published figures of 26 others.

    bash run.sh adbench --help

Protocols (Han et al. 2022, https://arxiv.org/abs/2206.09426; Livernoche et al. 2024,
https://arxiv.org/abs/2305.18593): a table of fewer than 1,000 rows is drawn to 1,000 with replacement, one of more than
50,000 to 50,000 without. Semi-supervised: the first half of its normal rows trains; the other half and all anomalies
are the test. Unsupervised: all rows train, anomalies among them, and all rows are the test.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from tyro.conf import Suppress

from benchmarks.adbench_page import FEWEST_ROWS, MEASURES, Comparison
from experiments.baselines import fifth_neighbour
from experiments.command_line import RunError, UsageError, parse, run
from experiments.runs import stopping
from experiments.runs.experiment import describe_machine
from experiments.runs.progress import console
from experiments.startup import prepare_jax
from vae_jax import VAEDetector
from vae_jax.detector.settings import ModelSettings, Recipe

COMMAND = "bash run.sh adbench"
MOST_ROWS = 50_000
# Added to the diagonal of the Mahalanobis distance's covariance of standardised columns, some of which are constant.
COVARIANCE_FLOOR = 1e-3
TITLES = {"vae": "VAEDetector", "mahalanobis": "Mahalanobis distance", "neighbours": "fifth neighbour"}
Detector = Literal["vae", "mahalanobis", "neighbours"]
Suspicion = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AdbenchConfig(ModelSettings):
    """Measure VAEDetector and two simple detectors on the tables of ADBench, beside published figures.

    Results go to a file as they come, and at the end to a page of the same name; a second call goes on where the first
    was stopped. Tables with odd numbers in their file names are for development, those with even ones are held out:
    look at them once, at the end.
    """

    data: str | None = None
    """Folder with classical/*.npz and published_*.csv (see benchmarks/RESULTS.md); by default adbench in \
VAE_JAX_DATA."""
    setting: Literal["semi-supervised", "unsupervised"] = "semi-supervised"
    """Train on half of the normal rows, or on all rows, anomalies among them."""
    part: Literal["all", "development", "held-out"] = "all"
    """Tables to measure: those with odd numbers, with even numbers, or all."""
    only: tuple[str, ...] = ()
    """Names of tables, such as cardio; by default all of the part."""
    contamination: float | None = None
    """Share of anomalies that a VAE expects among its training rows; by default 0.1 in the unsupervised setting, as \
in PyOD, and none in the other."""
    detectors: tuple[Detector, ...] = ("vae", "mahalanobis", "neighbours")
    """What to measure: VAEDetector, the Mahalanobis distance, the distance to the fifth neighbour."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the drawn rows and of the models."""
    recipe: Recipe | None = None
    """Recipe of VAEDetector: report, gaussian or exemplar; by default exemplar."""
    steps: int | None = None
    """Training steps of a VAE, whatever the size of the table; by default the recipe's epochs."""
    seed: Suppress[int] = 0  # instead of it, each of `seeds`
    epochs: Suppress[int] = 0  # instead of it, `steps`
    output: str = "runs/adbench.jsonl"
    """File of the results, one line for each."""


class Table(NamedTuple):
    """A table of ADBench: the number of its file, rows of shape (N, D), and which of them are anomalies."""

    number: int
    x: np.ndarray
    is_anomaly: np.ndarray


class Rows(NamedTuple):
    """Standardised rows: normal ones to train on, and rows to test, with their labels."""

    train: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray


def main(arguments: Sequence[str]) -> None:
    """Measures what the file of results lacks, and prints the means."""
    config, output = parse(AdbenchConfig, COMMAND, arguments), console()
    folder, results = check(config), Path(config.output)
    kept, found = read_results(results), []
    with stopping.immediate():
        for path in choose(folder, config):
            table = None
            for seed in config.seeds:
                for detector in config.detectors:
                    key = {"table": name_of(path), "setting": config.setting, "seed": seed, "detector": detector}
                    key["settings"] = settings(config) if detector == "vae" else {}
                    result = next((one for one in kept if key.items() <= one.items()), None)
                    if result is None:
                        table = table or read_table(path)
                        result = key | measure(draw(table, seed, config.setting), table, key)
                        keep(results, result)
                        output.print(describe(result), soft_wrap=True)
                    found.append(result)
    compared = Comparison(found, read_published(folder, config.setting), TITLES)
    output.print(compared.text_table())
    compared.page(results, asdict(config), command_line(config), describe_machine())
    output.print(f"page: {results.with_suffix('.html')}")


def check(config: AdbenchConfig) -> Path:
    """Returns the folder of the data; raises UsageError for an invalid option."""
    folder = Path(config.data or Path(os.environ.get("VAE_JAX_DATA", "data"), "adbench"))
    if not (folder / "classical").is_dir():
        raise UsageError(f"--data {folder}: there is no folder {folder / 'classical'}")
    if config.steps is not None and config.steps < 1:
        raise UsageError(f"--steps {config.steps}: expected 1 or more")
    if not config.seeds or not config.detectors:
        raise UsageError("--seeds, --detectors: expected at least one")
    return folder


def settings(config: AdbenchConfig) -> dict[str, Any]:
    """The options that change a VAE's result."""
    names = {field.name for field in fields(ModelSettings)} - {"epochs", "seed"} | {"steps", "recipe", "contamination"}
    found = {name: value for name, value in asdict(config).items() if name in names}
    if config.setting == "unsupervised" and config.contamination is None:
        found["contamination"] = 0.1
    return json.loads(json.dumps(found))


def name_of(path: Path) -> str:
    """A table's name, as in the published figures."""
    return path.stem.partition("_")[2].lower()


def number_of(path: Path) -> int:
    """The number of a table's file."""
    return int(path.stem.partition("_")[0])


def part_of(number: int) -> str:
    """The part that a table belongs to."""
    return "development" if number % 2 else "held-out"


def choose(folder: Path, config: AdbenchConfig) -> list[Path]:
    """The files to measure, by number; raises UsageError for a name that is not among them."""
    paths = sorted((folder / "classical").glob("*.npz"), key=number_of)
    of_part = [path for path in paths if config.part in ("all", part_of(number_of(path)))]
    names = [name_of(path) for path in of_part]
    for name in config.only:
        if name not in names:
            raise UsageError(
                f"--only {name}: no such table in part {config.part}; there are {', '.join(sorted(names))}"
            )
    return [path for path, name in zip(of_part, names, strict=True) if name in (config.only or names)]


def read_table(path: Path) -> Table:
    """Reads a table."""
    try:
        with np.load(path) as arrays:
            return Table(number_of(path), arrays["X"], arrays["y"] == 1)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: damaged, or no table of ADBench ({error})") from None


def draw(table: Table, seed: int, setting: str = "semi-supervised") -> Rows:
    """Draws, divides and standardises a table's rows."""
    count, order = len(table.x), np.random.RandomState(seed)  # the generator of the published figures
    rows = np.arange(count)
    if count < FEWEST_ROWS:
        rows = order.choice(count, FEWEST_ROWS)
    elif count > MOST_ROWS:
        rows = order.choice(count, MOST_ROWS, replace=False)
    normal, anomalies = rows[~table.is_anomaly[rows]], rows[table.is_anomaly[rows]]
    train, held_out = np.split(normal, [len(normal) // 2])
    test = np.concatenate([held_out, anomalies])
    if setting == "unsupervised":
        train = test = rows
    scaler = StandardScaler().fit(table.x[train].astype(np.float64))
    train, x = (scaler.transform(table.x[of].astype(np.float64)) for of in (train, test))
    return Rows(train, x, table.is_anomaly[test])


def measure(rows: Rows, table: Table, key: Mapping[str, Any]) -> dict[str, Any]:
    """Fits a detector, and measures it on the test rows."""
    started = time.perf_counter()
    suspicion = DETECTORS[key["detector"]](rows.train, key["seed"], key["settings"])
    fitted = time.perf_counter()
    found = suspicion(rows.test)
    scored = time.perf_counter()
    return {
        "number": table.number,
        "rows": len(table.x),
        "roc_auc": float(roc_auc_score(rows.is_anomaly, found)),
        "average_precision": float(average_precision_score(rows.is_anomaly, found)),
        "fit_seconds": fitted - started,
        "score_seconds": scored - fitted,
    }


def vae(train: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Suspicion:
    """Negative log reconstruction probability under a VAEDetector."""
    options = {name: value for name, value in settings.items() if name != "steps"}
    steps_per_epoch = max(1, len(train) // settings["batch_size"])
    epochs = max(1, round(settings["steps"] / steps_per_epoch)) if settings["steps"] else None
    detector = VAEDetector(**options, epochs=epochs, seed=seed).fit(train)
    return lambda x: -detector.score_samples(x)


def mahalanobis(train: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Suspicion:
    """Squared Mahalanobis distance from the mean."""
    covariance = EmpiricalCovariance().fit(train)
    precision = np.linalg.inv(covariance.covariance_ + COVARIANCE_FLOOR * np.eye(train.shape[1]))
    return lambda x: np.einsum("ni,ij,nj->n", x - covariance.location_, precision, x - covariance.location_)


def neighbours(train: np.ndarray, seed: int, settings: Mapping[str, Any]) -> Suspicion:
    """Distance to the fifth nearest training row."""
    score = fifth_neighbour(train, seed)
    return lambda x: -score(x)


DETECTORS = {function.__name__: function for function in (vae, mahalanobis, neighbours)}


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results so far; raises UsageError for a file that holds something else. A line cut short is dropped."""
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        results = [json.loads(line) for line in whole.splitlines()]
        if text != whole and text.startswith("{"):
            path.write_text(whole, encoding="utf-8")
        if text and not text.startswith("{"):
            raise ValueError("it does not begin with a result")
        return [result | {"roc_auc": float(result["roc_auc"])} for result in results]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--output {path}: not a file of results ({error}); name another") from None


def keep(path: Path, result: Mapping[str, Any]) -> None:
    """Adds a result to the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
    except OSError as error:
        raise RunError(f"--output {path}: can't be written ({error.strerror})") from error


def describe(result: Mapping[str, Any]) -> str:
    """A result in one line."""
    measured = ", ".join(f"{title} {100 * result[measure]:.1f}" for measure, title in MEASURES.items())
    seconds = f"fit {result['fit_seconds']:.1f} s, scored in {result['score_seconds']:.1f} s"
    return f"{result['table']}, seed {result['seed']}, {TITLES[result['detector']]}: {measured}; {seconds}"


def read_published(folder: Path, setting: str) -> pd.DataFrame:
    """The published figures in percent: a row for each table and detector."""
    found = []
    for measure in MEASURES:
        path = folder / f"published_{setting.replace('-', '_')}_{measure}.csv"
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: can't be read ({error})") from None
        frame = frame.rename(columns={frame.columns[0]: "table", "kNN": "KNN"})
        found.append(frame.melt("table", var_name="detector", value_name=measure).set_index(["table", "detector"]))
    return pd.concat(found, axis=1).reset_index()


def command_line(config: AdbenchConfig) -> str:
    """The command that repeats a run."""
    words = [COMMAND]
    for field in fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words[:1]).strip("'") + "".join(f" {shlex.quote(word)}" for word in words[1:])


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
