"""Boundaries over scored rows; without Gradio."""

import numpy as np
import pytest

from experiments.explore import drawing
from experiments.explore.rows import POSITIONS, Scored

RNG = np.random.default_rng(0)
SCORES = np.concatenate([-20 + 5 * RNG.normal(size=1_000), -40 - RNG.exponential(200, 50)])
SCORED = Scored(np.arange(1_050), SCORES, np.repeat([0, 1], [1_000, 50]), -35.0)


def test_positions_and_boundaries_are_each_others_inverse() -> None:
    for position in (0, 1, 300, 999, POSITIONS):
        assert SCORED.position(SCORED.at(position)) == position
    assert SCORED.at(0) == pytest.approx(SCORES.min())
    assert SCORED.at(POSITIONS) == pytest.approx(SCORES.max())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 1.0])
def test_a_boundary_by_share_gives_that_share(share: float) -> None:
    boundary = SCORED.at_share(share)
    assert SCORED.share(boundary) == pytest.approx(share)
    assert SCORED.counts(boundary).false_positives == round(1_000 * share)


def test_alarms_are_below_the_boundary_least_normal_first() -> None:
    places = SCORED.alarms(-35.0, 10_000)
    assert (SCORES[places] < -35.0).all()
    assert len(places) == (SCORES < -35.0).sum()
    assert (np.diff(SCORES[places]) >= 0).all()
    assert len(SCORED.alarms(-35.0, 5)) == 5


def test_bars_hold_every_row_and_the_drawing_says_the_counts() -> None:
    genuine, frauds = SCORED.bars
    assert (genuine.sum(), frauds.sum()) == (1_000, 50)
    assert "Genuine (1,000)" in drawing.histogram(SCORED, -35.0)
    counts = SCORED.counts(-35.0)
    assert f"<b>{counts.false_positives:,}</b>" in drawing.tiles(SCORED, -35.0)
    assert f"<b>{counts.false_negatives:,}</b>" in drawing.tiles(SCORED, -35.0)


def test_the_boundary_for_python_has_the_alarms_of_the_page(rng) -> None:
    own = np.sort(-np.exp(rng.normal(3, 1, 2_000)).astype(np.float32)).astype(np.float64)
    shown = np.array([float(f"{score:.9g}") for score in own])
    scored = Scored(np.arange(2_000), shown, np.zeros(2_000, int), -100.0)
    for share in np.linspace(0, 0.2, 50):
        boundary = scored.at_share(share)
        assert (own < float(scored.typed(boundary))).sum() == (shown < boundary).sum()
    assert scored.typed(-12.5) == "-12.5"
