"""VAEDetector on tables of words, counts, yes and no, and gaps, beside scikit-learn's detectors.

    VAE_JAX_DATA=FOLDER PYTHONPATH=. .venv/bin/python -m benchmarks.columns claims --seeds 0 1 2

- `claims`: fraudulent vehicle insurance claims. Nothing is tuned on the rows of `--on test`.
- `adult`: census rows of an education that training rows don't have. A check by construction.
- `kdd99`: network connections, each class of attack against normal ones, as An & Cho 2015 measured it.
- `gaps`: card transactions of which 20 % of the cells are removed.
- `drowning`: card transactions with a column of 1,000 levels that tells nothing.

Prints Markdown, mean ± standard deviation over seeds. Normal rows are split 70/10/20 into training, validation and
test, anomalies 20/80 into validation and test.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
import tyro
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from experiments.baselines import BASELINES, TITLES
from experiments.command_line import UsageError, parse, run
from experiments.startup import prepare_jax
from vae_jax import VAEDetector
from vae_jax.tables.cells import cells_of
from vae_jax.tables.files import read_frame
from vae_jax.tables.schema import Schema
from vae_jax.tables.splits import split_rows
from vae_jax.tables.text_numbers import to_numbers
from vae_jax.tables.transactions import load_transactions

Task = Literal["claims", "adult", "kdd99", "gaps", "drowning"]
On = Literal["validation", "test"]
Measured = dict[str, float]  # by title
MOST_ROWS = 20_000  # of kdd99's training rows, and of each class that is measured
GAPS = 0.2
LEVELS = 1_000
KDD_COLUMNS = """duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot num_failed_logins
logged_in num_compromised root_shell su_attempted num_root num_file_creations num_shells num_access_files
num_outbound_cmds is_host_login is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate
same_srv_rate diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count dst_host_same_srv_rate
dst_host_diff_srv_rate dst_host_same_src_port_rate dst_host_srv_diff_host_rate dst_host_serror_rate
dst_host_srv_serror_rate dst_host_rerror_rate dst_host_srv_rerror_rate label""".split()
ATTACKS = {
    "DoS": "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm",
    "R2L": "ftp_write guess_passwd imap multihop phf spy warezclient warezmaster named sendmail snmpgetattack snmpguess "
    "worm xlock xsnoop httptunnel",
    "U2R": "buffer_overflow loadmodule perl rootkit ps sqlattack xterm",
    "Probe": "ipsweep nmap portsweep satan mscan saint",
}


@dataclass(frozen=True)
class ColumnsConfig:
    """Measure VAEDetector on tables of columns of any kind."""

    task: Annotated[Task, tyro.conf.Positional] = "claims"
    """What to measure."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the split, the models and what is drawn."""
    epochs: int = 100
    """Passes over the training rows."""
    hidden_dims: tuple[int, ...] = VAEDetector.hidden_dims
    """Widths of the encoder's hidden layers."""
    latent_dim: int = VAEDetector.latent_dim
    """Number of latent dimensions."""
    input_noise: float = VAEDetector.input_noise
    """Noise on the encoder's input in training."""
    num_models: int = VAEDetector.num_models
    """Number of models whose mean is the score."""
    on: On = "test"
    """Rows to measure: validation to choose settings, test for what is reported."""

    def detector(self, seed: int, columns: Mapping[str, Any] | None = None) -> VAEDetector:
        """An unfitted detector with these settings."""
        names = ("epochs", "hidden_dims", "latent_dim", "input_noise", "num_models")
        return VAEDetector(**{name: getattr(self, name) for name in names}, seed=seed, columns=columns)


class Rows(NamedTuple):
    """Normal rows to train on, and normal rows and anomalies of each class to measure."""

    train: pd.DataFrame
    normal: pd.DataFrame
    anomalies: dict[str, pd.DataFrame]


def main(arguments: Sequence[str]) -> None:
    """Measures each seed and prints the table."""
    config = parse(ColumnsConfig, "python -m benchmarks.columns", arguments)
    if not os.environ.get("VAE_JAX_DATA"):
        raise UsageError("set VAE_JAX_DATA to the folder with the data sets")
    measure, what = TASKS[config.task]
    of_seeds = [measure(config, seed) for seed in config.seeds]
    print(f"{config.task}, {config.on} rows{what}; {config.epochs} epochs, hidden {config.hidden_dims}, ", end="")
    print(f"latent {config.latent_dim}, noise {config.input_noise}, models {config.num_models}, seeds {config.seeds}\n")
    print(markdown(of_seeds))


def markdown(of_seeds: Sequence[Mapping[str, Measured]]) -> str:
    """A table with a line for each detector: mean ± standard deviation over seeds."""
    first, *_ = of_seeds
    titles = list(next(iter(first.values())))
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for name in first:
        values = {title: np.array([found[name][title] for found in of_seeds]) for title in titles}
        lines.append(f"| {name} | {' | '.join(_shown(title, values[title]) for title in titles)} |")
    return "\n".join(lines)


def _shown(title: str, values: np.ndarray) -> str:
    if title in ("fit s", "rows/s"):
        return f"{values.mean():,.1f}" if title == "fit s" else f"{values.mean():,.0f}"
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


# Detectors


def compare(rows: Rows, config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Measures the VAE and the baselines on the same rows."""
    found = {"VAE": measured(rows, lambda train: config.detector(seed).fit(train).score_samples)}
    schema = Schema.fit(rows.train)
    encoder = one_hot(schema)
    encoded = Rows(
        encoder.fit_transform(typed(schema, rows.train)),
        encoder.transform(typed(schema, rows.normal)),
        {name: encoder.transform(typed(schema, of)) for name, of in rows.anomalies.items()},
    )
    for title, fit in DETECTORS.items():
        found[title] = measured(encoded, lambda train, fit=fit: fit(train, seed))
    return found


def measured(rows: Rows, fit: Callable[[Any], Callable]) -> Measured:
    """Fits and scores; the second scoring is timed, without compilation."""
    started = time.perf_counter()
    score = fit(rows.train)
    fitted = time.perf_counter()
    normal = np.asarray(score(rows.normal))
    found = {}
    for name, anomalies in rows.anomalies.items():
        scores = np.concatenate([normal, score(anomalies)])
        is_anomaly = np.arange(len(scores)) >= len(normal)
        found[f"{name} ROC AUC".strip()] = float(roc_auc_score(is_anomaly, -scores))
        found[f"{name} AP".strip()] = float(average_precision_score(is_anomaly, -scores))
    again = time.perf_counter()
    score(rows.normal)
    return {**found, "fit s": fitted - started, "rows/s": len(rows.normal) / (time.perf_counter() - again)}


def one_hot(schema: Schema) -> ColumnTransformer:
    """Standardised numbers with gaps filled by the mean, and categories as 0 and 1; ids are left out."""
    kinds = {"number": [], "log": [], "level": []}
    for column in (schema[name] for name in schema.modelled):
        is_number = column.parts[0].likelihood in ("gaussian", "count")
        kinds["level" if not is_number else "log" if column.parts[0].log else "number"].append(column.name)
    standardised = make_pipeline(SimpleImputer(), StandardScaler())
    logarithms = make_pipeline(FunctionTransformer(np.log1p), SimpleImputer(), StandardScaler())
    levels = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = (("number", standardised), ("log", logarithms), ("level", levels))
    return ColumnTransformer([(name, step, kinds[name]) for name, step in steps])


def typed(schema: Schema, frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64 with NaN, and levels as text, in which a gap is a level of its own."""
    found = {}
    for name in schema.modelled:
        cells = cells_of(frame[name])
        if schema[name].parts[0].likelihood in ("gaussian", "count"):
            found[name] = to_numbers(cells, schema.number_format)[0] if cells.dtype == object else cells
        else:
            found[name] = cells.astype(str)
    return pd.DataFrame(found, index=frame.index)


def nearest(train: np.ndarray, seed: int) -> Callable:
    """Negative distance from the fifth nearest training row."""
    model = NearestNeighbors(n_neighbors=5).fit(train)
    return lambda x: -model.kneighbors(x)[0][:, -1]


def pca_of_variance(train: np.ndarray, seed: int) -> Callable:
    """As `baselines.pca` with components of 90 % of the variance: one-hot columns always have some without any."""
    model = PCA(0.9, svd_solver="full").fit(train)
    return lambda x: -np.square(x - model.inverse_transform(model.transform(x))).sum(1)


DETECTORS: dict[str, Callable[[np.ndarray, int], Callable]] = {
    **{TITLES[name]: fit for name, fit in BASELINES.items()},
    "PCA, 90 % of the variance": pca_of_variance,
    "Local outlier factor, 20": lambda train, seed: LocalOutlierFactor(n_neighbors=20, novelty=True)
    .fit(train)
    .score_samples,
    "Distance to 5th neighbour": nearest,
}


# Tasks


def data(*names: str) -> Path:
    """A file of the data sets."""
    path = Path(os.environ["VAE_JAX_DATA"], *names)
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    return path


def divide(normal: pd.DataFrame, anomalies: Mapping[str, pd.DataFrame], on: On, seed: int, most: int = 10**9) -> Rows:
    """Splits both at random, and keeps at most `most` training rows and rows of each class."""
    rng = np.random.default_rng(seed)

    def part(frame: pd.DataFrame, train: float, validation: float) -> tuple[pd.DataFrame, pd.DataFrame]:
        order = rng.permutation(len(frame))
        ends = round(train * len(frame)), round((train + validation) * len(frame))
        wanted = order[ends[0] : ends[1]] if on == "validation" else order[ends[1] :]
        return frame.iloc[order[: ends[0]][:most]], frame.iloc[wanted[:most]]

    train, held_out = part(normal, 0.7, 0.1)
    return Rows(train, held_out, {name: part(of, 0.0, 0.2)[1] for name, of in anomalies.items()})


def claims(on: On, seed: int) -> Rows:
    """Genuine and fraudulent claims."""
    frame, _ = read_frame(data("claims", "fraud_oracle.csv"))
    is_fraud = frame.pop("FraudFound_P") == "1"
    return divide(frame[~is_fraud], {"": frame[is_fraud]}, on, seed)


def adult(on: On, seed: int) -> Rows:
    """People with and without a doctorate."""
    frame, _ = read_frame(data("adult", "adult.csv"), drop=["education-num"])
    is_doctor = frame["education"] == "Doctorate"
    return divide(frame[~is_doctor], {"": frame[is_doctor]}, on, seed)


def kdd99(on: On, seed: int) -> Rows:
    """Normal connections, and attacks by class."""
    paths = [data("kdd99", name) for name in ("kddcup.data_10_percent.gz", "corrected.gz")]
    training, later = (pd.read_csv(path, names=KDD_COLUMNS) for path in paths)
    attacks = pd.concat([training, later], ignore_index=True)
    label = attacks.pop("label").str.rstrip(".")
    normal = training[training.pop("label") == "normal."]
    return divide(normal, {name: attacks[label.isin(of.split())] for name, of in ATTACKS.items()}, on, seed, MOST_ROWS)


def transactions(on: On, seed: int) -> Rows:
    """Genuine and fraudulent card transactions."""
    table = load_transactions()
    split = split_rows(table.features, table.labels, table.time, "random", seed)
    frame = pd.DataFrame(table.features, columns=list(table.feature_names))
    wanted = getattr(split, on)
    is_fraud = table.labels[wanted] == 1
    return Rows(frame.iloc[split.train], frame.iloc[wanted[~is_fraud]], {"": frame.iloc[wanted[is_fraud]]})


def each_frame(change: Callable[[pd.DataFrame], pd.DataFrame], rows: Rows) -> Rows:
    """Changes all rows."""
    return Rows(change(rows.train), change(rows.normal), {name: change(of) for name, of in rows.anomalies.items()})


def compare_gaps(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Complete rows, rows with gaps, and gaps filled by the mean."""
    rng = np.random.default_rng(seed)
    complete = transactions(config.on, seed)
    gappy = each_frame(lambda frame: frame.mask(rng.random(frame.shape) < GAPS), complete)
    filled = each_frame(lambda frame: frame.fillna(gappy.train.mean()), gappy)
    tables = {"VAE, complete rows": complete, "VAE, gaps as they are": gappy, "VAE, gaps filled by the mean": filled}
    return with_fall({name: _vae(rows, config, seed) for name, rows in tables.items()})


def compare_drowning(config: ColumnsConfig, seed: int) -> dict[str, Measured]:
    """Without the column of many levels, with it, and with each of its levels on its own."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, LEVELS + 1)
    names = np.array([f"level {i}" for i in range(LEVELS)], object)
    without = transactions(config.on, seed)
    draw = lambda rows: rng.choice(names, rows, p=shares / shares.sum())  # noqa: E731
    given = each_frame(lambda frame: frame.assign(level=draw(len(frame))), without)
    real = dict.fromkeys(without.train.columns, "real")
    found = {
        "VAE, without the column": _vae(without, config, seed, real),
        "VAE, with it, rare levels pooled": _vae(given, config, seed, real),
    }
    with mock.patch.multiple("vae_jax.tables.schema", MOST_RARE=1, FEWEST_RARE=1, MOST_LEVELS=LEVELS):
        found["VAE, with it, no level pooled"] = _vae(given, config, seed, real)
    return with_fall(found)


def _vae(rows: Rows, config: ColumnsConfig, seed: int, columns: Mapping[str, Any] | None = None) -> Measured:
    return measured(rows, lambda train: config.detector(seed, columns).fit(train).score_samples)


def with_fall(found: dict[str, Measured]) -> dict[str, Measured]:
    """Adds by how much the average precision is below the first line's."""
    best, *_ = (of["AP"] for of in found.values())
    return {name: {"ROC AUC": of["ROC AUC"], "AP": of["AP"], "fall of AP": best - of["AP"], **of} for name, of in found.items()}


def _compared(rows: Callable[[On, int], Rows]) -> Callable[[ColumnsConfig, int], dict[str, Measured]]:
    return lambda config, seed: compare(rows(config.on, seed), config, seed)


TASKS: dict[str, tuple[Callable[[ColumnsConfig, int], dict[str, Measured]], str]] = {
    "claims": (_compared(claims), ""),
    "adult": (_compared(adult), ", a doctorate is the anomaly"),
    "kdd99": (_compared(kdd99), f", at most {MOST_ROWS:,} for training and of each class"),
    "gaps": (compare_gaps, f", {GAPS:.0%} of the cells removed"),
    "drowning": (compare_drowning, f", with a column of {LEVELS:,} levels drawn at random"),
}

if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
