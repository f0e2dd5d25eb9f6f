"""A run in pieces: the results of one anomalous digit and seed, or of KDD99 and a seed, each saved when it is done."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from rich.console import Console
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from experiments.an_cho import kdd99, models
from experiments.an_cho.config import AnChoConfig, Likelihood
from experiments.an_cho.inputs import Inputs, split_digits
from experiments.runs.run_folder import Run
from vae_jax.detector import VAEDetector

Log = Callable[[str, dict], None]  # called with a model's name and the record of each of its epochs

EXAMPLES = 8  # most and least normal images of the anomalous digit that the page shows


class Piece(NamedTuple):
    """What is trained and measured in one go; `anomaly` is the digit, or "all" classes of attack."""

    task: str
    anomaly: str
    seed: int

    @property
    def file(self) -> str:
        """Name of its results in the run's folder."""
        return f"pieces/{self.task}_{self.anomaly}_{self.seed}.json"


def pieces_of(config: AnChoConfig, inputs: Inputs) -> Iterator[Piece]:
    """The pieces of a run, all of one seed after those of another."""
    for seed in config.seeds:
        if inputs.digits is not None:
            yield from (Piece("mnist", str(digit), seed) for digit in config.digits)
        if inputs.connections is not None:
            yield Piece("kdd99", "all", seed)


def run_pieces(config: AnChoConfig, inputs: Inputs, opened: Run, output: Console) -> list[dict]:
    """Runs the pieces that have no results yet; returns the results of all."""
    todo, results = list(pieces_of(config, inputs)), []
    started, done = time.monotonic(), 0
    for number, piece in enumerate(todo, 1):
        if not (opened.folder / piece.file).exists():
            opened.write_json(piece.file, run_piece(piece, config, inputs, opened))
            done += 1
            left = (time.monotonic() - started) / done * (len(todo) - number) / 60
            output.print(f"{_told(opened.read_json(piece.file))}  ({number}/{len(todo)}, {left:.0f} min left)")
        results.append(opened.read_json(piece.file))
    return results


def _told(record: dict) -> str:
    """A piece's ROC AUC in a line."""
    parts = [
        f"{anomaly}: VAE {of['reconstruction_probability']['roc_auc']:.3f}, PCA {of['pca']['roc_auc']:.3f}"
        for anomaly, of in record["measures"].items()
    ]
    return f"{record['task']}  seed {record['seed']}  ROC AUC of {'; '.join(parts)}"


def run_piece(piece: Piece, config: AnChoConfig, inputs: Inputs, opened: Run) -> dict:
    """Trains a piece's models and measures them."""

    def log(model: str, record: dict) -> None:
        opened.callback({**piece._asdict(), "model": model, **record})

    return (_run_digit if piece.task == "mnist" else _run_kdd99)(piece, config, inputs, log)


def _run_digit(piece: Piece, config: AnChoConfig, inputs: Inputs, log: Log) -> dict:
    digits = inputs.digits
    assert digits is not None
    rows = split_digits(digits, int(piece.anomaly), config.on, config.train_rows, piece.seed)
    train = digits.train[rows.train]
    images, labels = (digits.test, digits.test_labels) if rows.of_test else (digits.train, digits.train_labels)
    measured, is_anomaly = images[rows.measured], labels[rows.measured] == int(piece.anomaly)
    scores = score_all(piece, train, measured, config.mnist_likelihood, config, log)
    anomalies = rows.measured[is_anomaly]
    order = anomalies[np.argsort(scores["reconstruction_probability"][is_anomaly], kind="stable")]
    return {
        **piece._asdict(),
        "train_rows": len(train),
        "counts": {piece.anomaly: [int((~is_anomaly).sum()), int(is_anomaly.sum())]},
        "measures": {piece.anomaly: {name: measure(of, is_anomaly) for name, of in scores.items()}},
        "least_normal": order[:EXAMPLES].tolist(),
        "most_normal": order[::-1][:EXAMPLES].tolist(),
    }


def _run_kdd99(piece: Piece, config: AnChoConfig, inputs: Inputs, log: Log) -> dict:
    connections = inputs.connections
    assert connections is not None
    rows = kdd99.split(connections, config.on, config.train_rows, piece.seed)
    encoding = kdd99.Encoding.fit(rows.train, kdd99.levels_of(connections))
    frames = {"normal": rows.normal, **rows.attacks}
    measured = np.concatenate([encoding.encode(frame) for frame in frames.values()])
    scores = score_all(piece, encoding.encode(rows.train), measured, "gaussian", config, log)
    scores["columns"] = _score_columns(rows, frames, piece.seed, config)
    ends = np.cumsum([len(frame) for frame in frames.values()])
    of_class = {name: {} for name in rows.attacks}
    for method, of in scores.items():
        normal, *attacks = np.split(of, ends[:-1])
        for name, values in zip(rows.attacks, attacks, strict=True):
            is_anomaly = np.arange(len(normal) + len(values)) >= len(normal)
            of_class[name][method] = measure(np.concatenate([normal, values]), is_anomaly)
    counts = {name: [len(rows.normal), len(frame)] for name, frame in rows.attacks.items()}
    return {**piece._asdict(), "train_rows": len(rows.train), "counts": counts, "measures": of_class}


def score_all(
    piece: Piece,
    train: np.ndarray,
    measured: np.ndarray,
    likelihood: Likelihood,
    config: AnChoConfig,
    log: Log,
) -> dict[str, np.ndarray]:
    """Fits every method on rows of numbers and scores others; higher = more normal."""
    task, anomaly, seed = piece
    key = partial(models.model_key, seed, task, anomaly)
    features = train.shape[1]
    vae, objective = models.vae_of(likelihood, features, config)
    params = models.fit(vae, objective, train, config, key("vae"), partial(log, "vae"))
    plain, error = models.autoencoder_of(likelihood, features, config)
    plain_params = models.fit(plain, error, train, config, key("autoencoder"), partial(log, "autoencoder"))
    numbers, held_out = (x / np.float32(255) if x.dtype == np.uint8 else x for x in (train, measured))
    few = np.random.default_rng(seed).permutation(len(numbers))[: config.kernel_rows]
    some = numbers[few].astype(np.float64)
    variance = config.mnist_pca_variance if task == "mnist" else config.kdd99_pca_variance
    kernel = models.gaussian_kernel(some, config.kernel_width)
    probability = models.reconstruction_probability(vae, params, config.num_samples, key("score"))
    return {
        "reconstruction_probability": probability(measured),
        "vae_error": models.reconstruction_error(vae, params)(measured),
        "autoencoder": models.reconstruction_error(plain, plain_params)(measured),
        "pca": models.pca(numbers, variance)(held_out),
        "kernel_pca": models.kernel_pca(some, variance, kernel)(held_out.astype(np.float64)),
    }


def _score_columns(rows: kdd99.Rows, frames: Mapping, seed: int, config: AnChoConfig) -> np.ndarray:
    """Scores of the detector that gives each column a likelihood of its own kind."""
    detector = VAEDetector(recipe="gaussian", epochs=config.columns_epochs, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of levels that training rows lack
        detector.fit(rows.train)
        return np.concatenate([np.asarray(detector.score_samples(frame), np.float64) for frame in frames.values()])


def measure(scores: np.ndarray, is_anomaly: np.ndarray) -> dict[str, float]:
    """ROC AUC, average precision, and F1 at the threshold that is best for these rows; scores: higher = more normal."""
    precision, recall, _ = precision_recall_curve(is_anomaly, -scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return {
        "roc_auc": float(roc_auc_score(is_anomaly, -scores)),
        "average_precision": float(average_precision_score(is_anomaly, -scores)),
        "f1": float(f1.max()),
    }
