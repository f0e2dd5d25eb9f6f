"""Any number of transactions: the real rows drawn with replacement, each moved a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
