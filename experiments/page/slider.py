"""What the page's slider shows: the boundary at each of its positions, and what it does to the test rows."""

from __future__ import annotations

import numpy as np

from experiments.page.charts import HistogramScale

POSITIONS = 1000
DIGITS = 6  # significant ones of a boundary; counts are made after rounding, and so are exact


def positions(scores: np.ndarray, labels: np.ndarray, boundary: float) -> dict:
    """Counts alarms at boundaries from the least to the most normal score.

    They are equally far apart on the histogram's axis, under which the slider lies; one more is the run's own.

    Args:
      scores: of the test rows, shape (N,), higher = more normal.
      labels: shape (N,), 1 = fraud.
      boundary: the run's; rows below it are called frauds.

    Returns:
      `boundary` (nats, rising), `place` (0 is the axis's left end, 1 its right end), `false_alarms` and `found`
      (frauds below the boundary), a list of each with an entry for each position; `start`, the position of the run's
      boundary; and `genuine` and `frauds`, the numbers of rows.
    """
    scale = HistogramScale.over(scores, boundary)
    grid = scale.stretch(np.linspace(scale.compress(scale.bottom), 0, POSITIONS))
    boundaries = np.unique([*(float(f"{value:.{DIGITS}g}") for value in grid), boundary])
    genuine, frauds = (np.sort(scores[labels == label]) for label in (0, 1))
    return {
        "boundary": boundaries.tolist(),
        "place": (1 - scale.compress(boundaries) / scale.compress(scale.bottom)).round(5).tolist(),
        # A row as normal as the boundary is no alarm.
        "false_alarms": np.searchsorted(genuine, boundaries, side="left").tolist(),
        "found": np.searchsorted(frauds, boundaries, side="left").tolist(),
        "start": int(np.searchsorted(boundaries, boundary)),
        "genuine": len(genuine),
        "frauds": len(frauds),
    }
