"""How well a score separates frauds from genuine rows. Scores: higher = more normal. Frauds are the positives."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from vae_jax import thresholds

BOOTSTRAP_RESAMPLES = 1000


@dataclass(frozen=True)
class Counts:
    """Decisions at a boundary: rows below it raise an alarm, and a fraud that raises one is a true positive."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def precision(self) -> float | None:
        """Share of alarms that are frauds; None without alarms."""
        alarms = self.true_positives + self.false_positives
        return self.true_positives / alarms if alarms else None

    @property
    def recall(self) -> float | None:
        """Share of frauds that raise an alarm; None without frauds."""
        frauds = self.true_positives + self.false_negatives
        return self.true_positives / frauds if frauds else None


def count(scores: np.ndarray, labels: np.ndarray, boundary: float) -> Counts:
    """Counts the decisions at a boundary; labels: 1 = fraud."""
    alarm, fraud = scores < boundary, labels == 1
    return Counts(
        true_positives=int((alarm & fraud).sum()),
        false_positives=int((alarm & ~fraud).sum()),
        true_negatives=int((~alarm & ~fraud).sum()),
        false_negatives=int((~alarm & fraud).sum()),
    )


@dataclass(frozen=True)
class Scored:
    """One scorer's held-out scores (float64, higher = more normal) and labels (1 = fraud)."""

    validation: np.ndarray
    validation_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def measure(scored: Scored, rule: str, false_alarm_rate: float) -> dict:
    """Sets a boundary on the validation rows by a rule of `vae_jax.thresholds`, and measures the test rows.

    Returns:
      `roc_auc`, `average_precision`, `threshold`, the four `Counts`, `precision` and `recall`; those that need a fraud
      are None without one.
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
    """Percentile bootstrap interval of the average precision, with frauds and genuine rows resampled separately.

    A resample is a set of weights, so the rows are sorted only once; scikit-learn would sort them for every resample.

    Returns:
      The interval's lower and upper end; None without frauds.
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
    """Average precision of rows sorted from least to most normal; rows with equal scores enter together."""
    caught = np.cumsum(weights * fraud)[last_of_tie]
    alarms = np.cumsum(weights)[last_of_tie]
    precision = np.divide(caught, alarms, out=np.zeros(len(alarms)), where=alarms > 0)
    return float((np.diff(caught, prepend=0) * precision).sum() / caught[-1])
