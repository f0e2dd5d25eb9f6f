"""Small detectors to export, rows that try everything a row may be, and the command."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.command_line import run
from experiments.export.__main__ import main
from vae_jax import VAEDetector

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


def export(recipe: str, folder: Path, how: str) -> Path:
    """Saves a detector and exports it, as a user does; returns the folder of the export."""
    detector(recipe).save(folder / "run" / "model")
    assert run(main, ["--model", str(folder / "run"), "--format", how]) == 0
    return folder / "run" / "export" / how
