"""Tables to measure speed with: any number of transactions drawn from the real rows, and a table of words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from vae_jax.tables.synthetic import simulate_transactions
from vae_jax.tables.transactions import read_csv

FULL_ROWS, FULL_FRAUDS = 284_807, 492  # in the whole ULB set
NOISE = 0.05  # of V1..V28, in standard deviations, so that no two rows are equal


def write_stand_in(path: Path, rows: int, source: Path | None, frauds: int = FULL_FRAUDS, seed: int = 0) -> None:
    """Writes a CSV with the real columns and `rows` rows, `frauds` of them frauds; equal seeds give equal files.

    Draws from `source`, a CSV of real transactions, or from simulated ones if it is None.
    """
    frame = simulate_transactions(seed) if source is None else read_csv(source)
    rng = np.random.default_rng(seed)
    labels = frame["Class"].to_numpy()
    genuine, fraud = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    drawn = frame.iloc[np.concatenate([rng.choice(genuine, rows - frauds), rng.choice(fraud, frauds)])].copy()
    names = [f"V{i}" for i in range(1, 29)]
    drawn[names] += NOISE * frame[names].std().to_numpy() * rng.standard_normal((rows, len(names)))
    drawn.sort_values("Time", kind="stable").to_csv(path, index=False)


def write_words(path: Path, label: str, rows: int = 15_000, categories: int = 30, seed: int = 0) -> None:
    """Writes a CSV of categories with 2 to 20 levels, two numbers, and a label of 0 or 1."""
    rng = np.random.default_rng(seed)
    words = {f"word {i}": rng.choice([f"level {j}" for j in range(2 + i % 19)], rows) for i in range(categories)}
    numbers = {"amount": rng.exponential(100, rows).round(2), "age": rng.integers(18, 80, rows)}
    pd.DataFrame({**words, **numbers, label: (rng.random(rows) < 0.06).astype(int)}).to_csv(path, index=False)
