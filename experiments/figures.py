"""Figures, drawn for a paper: no title bars, large enough type, colours that survive colour blindness and grey."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display needed, and none touched

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

# Okabe & Ito's palette.
GENUINE, FRAUD, BOUNDARY = "#0072B2", "#E69F00", "#D40000"
SCORER_COLOURS = ("#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
HISTOGRAM_BINS = 60
HISTOGRAM_LINEAR = 10.0  # nats below the top within which the histogram's axis is nearly linear


@contextmanager
def _figure(path: Path, width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width, height))
        yield figure, axes
        figure.savefig(path)
        plt.close(figure)


def draw_fraud(folder: Path, results: Mapping[str, Any], scorers: Mapping[str, Any], metrics: dict) -> dict[str, Path]:
    """Draws every figure of the transactions experiment.

    Args:
      folder: where the PNG files go.
      results: for each recipe its `Result`.
      scorers: for each recipe and baseline its `Scored` rows.
      metrics: the contents of `metrics.json`.

    Returns:
      The path of each figure by name.
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
    """Histogram of the test rows' log reconstruction probability, the boundary in red.

    Genuine rows lie within some tens of nats and outliers reach down to minus thousands, so the axis is a logarithm of
    the distance from the most normal row; the bins are equally wide on it.
    """
    boundary = measures["threshold"]
    top, bottom = max(scores.max(), boundary), min(scores.min(), boundary)

    def compress(x: np.ndarray) -> np.ndarray:
        return -np.log1p(np.maximum(top - np.asarray(x), 0) / HISTOGRAM_LINEAR)

    def stretch(y: np.ndarray) -> np.ndarray:
        return top - HISTOGRAM_LINEAR * np.expm1(-np.asarray(y))

    edges = stretch(np.linspace(compress(bottom), 0, HISTOGRAM_BINS))
    with _figure(path, 8, 4.4) as (_, axes):
        for label, name, colour in ((0, "genuine", GENUINE), (1, "fraud", FRAUD)):
            kind = scores[labels == label]
            axes.hist(kind, edges, color=colour, alpha=0.65, label=f"{name} ({len(kind):,})")
        axes.axvline(boundary, color=BOUNDARY, linewidth=2, label=f"boundary ({boundary:.1f})")
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.6)  # so that a bar of one row has a height
        axes.set_ylabel("test rows (log scale)")
        axes.set_xlabel("log reconstruction probability in nats (higher = more normal)")
        axes.set_xscale("function", functions=(compress, stretch))
        axes.set_xlim(edges[0], top)
        candidates = np.array([0, *(-d * 10**e for e in range(1, 8) for d in (1, 3))])
        axes.set_xticks([x for x in candidates if edges[0] <= x <= top])
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}".replace("-", "\N{MINUS SIGN}"))
        counts = (
            f"alarms, left of the boundary: {measures['true_positives']:,} frauds and "
            f"{measures['false_positives']:,} genuine rows; frauds missed: {measures['false_negatives']:,}"
        )
        axes.set_title(counts, fontsize="medium", loc="left", pad=28)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.2)


def draw_curves(path: Path, scorers: Mapping[str, Any], recipes: Collection[str]) -> None:
    """ROC and precision-recall curves of all scorers, the recipes' in bolder lines."""
    with _figure(path, 10, 4.6, columns=2) as (_, (roc, precision_recall)):
        for (name, scored), colour in zip(scorers.items(), SCORER_COLOURS, strict=False):
            line = {"color": colour, "label": name.replace("_", " "), "linewidth": 2.2 if name in recipes else 1.2}
            false_alarms, recall, _ = roc_curve(scored.test_labels, -scored.test)
            roc.plot(false_alarms, recall, **line)
            precision, recall, _ = precision_recall_curve(scored.test_labels, -scored.test)
            precision_recall.plot(recall, precision, **line)
        roc.set(xlabel="false alarm rate", ylabel="recall (frauds found)", xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02))
        precision_recall.set(xlabel="recall (frauds found)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        precision_recall.legend(loc="lower left")


def draw_training(path: Path, logs: Mapping[str, list[dict]]) -> None:
    """Losses and KL against epochs, a row of panels for each recipe."""
    with plt.rc_context(STYLE):
        figure, rows = plt.subplots(len(logs), 3, figsize=(11, 3.1 * len(logs)), squeeze=False)
        for (recipe, log), (loss, reconstruction, kl) in zip(logs.items(), rows, strict=True):
            epochs = [line["epoch"] for line in log]
            for axes, name in ((loss, "loss"), (reconstruction, "reconstruction"), (kl, "kl")):
                axes.plot(epochs, [line[name] for line in log], color=GENUINE, label="training")
                axes.plot(epochs, [line[f"validation_{name}"] for line in log], color=FRAUD, label="validation")
                axes.set_xlabel("epoch")
            _clip_spikes(loss, log, "loss")
            _clip_spikes(reconstruction, log, "reconstruction")
            loss.set_ylabel(f"{recipe}: loss")
            reconstruction.set_ylabel("reconstruction term")
            kl.set_ylabel("KL (nats)")
        rows[0][0].legend()
        figure.savefig(path)
        plt.close(figure)


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
    with _figure(path, 5.6, 5) as (_, axes):
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
