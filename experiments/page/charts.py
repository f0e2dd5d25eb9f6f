"""Charts in print style: no title bars, readable type, colours that survive colour blindness and greyscale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # needs no display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

# Okabe & Ito's palette.
GENUINE, FRAUD, BOUNDARY = "#0072B2", "#E69F00", "#D40000"
STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "vae_jax",  # equal figures give equal files
}
FEWEST_TICKS, EVEN_TICKS = 3, 8
LEAST_GAP, MOST_GAP = 0.04, 0.5  # between the labels of a histogram's axis, of its length
HISTOGRAM_LINEAR = 10.0  # nats below the top within which the axis is nearly linear
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@contextmanager
def chart(path: Path, width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[list[Any]]:
    """Yields the axes of each panel, row by row, then saves the figure as PNG and, without a background, as SVG.

    The axes are typed Any because matplotlib accepts more than it declares. Each panel is a subfigure, so that a page
    can take the figure apart.

    Args:
      path: of the PNG file; the SVG file is put beside it.
      width, height: in inches.
      rows, columns: of panels.
    """
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        yield [panel.subplots() for panel in figure.subfigures(rows, columns, squeeze=False, wspace=0.05).flat]
        figure.savefig(path)
        figure.set_layout_engine("none")  # the layout is final
        figure.savefig(path.with_suffix(".svg"), metadata=NO_METADATA, transparent=True)
        plt.close(figure)


@dataclass(frozen=True)
class HistogramScale:
    """A histogram's axis: logarithmic in the distance from `top`, the most normal score or the boundary.

    Genuine rows lie within tens of nats of it; outliers reach down to minus thousands.
    """

    bottom: float
    top: float

    @classmethod
    def over(cls, scores: np.ndarray, boundary: float) -> HistogramScale:
        """The scale that shows all scores and the boundary."""
        return cls(min(scores.min(), boundary), max(scores.max(), boundary))

    def compress(self, scores: Any) -> np.ndarray:
        """Maps scores to places on the axis, which ends at 0."""
        return -np.log1p(np.maximum(self.top - np.asarray(scores), 0) / HISTOGRAM_LINEAR)

    def share(self, scores: Any) -> np.ndarray:
        """Where on the axis scores are: 0 = its left end, 1 = its right end."""
        return 1 - self.compress(scores) / self.compress(self.bottom)

    def ticks(self) -> list[float]:
        """Round scores to label the axis at."""
        if self.bottom == self.top:  # all rows have one score
            return [float(self.top)]
        powers = [0.0, *(-d * 10.0**e for e in range(1, 8) for d in (1, 3))]
        even = MaxNLocator(6).tick_values(self.bottom, self.top)  # for a narrow range
        evenly_placed = self.stretch(np.linspace(self.compress(self.bottom), 0, EVEN_TICKS))
        steps = 10.0 ** np.floor(np.log10(np.diff(evenly_placed)))
        rounded = np.round(evenly_placed[:-1] / steps) * steps
        found = [[float(s) for s in scores if self.bottom <= s <= self.top] for scores in (powers, even, rounded)]
        return next((scores for scores in found if self._legible(scores)), found[-1])

    def _legible(self, scores: list[float]) -> bool:
        """Whether labels at these scores neither touch nor leave half of the axis without any."""
        gaps = np.diff([0.0, *np.sort(self.share(scores)), 1.0])
        return len(scores) >= FEWEST_TICKS and gaps[1:-1].min() >= LEAST_GAP and gaps.max() <= MOST_GAP

    def stretch(self, places: Any) -> np.ndarray:
        """Maps places on the axis to scores."""
        return self.top - HISTOGRAM_LINEAR * np.expm1(-np.asarray(places))


def minus(number: float, decimals: int = 0) -> str:
    """Formats a number with a real minus sign, and zero without one."""
    return f"{number:z,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def tick(score: float) -> str:
    """Formats a label of a histogram's axis, with as many decimals as it has."""
    return f"{score:z,.10g}".replace("-", "\N{MINUS SIGN}")


def point_mark(log: list[dict]) -> str | None:
    """The mark of a line's points by epoch: a single epoch makes no line that could be seen."""
    return "o" if len(log) == 1 else None


def draw_training(path: Path, logs: Mapping[str, list[dict]]) -> None:
    """Plots losses and KL by epoch, with a row of panels per recipe."""
    with chart(path, 8.25, 2.5 * len(logs), rows=len(logs), columns=3) as panels:
        for row, (recipe, log) in enumerate(logs.items()):
            loss, reconstruction, kl = panels[3 * row : 3 * row + 3]
            epochs = [line["epoch"] for line in log]
            for axes, name in ((loss, "loss"), (reconstruction, "reconstruction"), (kl, "kl")):
                for key, colour, label in ((name, GENUINE, "training"), (f"validation_{name}", FRAUD, "validation")):
                    axes.plot(epochs, [line[key] for line in log], color=colour, label=label, marker=point_mark(log))
                axes.set_xlabel("epoch")
                axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            _clip_spikes(loss, log, "loss")
            _clip_spikes(reconstruction, log, "reconstruction")
            loss.set_ylabel(f"{recipe}: loss")
            reconstruction.set_ylabel("reconstruction term")
            kl.set_ylabel("KL (nats)")
            loss.legend()


def _clip_spikes(axes: Axes, log: list[dict], name: str) -> None:
    """Cuts the axis off a little above the 97 % quantile, so that the first epoch does not flatten the rest."""
    values = [line[key] for line in log for key in (name, f"validation_{name}")]
    low, high = np.quantile(values, [0, 0.97])
    if high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.25 * (high - low))
