"""Readers of what runs leave behind: their configuration, models and checkpoints.

The first byte of an input tells which of the files it stands for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vae_jax
from benchmarks.faults.readers.reader import Reader, WrongError
from experiments.command_line import UsageError
from experiments.fraud.config import FraudConfig
from experiments.runs import run_folder
from vae_jax import VAEDetector
from vae_jax.detector.model_folder import ARRAYS, CARD, DETECTOR, MANIFEST, ModelError
from vae_jax.training.checkpoints import CheckpointError, Checkpoints

JSON_WORDS = (
    *b'{ } [ ] : , " null true NaN -Infinity 1e999 [[[[[[[[ "format" "sha256" "hidden_dims" "recipe"'.split(),
    *(b'"config_sha256"', b'"epochs"', b'"data"', b"9" * 20, b"\\ud800", b"\xff"),
)


def _chosen(data: bytes, files: list[Path]) -> tuple[Path, bytes]:
    return files[data[0] % len(files) if data else 0], data[1:]


# Configuration


def _run_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        run = run_folder.create("fraud", str(Path(folder, "run")), FraudConfig())
        form = run.read_json(run_folder.FORMAT_FILE)
        del form[run_folder.CHECKSUM]  # so that altered configurations are read, as those of earlier versions
        run.write_json(run_folder.FORMAT_FILE, form)
        return {name: (run.folder / name).read_bytes() for name in (run_folder.CONFIG, run_folder.FORMAT_FILE)}


def _prepare_run(folder: Path) -> Callable[[bytes], object]:
    whole = _run_files()

    def read(data: bytes) -> None:
        for name, content in whole.items():
            (folder / name).write_bytes(content)
        path, content = _chosen(data, [folder / name for name in whole])
        path.write_bytes(content)
        config = run_folder.read_config(run_folder.follow(str(folder)), FraudConfig)
        if not isinstance(config.data, str) or not isinstance(config.seed, int):
            raise WrongError(f"{config}")

    return read


run = Reader(
    "configuration of runs",
    lambda: [bytes([i]) + content for i, content in enumerate(_run_files().values())],
    _prepare_run,
    UsageError,
    JSON_WORDS,
)


# Models


FIXTURES = Path(__file__).parents[3] / "tests" / "fixtures"
SAVED = {"format_0": "detector_gaussian", "columns_2": "detector", "exemplars_4": "detector_exemplar"}


def _model_folders() -> list[dict[str, bytes]]:
    """The files of three small models: of numbers, of any columns, and of exemplars."""
    found = []
    for name, folder in SAVED.items():
        with zipfile.ZipFile(FIXTURES / f"{name}.zip") as archive:
            found.append({part: archive.read(f"{folder}/{part}") for part in (MANIFEST, DETECTOR, ARRAYS, CARD)})
    return found


def _arrays_of(folder: Path) -> list[np.ndarray]:
    detector = VAEDetector.load(folder)
    exemplars = dict(detector.exemplars_._asdict()) if detector.exemplars_ else {}
    if gaussianiser := exemplars.pop("gaussianiser", None):
        exemplars |= vars(gaussianiser)
    return jax.tree.leaves((detector.state_, detector.residual_sd_, exemplars, detector.offset_))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _model_seeds(names: tuple[str, ...]) -> list[bytes]:
    models = _model_folders()
    return [bytes([i * len(names) + j]) + models[i][name] for i in range(len(models)) for j, name in enumerate(names)]


def _prepare_damaged_model(folder: Path) -> Callable[[bytes], object]:
    models = _model_folders()
    whole = []
    for model in models:
        _write(folder, model)
        whole.append(_arrays_of(folder))
    names = (MANIFEST, DETECTOR, ARRAYS, CARD)

    def read(data: bytes) -> None:
        i = data[0] // len(names) % len(models) if data else 0
        _write(folder, models[i])
        path, content = _chosen(data, [folder / name for name in names])
        path.write_bytes(content)
        found = _arrays_of(folder)
        if not all(np.array_equal(*pair, equal_nan=True) for pair in zip(found, whole[i], strict=True)):
            raise WrongError("other numbers than were saved")

    return read


damaged_model = Reader(
    "models, damaged",
    lambda: _model_seeds((MANIFEST, DETECTOR, ARRAYS, CARD)),
    _prepare_damaged_model,
    ModelError,
    JSON_WORDS,
)


def _prepare_model(folder: Path) -> Callable[[bytes], object]:
    models = _model_folders()
    names = (DETECTOR, ARRAYS)

    def read(data: bytes) -> None:
        files = dict(models[data[0] // len(names) % len(models) if data else 0])
        files[names[data[0] % len(names) if data else 0]] = data[1:]
        checksums = {name: hashlib.sha256(files[name]).hexdigest() for name in names}
        files[MANIFEST] = json.dumps({"format": 4, "sha256": checksums}).encode()
        _write(folder, files)
        VAEDetector.load(folder)

    return read


model = Reader(
    "models of strangers, checksums right",
    lambda: _model_seeds((DETECTOR, ARRAYS)),
    _prepare_model,
    ModelError,
    JSON_WORDS,
)


# Checkpoints


def _state(seed: int) -> vae_jax.TrainState:
    vae = vae_jax.dense_vae(feature_dim=2, hidden_dims=(), latent_dim=1)
    return vae_jax.create_train_state(jax.random.key(seed), vae, vae_jax.Objective(), optax.sgd(1e-3), (2,))


def _checkpoint(folder: Path) -> list[Path]:
    """Saves one, and returns its files."""
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, _state(0).replace(step=jnp.int32(7)), 0.5)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _checkpoint_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return [bytes([i]) + path.read_bytes() for i, path in enumerate(_checkpoint(Path(folder)))]


def _prepare_checkpoint(folder: Path) -> Callable[[bytes], object]:
    whole, copy = folder / "whole", folder / "copy"
    names = [path.relative_to(whole) for path in _checkpoint(whole)]
    expected = _arrays_in(whole)

    def read(data: bytes) -> None:
        if not copy.exists():
            shutil.copytree(whole, copy)
        path, content = _chosen(data, [copy / name for name in names])
        path.write_bytes(content)
        try:
            found = _arrays_in(copy)
        except CheckpointError:  # nothing else was changed, and copying takes as long as reading
            shutil.copyfile(whole / path.relative_to(copy), path)
            raise
        shutil.rmtree(copy)
        if not all(np.array_equal(*pair) for pair in zip(found, expected, strict=True)):
            raise WrongError(f"{path.relative_to(copy)}: other numbers than were saved")

    return read


def _arrays_in(folder: Path) -> list[np.ndarray]:
    with Checkpoints(folder) as checkpoints:
        if checkpoints.latest is None:
            raise CheckpointError("no checkpoint")
        restored = checkpoints.restore(_state(1), checkpoints.latest)
        checkpoints.sums(checkpoints.latest)
    key = jax.random.key_data(restored.key)
    return [np.asarray(leaf) for leaf in jax.tree.leaves((restored.step, restored.params, restored.opt_state, key))]


checkpoint = Reader("checkpoints", _checkpoint_seeds, _prepare_checkpoint, CheckpointError, JSON_WORDS)
