"""How well a score separates frauds from genuine rows. Scores are higher = more normal; frauds are the positives."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from vae_jax import thresholds

BOOTSTRAP_RESAMPLES = 1000


@dataclass(frozen=True)
class Counts:
    """What a boundary does to rows.

    Attributes:
      true_positives: frauds below the boundary.
      false_positives: genuine rows below it: false alarms.
      true_negatives: genuine rows at or above it.
      false_negatives: frauds at or above it: misses.
    """

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of the alarms that are frauds; None without an alarm."""
        alarms = self.true_positives + self.false_positives
        return self.true_positives / alarms if alarms else None

    @property
    def recall(self) -> float | None:
        """Share of the frauds that raise an alarm; None without a fraud."""
        frauds = self.true_positives + self.false_negatives
        return self.true_positives / frauds if frauds else None


def count(scores: np.ndarray, labels: np.ndarray, boundary: float) -> Counts:
    """Counts decisions at a boundary.

    Args:
      scores: shape (N,), higher = more normal.
      labels: shape (N,), 1 = fraud.
      boundary: rows below it are called frauds.

    Returns:
      The counts.
    """
    alarm, fraud = scores < boundary, labels == 1
    return Counts(
        true_positives=int((alarm & fraud).sum()),
        false_positives=int((alarm & ~fraud).sum()),
        true_negatives=int((~alarm & ~fraud).sum()),
        false_negatives=int((~alarm & fraud).sum()),
    )


@dataclass(frozen=True)
class Scored:
    """One scorer's held-out rows.

    Attributes:
      validation: scores, shape (N,), float64, higher = more normal.
      validation_labels: shape (N,), 1 = fraud.
      test: scores, shape (M,), float64.
      test_labels: shape (M,), 1 = fraud.
    """

    validation: np.ndarray
    validation_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def measure(scored: Scored, rule: str, false_alarm_rate: float) -> dict:
    """Sets a boundary on validation rows and measures the test rows.

    Args:
      scored: the scores.
      rule: the boundary's rule, see `vae_jax.thresholds`.
      false_alarm_rate: for the rules that take one.

    Returns:
      `roc_auc`, `average_precision`, `threshold`, the four counts of `Counts`, `precision` and `recall`. Measures that
      need a fraud are None where there is none.
    """
    boundary = thresholds.boundary(rule, scored.validation, scored.validation_labels, false_alarm_rate)
    counts = count(scored.test, scored.test_labels, boundary)
    has_frauds = scored.test_labels.any()
    return {
        "roc_auc": float(roc_auc_score(scored.test_labels, -scored.test)) if has_frauds else None,
        "average_precision": float(average_precision_score(scored.test_labels, -scored.test)) if has_frauds else None,
        "threshold": boundary,
        **asdict(counts),
        "precision": counts.precision,
        "recall": counts.recall,
    }


def bootstrap_interval(scores: np.ndarray, labels: np.ndarray, seed: int, level: float = 0.95) -> list[float] | None:
    """Percentile bootstrap interval of the average precision, resampling frauds and genuine rows each by themselves.

    Resampling is a matter of weights, so the rows are sorted once; scikit-learn's function would sort them anew for
    each of the thousand resamples.

    Args:
      scores: shape (N,), higher = more normal.
      labels: shape (N,), 1 = fraud.
      seed: of the resampling.
      level: coverage of the interval.

    Returns:
      Its lower and upper end; None without a fraud.
    """
    if not labels.any():
        return None
    rng = np.random.default_rng(seed)
    order = np.argsort(scores, kind="stable")
    scores, fraud = scores[order], labels[order] == 1
    last_of_tie = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    weights = np.zeros(len(scores), dtype=np.int64)
    values = np.empty(BOOTSTRAP_RESAMPLES)
    for i in range(BOOTSTRAP_RESAMPLES):
        for kind in (fraud, ~fraud):
            weights[kind] = np.bincount(rng.integers(kind.sum(), size=kind.sum()), minlength=kind.sum())
        values[i] = _weighted_average_precision(weights, fraud, last_of_tie)
    tail = (1 - level) / 2
    return [float(end) for end in np.quantile(values, [tail, 1 - tail])]


def _weighted_average_precision(weights: np.ndarray, fraud: np.ndarray, last_of_tie: np.ndarray) -> float:
    """Average precision of sorted rows (least normal first), equal scores entering together."""
    caught = np.cumsum(weights * fraud)[last_of_tie]
    alarms = np.cumsum(weights)[last_of_tie]
    precision = np.divide(caught, alarms, out=np.zeros(len(alarms)), where=alarms > 0)
    return float((np.diff(caught, prepend=0) * precision).sum() / caught[-1])
