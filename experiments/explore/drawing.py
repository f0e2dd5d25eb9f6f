"""The transactions' histogram, counts and explanations as HTML, which text size and width of the page lay out."""

from __future__ import annotations

from html import escape

import numpy as np

from experiments.explore.rows import BINS, Scored
from experiments.explore.transactions import Evidence
from experiments.page.charts import minus, tick

FLOOR = 0.6  # rows, where the bars begin, so that a bar of one row is visible
HEIGHT = 100.0  # of the drawing, in units of its own
EXPLAINED = 8  # features shown at once


def histogram(scored: Scored, boundary: float) -> str:
    """The histogram, with the boundary as a line and the alarms' side shaded."""
    genuine, frauds = scored.bars
    most = max(genuine.max(), frauds.max(), 1)
    place = scored.place(boundary)
    lines = "".join(
        f'<span class="row" style="bottom: {_height(rows, most):.1f}%">{rows:,}</span>'
        for rows in (10**power for power in range(7))
        if rows <= most
    )
    ticks = "".join(
        f'<span class="tick" style="left: {100 * scored.place(score):.2f}%">{tick(score)}</span>'
        for score in scored.scale.ticks()
    )
    kinds = [("genuine", "Genuine", genuine)] + ([("fraud", "Fraud", frauds)] if frauds.any() else [])
    bars = "".join(f'<path class="{name}" d="{_outline(counts, most)}"/>' for name, _, counts in kinds)
    legend = "".join(f'<span class="{name}">{title} ({counts.sum():,})</span>' for name, title, counts in kinds)
    words = f"Histogram of the test rows' scores; the boundary is at {minus(boundary, 1)} nats."
    return (
        f'<div class="histogram"><p>Test rows (logarithmic scale) by score in nats, '
        f"higher = more normal. Left of the boundary is an alarm.</p>"
        f'<div class="legend">{legend}<span class="boundary">Boundary ({minus(boundary, 1)} nats)</span></div>'
        f'<div class="plot" role="img" aria-label="{escape(words)}">{lines}'
        f'<svg viewBox="0 0 {BINS} {HEIGHT:g}" preserveAspectRatio="none">{bars}</svg>'
        f'<div class="alarms" style="width: {100 * place:.2f}%"></div>{ticks}</div></div>'
    )


def _height(rows: np.ndarray | float, most: float) -> np.ndarray:
    """Height of a bar on a logarithmic scale, in percent."""
    return HEIGHT * 0.95 * np.log(np.maximum(rows, FLOOR) / FLOOR) / np.log(most / FLOOR)


def _outline(counts: np.ndarray, most: float) -> str:
    tops = HEIGHT - _height(counts, most)
    return f"M0 {HEIGHT:g}" + "".join(f"V{top:.1f}h1" for top in tops) + f"V{HEIGHT:g}Z"


def tiles(scored: Scored, boundary: float) -> str:
    """What the boundary does to the test rows, in numbers."""
    counts = scored.counts(boundary)
    frauds = counts.true_positives + counts.false_negatives
    genuine = counts.false_positives + counts.true_negatives
    alarms = counts.true_positives + counts.false_positives
    if not frauds:
        return _tiles([("Alarms", alarms, f"of {genuine:,} rows, {_percent(alarms, genuine)}")])
    return _tiles(
        [
            (
                "False alarms",
                counts.false_positives,
                f"of {genuine:,} genuine rows, {_percent(counts.false_positives, genuine)}",
            ),
            ("Misses", counts.false_negatives, f"of {frauds:,} frauds, {_percent(counts.false_negatives, frauds)}"),
            ("Frauds found", counts.true_positives, f"{_percent(counts.true_positives, alarms)} of {alarms:,} alarms"),
        ]
    )


def _tiles(entries: list[tuple[str, int, str]]) -> str:
    cells = (f"<div><span>{title}</span><b>{number:,}</b><span>{of}</span></div>" for title, number, of in entries)
    return f'<div class="tiles">{"".join(cells)}</div>'


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def explanation(title: str, evidence: Evidence) -> str:
    """The features that speak most against a row, each beside what is usual; the others folded away."""
    longest = max(float(evidence.shares.max()), float(evidence.usual_shares.max()), 1e-9)
    lines = [_line(evidence, i, longest) for i in range(len(evidence.names))]
    rest = len(lines) - EXPLAINED
    more = f"<details><summary>{rest} more features</summary>{''.join(lines[EXPLAINED:])}</details>" if rest > 0 else ""
    return (
        f'<div class="evidence"><h3>{escape(title)}</h3>'
        f'<p class="key"><span class="this">Evidence against this row</span>'
        f'<span class="usual">against a usual genuine row, in nats</span></p>'
        f"{''.join(lines[:EXPLAINED])}{more}</div>"
    )


def _line(evidence: Evidence, i: int, longest: float) -> str:
    share, usual = float(evidence.shares[i]), float(evidence.usual_shares[i])
    value = escape(evidence.values[i]) or "missing"
    return (
        f'<div class="feature"><b>{escape(evidence.names[i])} = {value}</b><span>{escape(evidence.usual[i])}</span>'
        f"{_bar('this', share, longest)}{_bar('usual', usual, longest)}</div>"
    )


def _bar(kind: str, nats: float, longest: float) -> str:
    width = 100 * max(nats, 0) / longest
    return f'<div class="bar {kind}"><i style="width: {width:.1f}%"></i><em>{minus(nats, 1)}</em></div>'
