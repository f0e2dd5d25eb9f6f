"""Small models to export, and what they say themselves."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.celeba import face_model
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import FaceModel, study_latents
from experiments.celeba.model import NAME, initial_state
from experiments.command_line import run
from experiments.export.__main__ import main
from experiments.runs import run_folder
from vae_jax import VAEDetector
from vae_jax.detector.schema_function import numbers_of_cells
from vae_jax.training.checkpoints import Checkpoints

SMALL = {"epochs": 1, "hidden_dims": (8,)}
# By name, the settings of a detector, and whether its table has columns of other kinds than numbers.
MODELS: dict[str, tuple[dict, bool]] = {
    "exemplar": ({**SMALL, "num_models": 1}, False),
    "gaussian": ({**SMALL, "recipe": "gaussian", "num_models": 2, "num_samples": 20}, False),
    "report": ({**SMALL, "recipe": "report", "num_samples": 20}, False),
    "exemplar_of_columns": ({**SMALL, "num_models": 1, "missing": "informative"}, True),
    "gaussian_of_columns": ({**SMALL, "recipe": "gaussian", "num_samples": 20}, True),
}
# In 32 bits sums in another order differ so much, in nats, from scores of hundreds of nats.
TOLERANCE = {"rtol": 2e-5, "atol": 2e-4}


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    """Numbers of four kinds: dependent, heavy-tailed with ties, large with small differences, and constant."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=rows)
    return pd.DataFrame(
        {
            "a": common + 0.2 * rng.normal(size=rows),
            "paid": np.exp(2 * rng.normal(size=rows)).round(1),
            "time": 1.7e9 + 50 * common + rng.normal(size=rows),
            "always": np.full(rows, 7.0),
        }
    )


def columns(rows: int, seed: int = 0) -> pd.DataFrame:
    """The same with columns of every other kind, and gaps."""
    rng = np.random.default_rng(seed)
    found = table(rows, seed).assign(
        city=rng.choice(["Rome", "Oslo", "Lima"], rows),
        code=[f"c{i:02d}" for i in rng.choice(48, rows)],
        grade=rng.choice([1, 2, 5], rows),
        visits=rng.poisson(60, rows),
        open=rng.choice([True, False], rows),
        when=pd.Timestamp("2023-11-20") + pd.to_timedelta(rng.integers(0, 150 * 86_400, rows), unit="s"),
    )
    for name in ("paid", "city", "open", "when"):
        found[name] = found[name].astype(object).where(rng.random(rows) > 0.1, None)
    return found


@cache
def detector(model: str) -> VAEDetector:
    """A detector fitted to 300 rows."""
    settings, of_columns = MODELS[model]
    return VAEDetector(**settings).fit((columns if of_columns else table)(300))


@cache
def new_table(of_columns: bool) -> pd.DataFrame:
    """Training rows, new ones, ones far outside, and gaps."""
    make = columns if of_columns else table
    frame = pd.concat([make(300)[:20], make(30, seed=1)], ignore_index=True)
    numbers = ["a", "paid", "time", "always"]
    frame[numbers] = frame[numbers].astype(float)
    frame.loc[22, numbers] *= 1e6
    frame.loc[23, numbers] *= -1e6
    frame.loc[24:27, "paid"] = np.nan
    frame.loc[26:28, "a"] = np.nan
    if of_columns:
        frame.loc[30, ["city", "code", "grade", "visits", "open"]] = ["Bern", "new", 9, 10**6, "perhaps"]
        frame.loc[31, "when"] = pd.Timestamp("1900-02-28 23:59:59")
        frame.loc[32, "when"] = pd.Timestamp("2024-02-29")
    return frame


def new_rows(model: str) -> np.ndarray:
    """The same as numbers."""
    frame, fitted = new_table(MODELS[model][1]), detector(model)
    return frame.to_numpy() if fitted.schema_ is None else numbers_of_cells(fitted.schema_, frame)


@cache
def expected(model: str) -> dict[str, np.ndarray]:
    """What the detector itself says of the new rows."""
    frame, fitted = new_table(MODELS[model][1]), detector(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of gaps
        shares = fitted.explain(frame).to_numpy()
        return {"score": fitted.score_samples(frame), "anomaly": fitted.predict(frame) < 0, "shares": shares}


def first(rows: int, of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is said of the first rows."""
    return {name: array[:rows] for name, array in of.items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Compares scores, shares and decisions."""
    for name in ("score", "shares"):
        np.testing.assert_allclose(np.asarray(found[name]), wanted[name], **TOLERANCE)
    np.testing.assert_array_equal(np.asarray(found["anomaly"]), wanted["anomaly"])


def export(model: str, folder: Path, how: str, *options: str) -> Path:
    """Saves a detector and exports it, as a user does; returns the folder of the export."""
    detector(model).save(folder / "run" / "model")
    assert run(main, ["--model", str(folder / "run"), "--format", how, *options]) == 0
    return folder / "run" / "export" / how


def finished_faces(folder: Path) -> FaceModel:
    """Makes the folder of a finished run of faces whose model is not trained; returns the model."""
    config = CelebaConfig(image_size=16, latent_dim=3, dtype="bfloat16")
    opened = run_folder.create("celeba", str(folder), config)
    state = initial_state(config)
    with Checkpoints(folder / "checkpoints" / NAME) as checkpoints:
        checkpoints.save(1, state, 0.0)
    latents = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
    face_model.save(study_latents(state, *latents, np.ones((40, 0)), (), 1, 0), opened)
    in_float32 = initial_state(CelebaConfig(image_size=16, latent_dim=3)).vae
    return study_latents(state.replace(vae=in_float32), *latents, np.ones((40, 0)), (), 1, 0)


def pictures() -> np.ndarray:
    """Pictures of noise, uint8."""
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
