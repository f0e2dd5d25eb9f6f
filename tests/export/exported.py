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
from vae_jax.training.checkpoints import Checkpoints

SETTINGS = {
    "exemplar": {"epochs": 1, "num_models": 1, "hidden_dims": (8,)},
    "gaussian": {"epochs": 1, "num_models": 2, "hidden_dims": (8,), "num_samples": 20},
    "report": {"epochs": 1, "hidden_dims": (8,), "num_samples": 20},
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


@cache
def detector(recipe: str) -> VAEDetector:
    """A detector of a recipe, fitted to 300 rows."""
    return VAEDetector(recipe=recipe, **SETTINGS[recipe]).fit(table(300))


@cache
def new_rows() -> np.ndarray:
    """Training rows, new ones, ones far outside, and gaps."""
    rows = np.concatenate([table(300).to_numpy()[:20], table(30, seed=1).to_numpy()])
    rows[22] *= 1e6
    rows[23] *= -1e6
    rows[24:28, 1] = np.nan
    rows[26:29, 0] = np.nan
    return rows


def expected(recipe: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the detector itself says of rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of gaps, and of an array without names
        fitted = detector(recipe)
        shares = fitted.explain(rows).to_numpy()
        return {"score": fitted.score_samples(rows), "anomaly": fitted.predict(rows) < 0, "shares": shares}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Compares scores, shares and decisions."""
    for name in ("score", "shares"):
        np.testing.assert_allclose(np.asarray(found[name]), wanted[name], **TOLERANCE)
    np.testing.assert_array_equal(np.asarray(found["anomaly"]), wanted["anomaly"])


def export(recipe: str, folder: Path, how: str, *options: str) -> Path:
    """Saves a detector and exports it, as a user does; returns the folder of the export."""
    detector(recipe).save(folder / "run" / "model")
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
