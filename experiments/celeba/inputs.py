"""The faces experiment's inputs: prepared pictures, and notices about them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from experiments.celeba.config import CelebaConfig, check, preset, settle
from experiments.command_line import UsageError, refusal
from experiments.runs import processes
from experiments.runs.experiment import Experiment
from experiments.runs.progress import WorkProgress, console
from vae_jax.data.errors import DataError
from vae_jax.data.parts import TEST, TRAIN, VALIDATION
from vae_jax.images.cache import Images, prepare_images
from vae_jax.images.pictures import find_pictures

RESIDENT_SHARE = 0.4  # of a device's memory for the pictures; the rest is for activations


@dataclass(frozen=True)
class Inputs:
    """The prepared pictures, and the row numbers of each part."""

    images: Images
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def describe(self) -> dict:
        """Identifies the data."""
        pictures = self.images.pictures
        parts = {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}
        return {"fingerprint": pictures.fingerprint, "attribute_names": list(pictures.attribute_names), **parts}


def prepare(config: CelebaConfig, output: Console) -> Inputs:
    """Finds and prepares the pictures; raises UsageError for data that can't be trained on."""
    cache = _cache_folder(config)
    try:
        pictures = find_pictures(config.data, config.limit, config.seed)
        with WorkProgress("preparing pictures", "images", output) as progress:
            images = prepare_images(pictures, config.image_size, config.crop, cache, progress.show)
    except DataError as error:
        raise UsageError(str(error)) from error
    inputs = Inputs(images, *(images.rows(part) for part in (TRAIN, VALIDATION, TEST)))
    for option, name, rows, least in (
        (f"--batch-size {config.batch_size}", "training", inputs.train, config.batch_size),
        (f"--data {config.data}", "validation", inputs.validation, 1),
        (f"--data {config.data}", "test", inputs.test, 2),  # to interpolate between
    ):
        if len(rows) < least:
            raise UsageError(f"{option}: there are {len(rows):,} {name} pictures; at least {least:,} are needed")
    return inputs


def _cache_folder(config: CelebaConfig) -> Path:
    try:
        return Path(config.cache).expanduser()
    except RuntimeError:  # a user without a home, as in some containers
        raise refusal("cache", config.cache, "a folder; there is no home for ~") from None


CELEBA = Experiment(
    name="celeba",
    config_type=CelebaConfig,
    check=check,
    prepare=lambda config: prepare(config, console()),
    describe=Inputs.describe,
    divided=lambda config: config.batch_size,
    preset=preset,
    settle=settle,
)


def is_resident(config: CelebaConfig, inputs: Inputs) -> bool:
    """Whether the training pictures are kept on the device."""
    if config.placement != "auto":
        return config.placement == "resident"
    if processes.several():
        return False  # so that each process reads only its share
    needed = len(inputs.train) * inputs.images.pixels[0].nbytes
    return needed <= RESIDENT_SHARE * _device_memory()


def _device_memory() -> float:
    """Bytes of memory per device; CPU devices share one memory."""
    statistics = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()


def describe_data(config: CelebaConfig, inputs: Inputs) -> list[str]:
    """The data in two lines."""
    placement = "all on the device" if is_resident(config, inputs) else "streamed from disk, read ahead"
    return [
        inputs.images.pictures.source,
        f"{len(inputs.images.usable):,} pictures at {config.image_size} x {config.image_size}; training "
        f"{len(inputs.train):,} ({placement}), validation {len(inputs.validation):,}, test {len(inputs.test):,}",
    ]


def notices(inputs: Inputs) -> list[str]:
    """What a reader of the results must know about the data."""
    images = inputs.images
    found = []
    if images.pictures.synthetic:
        found.append(
            "DRAWN FACES. A small program drew these pictures. Results of this run say nothing about photographs."
        )
    found += [f"{notice}." for notice in images.pictures.notices]
    if images.left_out:
        examples = "; ".join(f"{name}: {reason}" for name, reason in islice(images.left_out.items(), 3))
        found.append(f"Pictures left out because they can't be used: {len(images.left_out):,}, e.g. {examples}.")
    return found
