"""The numbers that a model sees of a column: how each is learned from training rows, and made from a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vae_jax.networks.columns import UNKNOWN
from vae_jax.tables.kinds import SKEWED, Found, skewness
from vae_jax.tables.scaling import OF_CONSTANT, mean_and_sd, sd_of_constant

Likelihood = Literal["gaussian", "count", "bernoulli", "categorical"]
LIKELIHOODS: tuple[Likelihood, ...] = ("gaussian", "count", "bernoulli", "categorical")  # in a layout's order

# A level of fewer rows than these is pooled with the other rare ones and with unseen ones: the share of all of them
# together is known, that of each is not, and a thousand of them would outweigh every other column.
RARE_SHARE, FEWEST_RARE, MOST_RARE = 1e-3, 2, 10
MOST_LEVELS = 255  # beside the pooled one
YES, NO = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")
TYPICAL = (0.01, 0.99)  # quantiles between which a number is called typical
GAP = "gap"  # what a part is that tells whether the cell is missing
DAY = np.timedelta64(1, "D")
SHORTEST_FOR_MONTHS = 60  # days
MISTAKEN = 3652.0  # days, ten years: a date that is further from the training rows, such as 1900-01-01, is what it says


@dataclass(frozen=True)
class Part:
    """One number of a row: how it is made from a cell.

    Attributes:
      likelihood: see `LIKELIHOODS`.
      what: of a date, which part; `gap` for whether the cell is missing; "" if it is the cell itself.
      log, shift: whether log(x + shift) is standardised; of a count, log(1 + x).
      mean, sd: of the training rows, by which it is standardised; 0 and 1 for answers and categories.
      levels: of an answer (no, yes) or a category, without that of rare and unseen values.
      shares: of the levels among the training rows; of a category with that of rare and unseen values.
      unknown: of an answer, the probability that it is neither of the two.
      pooled: of a category, the training rows of rare values.
      typical: for a number, two quantiles of the training rows, in the cell's own unit.
    """

    likelihood: Likelihood
    what: str = ""
    log: bool = False
    shift: float = 0.0
    mean: float = 0.0
    sd: float = 1.0
    levels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    unknown: float = 0.0
    pooled: int = 0
    typical: tuple[float, float] = (0.0, 0.0)

    def transformed(self, values: np.ndarray) -> np.ndarray:
        """The number that is standardised."""
        if not self.log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.isnan(values), np.nan, np.log(np.maximum(values + self.shift, 0)))


def part_of(what: str, values: np.ndarray) -> np.ndarray:
    """A date's part: a number of days, or a whole number as text; or the values themselves."""
    if not what:
        return values
    if what == "elapsed":
        return np.where(np.isnat(values), np.nan, (values - np.datetime64(0, "us")) / DAY)
    days = values.astype("datetime64[D]")
    number = {
        "hour": lambda: (values - days).astype("timedelta64[h]"),
        "weekday": lambda: (days.astype("int64") + 3) % 7 + 1,  # 1970-01-01 was a Thursday; 1 is Monday
        "month": lambda: days.astype("datetime64[M]").astype("int64") % 12 + 1,
    }[what]()
    return np.where(np.isnat(values), np.nan, number.astype("int64").astype(np.float64))


def encoded(part: Part, values: np.ndarray, numeric: bool, limit: float) -> np.ndarray:
    """A part's values as float64: standardised, or the number of the level."""
    import pandas as pd

    if part.likelihood in ("gaussian", "count"):
        if part.what == "elapsed":
            nearest = np.clip(values, *part.typical)  # tomorrow is as late as the latest training row
            values = np.where(np.abs(values - nearest) > MISTAKEN, values, nearest)
        with np.errstate(over="ignore"):
            return np.clip((part.transformed(values) - part.mean) / part.sd, -limit, limit)
    numeric = numeric or bool(part.what)
    levels = pd.Index(np.array(part.levels, np.float64) if numeric else np.array(part.levels, object))
    codes = levels.get_indexer(pd.Index(values)).astype(np.float64)
    if part.likelihood == "bernoulli" and (codes < 0).any() and {level.lower() for level in part.levels} <= {*YES, *NO}:
        # True where training rows had 1, and the like.
        words = pd.Series(values[codes < 0]).map(lambda value: as_level(value) if numeric else str(value).lower())
        codes[codes < 0] = np.select([words.isin(YES), words.isin(NO)], [1.0, 0.0], -1.0)
    codes[codes < 0] = UNKNOWN if part.likelihood == "bernoulli" else len(part.levels)
    return codes


def _standardised(likelihood: Likelihood, values: np.ndarray, what: str = "", log: bool = False) -> Part:
    given = values[~np.isnan(values)]
    shift = 0.0
    if log:
        above = given[given > 0]
        if likelihood == "count" or not len(above):
            shift = 1.0
        elif len(above) < len(given):
            shift = float(above.min())
    part = Part(likelihood, what, log, shift)
    seen = part.transformed(given)
    if what == "elapsed":
        typical = (float(given.min()), float(given.max()))
    else:
        low, high = np.quantile(given, TYPICAL, method="nearest")
        typical = (float(low), float(high))
    mean, sd = mean_and_sd(seen)
    if seen.max() == seen.min():
        # Counts differ by 1, and logarithms by a share of the value, in every unit.
        mean, sd = seen[0], 1.0 if likelihood == "count" else OF_CONSTANT if log else sd_of_constant(seen[0])
    return Part(likelihood, what, log, shift, float(mean), float(sd), typical=typical)


def answer(values: np.ndarray, numeric: bool, what: str = "", levels: tuple[str, ...] = ()) -> Part:
    """Learns the part of a cell that is one of two values; `levels` are no and yes, if they are known."""
    texts, counts = _counted(values, numeric)
    levels = levels or tuple(sorted(texts, key=lambda text: (text.lower() in YES, text)))
    n = sum(counts)
    yes = (counts[texts.index(levels[-1])] + 1) / (n + 2)
    return Part("bernoulli", what, levels=levels, shares=(1 - yes, yes), unknown=1 / (n + 3))


def category(values: np.ndarray, numeric: bool, what: str = "") -> Part:
    """Learns the part of a cell that is one of several levels, pooling those of few rows."""
    texts, counts = _counted(values, numeric)
    n = sum(counts)
    rare = min(max(RARE_SHARE * n, FEWEST_RARE), MOST_RARE)
    kept = [(text, count) for text, count in zip(texts, counts, strict=True) if count >= rare][:MOST_LEVELS]
    pooled = n - sum(count for _, count in kept)
    # Rule of succession: what was not seen in n rows is not impossible.
    shares = tuple((count + 1) / (n + len(kept) + 1) for count in (*(count for _, count in kept), pooled))
    return Part("categorical", what, levels=tuple(text for text, _ in kept), shares=shares, pooled=pooled)


def _counted(values: np.ndarray, numeric: bool) -> tuple[list[str], list[int]]:
    """Distinct values as text, the most frequent first, and their numbers of rows."""
    import pandas as pd

    found = pd.Series(values).value_counts(sort=False)
    texts = [as_level(value) if numeric else str(value) for value in found.index]
    order = sorted(range(len(texts)), key=lambda i: (-found.iloc[i], texts[i]))
    return [texts[i] for i in order], [int(found.iloc[i]) for i in order]


def as_level(number: float) -> str:
    """The shortest text that is read back as the same number; 1 for 1.0."""
    return repr(float(number)).removesuffix(".0")


def _date_parts(found: Found) -> Iterator[Part]:
    dates = found.values
    days = part_of("elapsed", dates)
    for what in ("hour", "weekday", "month"):
        values = part_of(what, dates)
        span = np.nanmax(days) - np.nanmin(days)
        varied = len(np.unique(values[~np.isnan(values)])) > 1
        if varied and (what != "month" or span >= SHORTEST_FOR_MONTHS):
            yield category(values, True, what)
    yield _standardised("gaussian", days, "elapsed")


def learn(found: Found) -> list[Part]:
    """Learns a column's parts from its cells in the training rows; none for an id and the like."""
    return list(_PARTS[found.kind](found)) if found.kind in _PARTS else []


def gap_part(gap: np.ndarray) -> Part:
    """The part that tells whether a cell is missing."""
    return answer(np.where(gap, "gap", "given").astype(object), False, GAP, ("given", "gap"))


# Positive numbers are seen by their logarithm, and so are counts that are as skewed.
_PARTS: dict[str, Callable[[Found], Any]] = {
    "real": lambda found: [_standardised("gaussian", found.values)],
    "positive": lambda found: [_standardised("gaussian", found.values, log=True)],
    "count": lambda found: [
        _standardised("count", found.values, log=skewness(found.values) > SKEWED and bool(np.nanmin(found.values) >= 0))
    ],
    "yes-no": lambda found: [answer(found.values, found.numeric)],
    "category": lambda found: [category(found.values, found.numeric)],
    "constant": lambda found: [category(found.values, found.numeric)],
    "date": _date_parts,
}
