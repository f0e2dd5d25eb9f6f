"""Scored rows to move a boundary over: histogram, counts, and boundaries by share and by number a day."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.measures import Counts, count
from experiments.page.charts import HistogramScale

BINS = 60
POSITIONS = 1000  # of the slider, evenly spaced on the histogram's axis


@dataclass(frozen=True)
class Scored:
    """A recipe's scored test rows.

    Attributes:
      rows: their numbers in the source, shape (N,).
      scores: higher = more normal, shape (N,).
      labels: 1 = fraud, shape (N,).
      boundary: the run's own.
    """

    rows: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    boundary: float

    @cached_property
    def scale(self) -> HistogramScale:
        """The histogram's axis."""
        return HistogramScale.over(self.scores, self.boundary)

    @cached_property
    def genuine(self) -> np.ndarray:
        """Scores of the genuine rows, rising."""
        return np.sort(self.scores[self.labels == 0])

    @cached_property
    def lowest(self) -> np.ndarray:
        """Places of all rows, least normal first."""
        return np.argsort(self.scores, kind="stable")

    def place(self, score: float) -> float:
        """Where on the axis a score is: 0 = its left end, 1 = its right end."""
        return float(np.clip(self.scale.share(score), 0, 1))

    def at(self, position: float) -> float:
        """The boundary at a position of the slider."""
        return float(self.scale.stretch(self.scale.compress(self.scale.bottom) * (1 - position / POSITIONS)))

    def position(self, boundary: float) -> int:
        """The slider's position for a boundary."""
        return round(POSITIONS * self.place(boundary))

    def at_share(self, share: float) -> float:
        """The boundary below which at most this share of the genuine rows is, and as many of them as possible."""
        allowed = int(np.clip(share, 0, 1) * len(self.genuine) + 1e-9)  # 0.3 * 10 is a little less than 3
        if allowed < len(self.genuine):
            return float(self.genuine[allowed])
        return float(np.nextafter(self.scale.top, np.inf))  # above all rows

    def share(self, boundary: float) -> float:
        """Share of the genuine rows below a boundary: the false alarms."""
        return float(np.searchsorted(self.genuine, boundary, side="left") / max(len(self.genuine), 1))

    def typed(self, boundary: float) -> str:
        """A boundary as text, for the model's own scores, of which these here are rounded to nine digits.

        If it is a row's score it is moved half way to the next lower one, or that row might be an alarm there.
        """
        if (self.scores == boundary).any():
            lower = self.scores[self.scores < boundary].max(initial=boundary - 1)
            boundary = (boundary + float(lower)) / 2
        return f"{boundary:.9g}"

    def counts(self, boundary: float) -> Counts:
        """Decisions at a boundary."""
        return count(self.scores, self.labels, boundary)

    def alarms(self, boundary: float, most: int) -> np.ndarray:
        """Places of the rows below a boundary, least normal first, at most so many."""
        lowest = self.lowest[:most]
        return lowest[self.scores[lowest] < boundary]

    @cached_property
    def bars(self) -> tuple[np.ndarray, np.ndarray]:
        """Genuine rows and frauds in each bin; bins are equally wide on the axis, shape (BINS,) each."""
        places = self.scale.share(self.scores)
        genuine, frauds = (np.histogram(places[self.labels == label], BINS, (0, 1))[0] for label in (0, 1))
        return genuine, frauds
