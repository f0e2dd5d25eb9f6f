"""Figures of the digits experiment."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.mnist.models import Model
from experiments.page.charts import chart, point_mark
from experiments.page.sheets import Sheet, draw_sheet
from vae_jax.generation import reconstruct, sample_prior
from vae_jax.images.digits import SIDE
from vae_jax.networks import decode
from vae_jax.training import TrainState, stream_key

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000", "#8C564B", "#7F7F00")
COLUMNS = 12
PLANE = 20  # images to a side of the latent plane


def ink(grey: Any) -> np.ndarray:
    """Grey values in [0, 1], 1 = ink, as dark ink on white paper: from (..., 784) to (..., 28, 28, 3)."""
    pictures = 1 - np.asarray(grey, np.float32).reshape(*np.shape(grey)[:-1], SIDE, SIDE, 1)
    return np.repeat(pictures, 3, axis=-1)


def draw_curves(
    path: Path, logs: Mapping[str, list[dict]], titles: Mapping[str, str], published: Mapping[str, float]
) -> None:
    """Plots each model's bound on held-out images by epoch, and the published log likelihoods as lines."""
    with chart(path, 8.25, 4.2) as (axes,):
        lowest, highest = [], []
        for colour, (name, log) in zip(cycle(COLOURS), logs.items(), strict=False):
            losses = [line["validation_loss"] for line in log]
            lowest += [*losses, published.get(name, np.inf)]
            highest.append(losses[len(losses) // 5])  # the first epochs would flatten the rest
            epochs = [line["epoch"] for line in log]
            axes.plot(epochs, losses, color=colour, label=titles[name], linewidth=1.2, marker=point_mark(log))
            if name in published:
                axes.axhline(published[name], color=colour, linewidth=0.9, linestyle=(0, (2, 3)))
        axes.set_ylim(min(lowest) - 1, max(highest) + 1)
        axes.set(xlabel="epoch", ylabel="negative bound on held-out images (nats)")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.legend(fontsize="small", ncols=2 if len(logs) > 4 else 1)


def draw_bounds(path: Path, logs: Mapping[str, list[dict]], titles: Mapping[str, str], per_epoch: int) -> None:
    """Plots the bound against the number of training images seen, as figure 2 of Kingma & Welling 2013 does."""
    with chart(path, 8.25, 4.2) as (axes,):
        lows = []
        for colour, (name, log) in zip(cycle(COLOURS), logs.items(), strict=False):
            seen = [line["epoch"] * per_epoch for line in log]
            style = {"color": colour, "marker": point_mark(log)}
            axes.plot(seen, [-line["loss"] for line in log], label=titles[name], **style)
            axes.plot(seen, [-line["validation_loss"] for line in log], linestyle=(0, (2, 2)), **style)
            lows.append(-log[min(len(log) - 1, 1)]["loss"])
        axes.set_xscale("log")
        axes.set_ylim(bottom=min(lows) - 10)
        axes.set(xlabel="training images seen", ylabel="bound (nats): training solid, held-out dashed")
        axes.legend(fontsize="small")


def draw_samples(path: Path, state: TrainState) -> None:
    """Draws new digits, each the mean of p(x|z) at a sample of the prior."""
    count = 5 * COLUMNS
    new = jax.jit(sample_prior, static_argnums=(0, 3))(state.vae, state.params, stream_key(state.key, "figures"), count)
    draw_sheet(path, Sheet(ink(new).reshape(5, COLUMNS, SIDE, SIDE, 3)))


def draw_reconstructions(
    path: Path, states: Mapping[str, TrainState], titles: Mapping[str, str], bits: np.ndarray
) -> None:
    """Draws test images above each model's reconstruction from one sample of its posterior."""
    shown = bits[:COLUMNS]
    rows, labels = [ink(shown)], ["test image"]
    for name, state in states.items():
        key = stream_key(state.key, "figures")
        rows.append(ink(jax.jit(reconstruct, static_argnums=0)(state.vae, state.params, jnp.asarray(shown), key)))
        labels.append(titles[name].replace(", ", "\n"))
    draw_sheet(path, Sheet(np.stack(rows), labels))


def draw_plane(path: Path, state: TrainState) -> None:
    """Draws the plane of two latents: decoded quantiles of the prior (Kingma & Welling 2013, figure 4)."""
    quantiles = stats.norm.ppf((np.arange(PLANE) + 0.5) / PLANE).astype(np.float32)
    z = np.stack(np.meshgrid(quantiles, quantiles[::-1]), -1).reshape(-1, 2)
    decoded = ink(decode(state.vae, state.params, jnp.asarray(z)).mean)
    draw_sheet(path, Sheet(decoded.reshape(PLANE, PLANE, SIDE, SIDE, 3)))


def draw(
    folder: Path,
    trained: Mapping[str, TrainState],
    found: list[Model],
    logs: Mapping[str, list[dict]],
    published: Mapping[str, float],
    plane: TrainState | None,
    bits: np.ndarray,
    images_per_epoch: int,
    aevb: bool,
) -> dict[str, Path]:
    """Draws every figure; returns the path of each PNG file by name."""
    folder.mkdir(parents=True, exist_ok=True)
    titles = {model.name: model.title for model in found}
    paths = {}

    def named(name: str) -> Path:
        paths[name] = folder / f"{name}.png"
        return paths[name]

    if aevb:
        draw_bounds(named("bounds"), logs, titles, images_per_epoch)
    else:
        draw_curves(named("curves"), logs, titles, published)
    draw_reconstructions(named("reconstructions"), trained, titles, bits)
    for name, state in trained.items():
        draw_samples(named(f"samples_{name}"), state)
    if plane is not None:
        draw_plane(named("plane"), plane)
    return paths
