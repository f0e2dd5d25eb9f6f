"""The inputs of An & Cho's experiments: digits, connections, the rows of each model, and notices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.an_cho import kdd99
from experiments.an_cho.config import AnChoConfig, check, preset
from experiments.an_cho.kdd99 import Connections, find_connections
from experiments.command_line import UsageError
from experiments.runs.experiment import Experiment
from vae_jax.data.errors import DataError
from vae_jax.images.digits import CLASSES, Digits, find_digits

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

VALIDATION_SHARE = 0.1  # of the training images


@dataclass(frozen=True)
class Inputs:
    """The data of the experiments asked for; None for one that is not to be had, or not asked for."""

    digits: Digits | None
    connections: Connections | None
    notices: tuple[str, ...] = ()

    def describe(self) -> dict:
        """Identifies the data."""
        parts = {"mnist": self.digits, "kdd99": self.connections}
        return {name: part.fingerprint for name, part in parts.items() if part is not None}


def prepare(config: AnChoConfig) -> Inputs:
    """Reads the data; raises UsageError for data that can't be trained on."""
    notices = []
    try:
        digits = find_digits(_source(config.data, "mnist")) if "mnist" in config.task else None
        connections = _connections(config)
    except DataError as error:
        raise UsageError(str(error)) from error
    if digits is not None and digits.synthetic:
        notices.append("DRAWN DIGITS. A font and a random number generator made these images, so this is not MNIST.")
    if "kdd99" in config.task and connections is None:
        if digits is None:
            raise UsageError(f"--task kdd99: no KDD99 found with --data {config.data}; name a folder with kdd99/")
        notices.append("KDD99 is left out: neither a folder with kdd99/ nor a download is to be had.")
    inputs = Inputs(digits, connections, tuple(notices))
    _check_sizes(config, inputs)
    return inputs


def _source(data: str, name: str) -> str:
    if data in ("auto", "synthetic"):
        return data
    if not Path(data).is_dir():
        raise DataError(f"--data {data}: no such folder")
    if not (Path(data) / name).is_dir():
        raise DataError(f"--data {data}: has no folder {name}; use --task to run the other experiment alone")
    return str(Path(data) / name)


def _connections(config: AnChoConfig) -> Connections | None:
    if "kdd99" not in config.task or config.data == "synthetic":
        return None
    return find_connections(_source(config.data, "kdd99"), config.attacks == "later")


def _check_sizes(config: AnChoConfig, inputs: Inputs) -> None:
    if inputs.digits is not None:
        for name, labels in (("training", inputs.digits.train_labels), ("test", inputs.digits.test_labels)):
            if absent := sorted(set(range(CLASSES)) - set(labels.tolist())):
                raise UsageError(f"{inputs.digits.source}: no {name} image of the digit {absent[0]}")
    for task, rows in training_rows(config, inputs).items():
        if rows < config.batch_size:
            raise UsageError(f"--batch-size {config.batch_size}: more than the {rows:,} training rows of {task}")


def training_rows(config: AnChoConfig, inputs: Inputs) -> dict[str, int]:
    """The number of training rows of a model in each experiment."""
    found = {}
    if inputs.digits is not None:
        found["mnist"] = common_rows(inputs.digits.train_labels)
    if inputs.connections is not None:
        found["kdd99"] = len(kdd99.split(inputs.connections, "test", None, 0).train)
    return {task: min(rows, config.train_rows or rows) for task, rows in found.items()}


def common_rows(labels: UInt8[np.ndarray, " N"]) -> int:
    """Training rows that each digit's model has: as many as the fewest, so that one compiled program serves all."""
    counts = np.bincount(labels, minlength=CLASSES)
    kept = counts - _held_out(counts)
    return int(kept.sum() - kept.max())


def _held_out(counts: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """How many images of a digit are held out to validate."""
    return np.ceil(VALIDATION_SHARE * counts).astype(int)


@dataclass(frozen=True)
class DigitRows:
    """The rows of a digit's model, as row numbers.

    Attributes:
      train: training images of the other digits.
      measured: images to measure, of all digits; see `on`.
      of_test: whether those are test images, or held-out training images.
    """

    train: Int[np.ndarray, " N"]
    measured: Int[np.ndarray, " M"]
    of_test: bool


def split_digits(digits: Digits, anomaly: int, on: str, train_rows: int | None, seed: int) -> DigitRows:
    """Trains on 90 % of the training images of the nine normal digits; 10 % of each digit are held out to validate."""
    order = np.random.default_rng(seed).permutation(len(digits.train))
    labels = digits.train_labels[order]
    nth = np.zeros(len(order), int)  # of its digit, in this order
    for digit in range(CLASSES):
        nth[labels == digit] = np.arange((labels == digit).sum())
    is_held_out = nth < _held_out(np.bincount(labels, minlength=CLASSES))[labels]
    normal = order[~is_held_out & (labels != anomaly)][: common_rows(labels)][:train_rows]
    return DigitRows(normal, np.arange(len(digits.test)) if on == "test" else order[is_held_out], on == "test")


AN_CHO = Experiment(
    name="an-cho",
    config_type=AnChoConfig,
    check=check,
    prepare=prepare,
    describe=Inputs.describe,
    divided=lambda config: config.batch_size,
    preset=preset,
)


def describe_data(config: AnChoConfig, inputs: Inputs) -> list[str]:
    """The data in a line for each experiment."""
    rows = training_rows(config, inputs)
    lines = []
    if (digits := inputs.digits) is not None:
        lines.append(
            f"{digits.source}: {len(digits.train):,} training and {len(digits.test):,} test images; "
            f"{rows['mnist']:,} train each digit's model"
        )
    if (connections := inputs.connections) is not None:
        attacks = ", ".join(f"{len(frame):,} {name}" for name, frame in connections.attacks.items())
        lines.append(
            f"{connections.source}: {len(connections.normal):,} normal connections, attacks: {attacks}; "
            f"{rows['kdd99']:,} rows train a model"
        )
    return lines
