"""Data of the report page's slider: the boundary at each of its positions, and what it does to the test rows."""

from __future__ import annotations

import numpy as np

from experiments.page.charts import HistogramScale

POSITIONS = 1000
DIGITS = 6  # significant digits of a boundary; counts are taken after rounding, so they are exact


def positions(scores: np.ndarray, labels: np.ndarray, boundary: float) -> dict:
    """Counts alarms at boundaries from the least to the most normal score, and at the run's own.

    They are evenly spaced on the histogram's axis, below which the slider lies.

    Args:
      scores: of the test rows; higher = more normal.
      labels: 1 = fraud.
      boundary: the run's; rows below it are called frauds.

    Returns:
      Lists with an entry per position: `boundary` (nats, rising), `place` (0 = the axis's left end, 1 = its right end),
        `false_alarms` and `found` (frauds below the boundary). Also `start`, the position of the run's boundary, and
        `genuine` and `frauds`, the numbers of rows.
    """
    scale = HistogramScale.over(scores, boundary)
    grid = scale.stretch(np.linspace(scale.compress(scale.bottom), 0, POSITIONS))
    boundaries = np.unique([*(float(f"{value:.{DIGITS}g}") for value in grid), boundary])
    genuine, frauds = (np.sort(scores[labels == label]) for label in (0, 1))
    return {
        "boundary": boundaries.tolist(),
        "place": scale.share(boundaries).round(5).tolist(),
        # side="left": a row exactly at the boundary raises no alarm.
        "false_alarms": np.searchsorted(genuine, boundaries, side="left").tolist(),
        "found": np.searchsorted(frauds, boundaries, side="left").tolist(),
        "start": int(np.searchsorted(boundaries, boundary)),
        "genuine": len(genuine),
        "frauds": len(frauds),
    }
