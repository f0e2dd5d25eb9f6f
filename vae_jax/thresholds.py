"""Boundaries between genuine rows and anomalies, found on the scores of genuine held-out rows.

Scores are higher = more normal: a row is genuine if its score is at or above the boundary, else an anomaly. `quantile`
is the default: it assumes nothing about the distribution of scores, and its one setting, the share of false alarms, is
the user's decision anyway. Log reconstruction probabilities have a long lower tail, on which rules made for a bell
shape (`mean-sigma`, `mad`, `tukey`) raise either far too many alarms or hardly any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

DEFAULT_FALSE_ALARM_RATE = 0.01
# Share of genuine scores that `gpd` treats as the tail.
GPD_TAIL = 0.1
# Scales the median absolute deviation of a Gaussian to its standard deviation.
MAD_TO_SD = 1.4826


def quantile(scores: Float[np.ndarray, " N"], false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE) -> float:
    """Boundary below which a given share of genuine rows falls.

    Args:
      scores: scores of genuine held-out rows, float, higher = more normal.
      false_alarm_rate: share of genuine rows that may be called anomalies, in (0, 1).

    Returns:
      The empirical quantile of the scores; next to an infinite score, the lower of the two that it lies between.

    Raises:
      ValueError: for a rate outside [0, 1].

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> thresholds.quantile(np.arange(101.0), false_alarm_rate=0.25)
      25.0
    """
    _check_rate(false_alarm_rate)
    with np.errstate(invalid="ignore"):
        found = np.quantile(scores, false_alarm_rate)
    # On the way to an infinite score lies NaN, below which no row would be.
    return float(found if np.isfinite(found) else np.quantile(scores, false_alarm_rate, method="lower"))


def _check_rate(false_alarm_rate: float) -> None:
    if not 0 <= false_alarm_rate <= 1:
        raise ValueError(f"false_alarm_rate={false_alarm_rate}: expected a share, between 0 and 1")


def tukey(scores: Float[np.ndarray, " N"], k: float = 1.5) -> float:
    """Lower fence of a box plot.

    Args:
      scores: scores of genuine held-out rows, float, higher = more normal.
      k: whisker length in interquartile ranges.

    Returns:
      `Q1 - k * (Q3 - Q1)`.

    References:
      Tukey 1977, "Exploratory Data Analysis".

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> thresholds.tukey(np.arange(101.0))
      -50.0
    """
    first, third = np.quantile(scores, [0.25, 0.75])
    return float(first - k * (third - first))


def mad(scores: Float[np.ndarray, " N"], k: float = 3.5) -> float:
    """Boundary at `k` robust standard deviations below the median.

    Args:
      scores: scores of genuine held-out rows, float, higher = more normal.
      k: number of robust standard deviations.

    Returns:
      `median - k * 1.4826 * MAD`, with MAD the median absolute deviation from the median.

    References:
      Iglewicz & Hoaglin 1993, "How to Detect and Handle Outliers".

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> round(thresholds.mad(np.arange(101.0), k=2.0), 2)
      -24.13
    """
    median = np.median(scores)
    return float(median - k * MAD_TO_SD * np.median(np.abs(scores - median)))


def mean_sigma(scores: Float[np.ndarray, " N"], k: float = 3.0) -> float:
    """Boundary at `k` standard deviations below the mean.

    Args:
      scores: scores of genuine held-out rows, float, higher = more normal.
      k: number of standard deviations.

    Returns:
      `mean - k * sd`.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> thresholds.mean_sigma(np.array([-1.0, 1.0]))
      -3.0
    """
    return float(np.mean(scores) - k * np.std(scores))


def gpd(scores: Float[np.ndarray, " N"], false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE) -> float:
    """Fits a generalised Pareto distribution to the lower tail (peaks over threshold).

    Args:
      scores: scores of genuine held-out rows, float, higher = more normal.
      false_alarm_rate: share of genuine rows that may be called anomalies, in (0, 1). It may be below 1/N, where the
        empirical quantile has no data.

    Returns:
      The score below which the fitted tail has that share. It is the empirical quantile for rates of 0.1 or more, which
      are outside the tail, and for a tail without spread or one that ties make smaller than the rate.

    Raises:
      ValueError: for a rate outside [0, 1].

    References:
      Siffer et al. 2017, "Anomaly Detection in Streams with Extreme Value Theory", eq. 1.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> scores = np.random.default_rng(0).normal(size=10_000)
      >>> thresholds.gpd(scores, false_alarm_rate=1e-5) < thresholds.quantile(scores, false_alarm_rate=1e-3)
      True
    """
    from scipy.stats import genpareto

    _check_rate(false_alarm_rate)
    scores = np.asarray(scores)
    start = np.quantile(scores, GPD_TAIL)
    excess = start - scores[scores < start]
    expected_alarms = false_alarm_rate * scores.size
    outside = false_alarm_rate >= GPD_TAIL or expected_alarms >= excess.size
    if outside or excess.size < 2 or np.ptp(excess) == 0:
        return quantile(scores, false_alarm_rate)
    shape, _, scale = genpareto.fit(excess, floc=0)
    return float(start - genpareto.isf(expected_alarms / excess.size, shape, scale=scale))


def best_f1(scores: Float[np.ndarray, " N"], is_anomaly: Bool[np.ndarray, " N"]) -> float:
    """Boundary with the highest F1 score for anomalies; the only rule that uses labels.

    Args:
      scores: scores of held-out rows of both kinds, float, higher = more normal.
      is_anomaly: which of them are anomalies.

    Returns:
      A boundary halfway between two neighbouring scores.

    Raises:
      ValueError: if the rows are not of both kinds.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> thresholds.best_f1(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, False, False]))
      2.5
    """
    scores, is_anomaly = np.asarray(scores), np.asarray(is_anomaly)
    if not is_anomaly.any() or is_anomaly.all():
        raise ValueError("the 'best-f1' boundary needs rows of both kinds")
    values, inverse = np.unique(scores, return_inverse=True)
    anomalies = np.cumsum(np.bincount(inverse, weights=is_anomaly))
    alarms = np.cumsum(np.bincount(inverse))
    best = int(np.argmax(2 * anomalies / (alarms + is_anomaly.sum())))
    # Everything up to values[best] is an alarm; nothing lies between it and the next value.
    if best + 1 == len(values):
        return float(np.nextafter(values[best], np.inf))
    middle = values[best] / 2 + values[best + 1] / 2  # in the scores' dtype, used in comparisons
    return float(max(middle, np.nextafter(values[best], np.inf)))  # adjacent floats have no middle


RULES: dict[str, Callable[..., float]] = {
    "quantile": quantile,
    "tukey": tukey,
    "mad": mad,
    "mean-sigma": mean_sigma,
    "gpd": gpd,
    "best-f1": best_f1,
}


def boundary(
    rule: str,
    scores: Float[np.ndarray, " N"],
    labels: Int[np.ndarray, " N"],
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
) -> float:
    """Finds a boundary by the name of its rule.

    Args:
      rule: a name in `RULES`.
      scores: scores of held-out rows of both kinds, float, higher = more normal.
      labels: 1 = anomaly, 0 = genuine. All rules but `best-f1` use only the genuine rows.
      false_alarm_rate: share of genuine rows that may be called anomalies; used by `quantile` and `gpd`.

    Returns:
      The boundary: scores below it are anomalies.

    Raises:
      ValueError: for an unknown rule, no genuine rows, `best-f1` without anomalies, a rate outside [0, 1], scores
        that are NaN, or infinite ones for which the rule gives NaN; below such a boundary no row would be.

    Examples:
      >>> import numpy as np
      >>> from vae_jax import thresholds
      >>> scores = np.concatenate([np.arange(101.0), [-40.0, -30.0]])
      >>> labels = np.array([0] * 101 + [1] * 2)
      >>> thresholds.boundary("quantile", scores, labels, false_alarm_rate=0.1)
      10.0
      >>> thresholds.boundary("best-f1", scores, labels)
      -15.0
    """
    if rule not in RULES:
        raise ValueError(f"unknown boundary rule '{rule}': expected one of {', '.join(RULES)}")
    scores, labels = np.asarray(scores), np.asarray(labels)
    if count := int(np.isnan(scores).sum()):
        raise ValueError(f"{count} of {len(scores)} scores are NaN: expected numbers")
    if rule == "best-f1":
        return best_f1(scores, labels == 1)
    genuine = scores[labels == 0]
    if genuine.size == 0:
        raise ValueError(f"the '{rule}' boundary needs genuine rows")
    with np.errstate(invalid="ignore"):
        found = RULES[rule](genuine, false_alarm_rate) if rule in ("quantile", "gpd") else RULES[rule](genuine)
    if np.isnan(found):
        raise ValueError(f"the '{rule}' boundary is NaN, for some scores are infinite; 'quantile' takes them")
    return found
