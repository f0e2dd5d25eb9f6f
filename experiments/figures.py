"""Figures, drawn for a paper: no title bars, large enough type, colours that survive colour blindness and grey."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed, and none touched

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import precision_recall_curve, roc_curve

from experiments.baselines import TITLES

# Okabe & Ito's palette.
GENUINE, FRAUD, BOUNDARY = "#0072B2", "#E69F00", "#D40000"
SCORER_COLOURS = ("#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
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
    "svg.fonttype": "none",  # letters stay letters, in the page's own type
    "svg.hashsalt": "vae_jax",  # the same figure is the same file
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
HISTOGRAM_BINS = 60
HISTOGRAM_LINEAR = 10.0  # nats below the top within which the histogram's axis is nearly linear


@contextmanager
def chart(path: Path, width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[list[Any]]:
    """Gives the axes of a figure's panels to draw on, then saves the figure twice.

    Args:
      path: of the PNG file; an SVG file without a background comes beside it.
      width: in inches.
      height: in inches.
      rows: of panels.
      columns: of panels. Each has a frame of its own, so that a page can take the figure apart.

    Yields:
      The axes of each panel, row by row; of any type, because matplotlib takes more than it declares.
    """
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height))
        yield [panel.subplots() for panel in figure.subfigures(rows, columns, squeeze=False, wspace=0.05).flat]
        figure.savefig(path)
        figure.set_layout_engine("none")  # it is laid out by now
        figure.savefig(path.with_suffix(".svg"), metadata=NO_METADATA, transparent=True)
        plt.close(figure)


@dataclass(frozen=True)
class HistogramScale:
    """The histogram's axis: a logarithm of the distance from the most normal row.

    Genuine rows lie within some tens of nats, and outliers reach down to minus thousands.

    Attributes:
      bottom: the least normal score, or the boundary if that is lower.
      top: the most normal score, or the boundary if that is higher.
    """

    bottom: float
    top: float

    @classmethod
    def over(cls, scores: np.ndarray, boundary: float) -> HistogramScale:
        """The scale that shows all scores and the boundary."""
        return cls(min(scores.min(), boundary), max(scores.max(), boundary))

    def compress(self, scores: Any) -> np.ndarray:
        """From scores to places on the axis, which ends at 0."""
        return -np.log1p(np.maximum(self.top - np.asarray(scores), 0) / HISTOGRAM_LINEAR)

    def stretch(self, places: Any) -> np.ndarray:
        """From places on the axis to scores."""
        return self.top - HISTOGRAM_LINEAR * np.expm1(-np.asarray(places))


def draw_fraud(folder: Path, results: Mapping[str, Any], scorers: Mapping[str, Any], metrics: dict) -> dict[str, Path]:
    """Draws every figure of the transactions experiment.

    Args:
      folder: where the PNG and SVG files go.
      results: for each recipe its `Result`.
      scorers: for each recipe and baseline its `Scored` rows.
      metrics: the contents of `metrics.json`.

    Returns:
      The path of each figure's PNG file by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for recipe, result in results.items():
        paths[f"histogram_{recipe}"] = folder / f"histogram_{recipe}.png"
        draw_histogram(paths[f"histogram_{recipe}"], result.scored.test, result.scored.test_labels, result.measures)
        paths[f"latent_{recipe}"] = folder / f"latent_{recipe}.png"
        draw_latents(paths[f"latent_{recipe}"], result.latents, result.scored.test, result.scored.test_labels)
    if metrics["data"]["test_frauds"]:
        paths["curves"] = folder / "curves.png"
        draw_curves(paths["curves"], scorers, results)
    paths["training"] = folder / "training.png"
    draw_training(paths["training"], {recipe: result.log for recipe, result in results.items()})
    return paths


def draw_histogram(path: Path, scores: np.ndarray, labels: np.ndarray, measures: dict) -> None:
    """Histogram of the test rows' log reconstruction probability, the boundary in red; bins look equally wide."""
    boundary = measures["threshold"]
    scale = HistogramScale.over(scores, boundary)
    edges = scale.stretch(np.linspace(scale.compress(scale.bottom), 0, HISTOGRAM_BINS))
    with chart(path, 7.4, 4.2) as (axes,):
        for label, name, colour in ((0, "genuine", GENUINE), (1, "fraud", FRAUD)):
            kind = scores[labels == label]
            axes.hist(kind, edges, histtype="stepfilled", color=colour, alpha=0.65, label=f"{name} ({len(kind):,})")
        axes.axvline(boundary, color=BOUNDARY, linewidth=2, label=f"boundary ({minus(boundary, 1)})")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.6)  # so that a bar of one row has a height
        axes.set_ylabel("test rows (log scale)")
        axes.set_xlabel("log reconstruction probability in nats (higher = more normal)")
        axes.set_xscale("function", functions=(scale.compress, scale.stretch))
        axes.set_xlim(edges[0], scale.top)
        candidates = np.array([0, *(-d * 10**e for e in range(1, 8) for d in (1, 3))])
        axes.set_xticks([x for x in candidates if edges[0] <= x <= scale.top])
        axes.xaxis.set_major_formatter(lambda x, _: minus(x))
        axes.patch.set_gid("plot")  # where the page's slider finds it
        counts = (
            f"alarms, left of the boundary: {measures['true_positives']:,} frauds and "
            f"{measures['false_positives']:,} genuine rows; frauds missed: {measures['false_negatives']:,}"
        )
        axes.set_title(counts, fontsize="medium", loc="left", pad=28, gid="counts")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.2, columnspacing=5
        )


def minus(number: float, decimals: int = 0) -> str:
    """A number as it is printed, with a real minus sign."""
    return f"{number:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def draw_curves(path: Path, scorers: Mapping[str, Any], recipes: Collection[str]) -> None:
    """ROC and precision-recall curves of all scorers, the recipes' in bolder lines."""
    with chart(path, 8.25, 4, columns=2) as (roc, precision_recall):
        for (name, scored), colour in zip(scorers.items(), SCORER_COLOURS, strict=False):
            line = {"color": colour, "label": TITLES.get(name, name), "linewidth": 2.2 if name in recipes else 1.2}
            false_alarms, recall, _ = roc_curve(scored.test_labels, -scored.test)
            roc.plot(false_alarms, recall, **line)
            precision, recall, _ = precision_recall_curve(scored.test_labels, -scored.test)
            precision_recall.plot(recall, precision, **line)
        roc.set(xlabel="false alarm rate", ylabel="recall (frauds found)", xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02))
        precision_recall.set(xlabel="recall (frauds found)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        precision_recall.legend(loc="lower left")


def draw_training(path: Path, logs: Mapping[str, list[dict]]) -> None:
    """Losses and KL against epochs, a row of panels for each recipe."""
    with chart(path, 8.25, 2.5 * len(logs), rows=len(logs), columns=3) as panels:
        for row, (recipe, log) in enumerate(logs.items()):
            loss, reconstruction, kl = panels[3 * row : 3 * row + 3]
            epochs = [line["epoch"] for line in log]
            for axes, name in ((loss, "loss"), (reconstruction, "reconstruction"), (kl, "kl")):
                axes.plot(epochs, [line[name] for line in log], color=GENUINE, label="training")
                axes.plot(epochs, [line[f"validation_{name}"] for line in log], color=FRAUD, label="validation")
                axes.set_xlabel("epoch")
                axes.xaxis.get_major_locator().set_params(integer=True)
            _clip_spikes(loss, log, "loss")
            _clip_spikes(reconstruction, log, "reconstruction")
            loss.set_ylabel(f"{recipe}: loss")
            reconstruction.set_ylabel("reconstruction term")
            kl.set_ylabel("KL (nats)")
            loss.legend()


def _clip_spikes(axes: Axes, log: list[dict], name: str) -> None:
    """Limits the axis to where 99 % of the values are, so that the first epoch does not flatten the rest."""
    values = [line[key] for line in log for key in (name, f"validation_{name}")]
    low, high = np.quantile(values, [0, 0.97])
    if high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.25 * (high - low))


def draw_latents(path: Path, latents: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
    """The test rows in the plane of the two latents that vary most; with one latent, against the score."""
    order = np.argsort(-latents.var(0))[:2]
    x = latents[:, order[0]]
    y = latents[:, order[1]] if len(order) > 1 else scores
    with chart(path, 3.95, 3.8) as (axes,):
        for label, name, colour, size in ((0, "genuine", GENUINE, 4), (1, "fraud", FRAUD, 12)):
            kind = labels == label
            axes.scatter(x[kind], y[kind], s=size, color=colour, alpha=0.5, linewidths=0, label=name, rasterized=True)
        axes.set_xlabel(f"posterior mean of latent {order[0] + 1}")
        axes.set_ylabel(
            f"posterior mean of latent {order[1] + 1}" if len(order) > 1 else "log reconstruction probability"
        )
        for values, limit in ((x, axes.set_xlim), (y, axes.set_ylim)):
            low, high = np.quantile(values, [0.002, 0.998])
            margin = 0.3 * (high - low) + 1e-3
            limit(low - margin, high + margin)
        axes.legend(markerscale=2)
