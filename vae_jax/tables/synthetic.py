"""Simulated transactions, for trials without the real data. Results on them say nothing about real data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DAY = 86_400  # seconds
FRAUD_SHARE = 0.002
DEGREES_OF_FREEDOM = 8.0  # of the multivariate t distribution; fewer means heavier tails
FRAUD_CLUSTERS = 3
FRAUD_SHIFT = 10.0  # standard deviation of a cluster's shift in each of its features
SHIFTED_FEATURES = 6


def simulate_transactions(seed: int = 0, rows: int = 50_000) -> pd.DataFrame:
    """Simulates two days of transactions with the columns of the ULB credit card set.

    Genuine rows follow a correlated multivariate t distribution with log-normal amounts; frauds form a few tight
    clusters of it, each shifted in a handful of features.

    Args:
      seed: equal seeds give equal rows.
      rows: number of rows.

    Returns:
      A frame with Time (seconds, sorted), V1..V28, Amount (euros) and Class (1 for about 0.2 % of the rows).

    Examples:
      >>> from vae_jax.tables.synthetic import simulate_transactions
      >>> frame = simulate_transactions(seed=0, rows=100)
      >>> list(frame.columns[:3]), list(frame.columns[-2:])
      (['Time', 'V1', 'V2'], ['Amount', 'Class'])
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < FRAUD_SHARE).astype(np.int64)
    values = _correlated_t(rng, rows, 28)
    cluster = rng.integers(FRAUD_CLUSTERS, size=rows)
    shift = np.zeros((FRAUD_CLUSTERS, 28))
    for row in shift:
        row[rng.choice(28, SHIFTED_FEATURES, replace=False)] = rng.normal(0.0, FRAUD_SHIFT, SHIFTED_FEATURES)
    values = np.where(labels[:, None] == 1, 0.8 * values + shift[cluster], values)
    amount = np.round(rng.lognormal(3.0 + 0.4 * labels, 1.5), 2)
    frame = pd.DataFrame(values, columns=[f"V{i}" for i in range(1, 29)])
    frame.insert(0, "Time", np.sort(rng.uniform(0, 2 * DAY, rows)).round())
    frame["Amount"] = amount
    frame["Class"] = labels
    return frame


def _correlated_t(rng: np.random.Generator, rows: int, features: int) -> np.ndarray:
    """Draws from a multivariate t: a few shared factors plus noise, over the root of a chi-square shared by a row."""
    loadings = rng.normal(size=(4, features))
    gaussian = rng.normal(size=(rows, 4)) @ loadings + rng.normal(size=(rows, features))
    scale = np.sqrt(rng.chisquare(DEGREES_OF_FREEDOM, size=(rows, 1)) / DEGREES_OF_FREEDOM)
    return gaussian / scale
