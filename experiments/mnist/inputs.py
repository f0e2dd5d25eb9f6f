"""The digits experiment's inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.command_line import UsageError
from experiments.mnist.config import MnistConfig, check, images_per_step, preset
from experiments.runs.experiment import Experiment
from vae_jax.data.errors import DataError
from vae_jax.images.digits import Digits, find_digits

VALIDATION_SHARE = 1 / 30  # of the training images, to choose the best epoch by: 2,000 of 60,000
CHUNK = 100  # of them that are measured at once; their number is a multiple of it


@dataclass(frozen=True)
class Inputs:
    """The digits, grey values of 784 pixels each, uint8, in three parts."""

    digits: Digits
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def describe(self) -> dict:
        """Identifies the data."""
        parts = {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}
        return {"fingerprint": self.digits.fingerprint, **parts}


def prepare(config: MnistConfig) -> Inputs:
    """Reads the digits; raises UsageError for data that can't be trained on. The last training images validate."""
    try:
        digits = find_digits(config.data)
    except DataError as error:
        raise UsageError(str(error)) from error
    count = min(len(digits.train), config.limit or len(digits.train))
    held_out = max(CHUNK, round(count * VALIDATION_SHARE) // CHUNK * CHUNK)
    if count - held_out < images_per_step(config):
        option, needed = f"--batch-size {config.batch_size}", images_per_step(config) + held_out
        raise UsageError(f"{option}: {count:,} training images are too few; {needed:,} are needed")
    tested = len(digits.test) if config.limit is None else max(config.limit // 5, 1)
    return Inputs(
        digits,
        digits.train[: count - held_out],
        digits.train[count - held_out : count],
        digits.test[:tested],
    )


MNIST = Experiment(
    name="mnist",
    config_type=MnistConfig,
    check=check,
    prepare=prepare,
    describe=Inputs.describe,
    divided=lambda config: None,
    preset=preset,
)


def describe_data(inputs: Inputs) -> list[str]:
    """The data in two lines."""
    return [
        inputs.digits.source,
        f"28 x 28 pixels, drawn anew as bits in each epoch; training {len(inputs.train):,}, validation "
        f"{len(inputs.validation):,}, test {len(inputs.test):,}",
    ]


def notices(inputs: Inputs) -> list[str]:
    """What a reader of the results must know about the data."""
    if not inputs.digits.synthetic:
        return []
    return ["DRAWN DIGITS. These images were drawn from a font. Results of this run say nothing about MNIST."]
