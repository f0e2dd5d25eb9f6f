"""What an accelerator does in a training step: its kernels, and the time when it does nothing.

PYTHONPATH=. .venv/bin/python -m benchmarks.profile_step --dtype bfloat16
PYTHONPATH=. .venv/bin/python -m benchmarks.profile_step --program gaussian --models 64
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from rich.table import Table

from experiments.celeba import inputs as faces
from experiments.celeba import model as face_training
from experiments.celeba.config import CelebaConfig
from experiments.command_line import RunError, parse, run
from experiments.runs.progress import console
from experiments.startup import prepare_jax
from vae_jax.detector import recipes
from vae_jax.detector.settings import Settings
from vae_jax.images.cache import Images

SHOWN = 20  # kernels, those that take longest
ROWS, FEATURES = 20_000, 29


@dataclass(frozen=True)
class ProfileConfig:
    """Profile training steps on one GPU."""

    program: Literal["faces", "report", "gaussian"] = "faces"
    """What to train: the face model, or a recipe of the transactions."""
    models: int = 1
    """Number of models of the transactions."""
    batch_size: int | None = None
    """Examples per step; by default 512 (faces), 128 (transactions)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the face model."""


def main(arguments: Sequence[str]) -> None:
    """Prints the table."""
    config = parse(ProfileConfig, "python -m benchmarks.profile_step", arguments)
    advance, steps = train_faces(config) if config.program == "faces" else train_table(config)
    for _ in range(2):  # compiles
        advance()
    started = time.perf_counter()
    advance()
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            advance()
        kernels = read_kernels(folder)
    if not kernels:
        raise RunError("the profile has no kernels: is there a GPU?")
    console().print(kernel_table(kernels, steps, seconds), soft_wrap=True)


def train_faces(config: ProfileConfig):
    """A call of the experiment's training on random pictures, and how many steps it takes."""
    batch, steps = config.batch_size or 512, face_training.steps_per_call()
    pixels = np.random.default_rng(0).integers(0, 256, (steps * batch, 128, 128, 3), np.uint8)
    rows = np.arange(len(pixels))
    images = Images(pixels, {}, rows, None)  # pyright: ignore[reportArgumentType] (training needs no listing)
    training, state = face_training.training(
        CelebaConfig(batch_size=batch, dtype=config.dtype, placement="resident"),
        faces.Inputs(images, rows, rows[:1], rows[:1]),
    )

    def advance() -> None:
        nonlocal state
        state, info = training.advance(state, 0, steps)
        jax.block_until_ready((state, info))

    return advance, steps


def train_table(config: ProfileConfig):
    """An epoch of a recipe on random rows, and how many steps it takes."""
    rows = np.random.default_rng(0).normal(size=(ROWS, FEATURES)).astype(np.float32)
    settings = Settings(recipe=config.program, num_models=config.models, batch_size=config.batch_size or 128)  # pyright: ignore[reportArgumentType]
    resolved = settings.resolved(*rows.shape)
    training = recipes.compile_training(resolved, rows, rows[:256])
    state = training.initial

    def advance() -> None:
        nonlocal state
        state, info = training.epoch(state)
        jax.block_until_ready((state, info))

    return advance, ROWS // resolved.batch_size


def read_kernels(folder: str) -> Counter[tuple[str, str]]:
    """Nanoseconds of each kernel, and under ("calls", name) how often it ran, on the first GPU."""
    found: Counter[tuple[str, str]] = Counter()
    for path in Path(folder).rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            if not plane.name.startswith("/device:GPU:0"):
                continue
            for line in plane.lines:
                if line.name.startswith("Stream"):
                    for event in line.events:
                        found["time", event.name] += event.duration_ns
                        found["calls", event.name] += 1
    return found


def kernel_table(kernels: Counter[tuple[str, str]], steps: int, seconds: float) -> Table:
    """The kernels by their time per step."""
    times = Counter({name: value for (what, name), value in kernels.items() if what == "time"})
    calls = sum(value for (what, _), value in kernels.items() if what == "calls")
    busy = sum(times.values()) / steps / 1e3
    table = Table(
        title=f"a step takes {seconds / steps * 1e6:,.1f} µs, its {calls / steps:.1f} kernels {busy:,.1f} µs",
        title_justify="left",
    )
    for title, justify in (("µs a step", "right"), ("calls a step", "right"), ("kernel", "left")):
        table.add_column(title, justify=justify)
    for name, value in times.most_common(SHOWN):
        table.add_row(f"{value / steps / 1e3:,.2f}", f"{kernels['calls', name] / steps:.2f}", name[:120])
    return table


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
