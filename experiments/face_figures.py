"""Figures of the faces experiment."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments.figures import BOUNDARY, GENUINE, STYLE
from experiments.gallery import Sheet

INCHES = 0.62  # a picture's side


def draw_sheet(path: Path, sheet: Sheet) -> None:
    """Draws rows of pictures, with words beside rows and above columns."""
    rows, columns, height, width, _ = sheet.pictures.shape
    gap = max(1, round(height / 64))
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = sheet.pictures[row, column]
    with plt.rc_context({**STYLE, "axes.grid": False, "font.size": 8}):
        margin = 0.75 if sheet.row_labels else 0.05
        top_margin = 0.22 if sheet.column_labels else 0.05
        size = (columns * INCHES + margin + 0.05, rows * INCHES + top_margin + 0.05)
        figure = plt.figure(figsize=size, layout="none")
        axes = figure.add_axes(
            (
                margin / size[0],
                0.05 / size[1],
                columns * INCHES / size[0],
                rows * INCHES / size[1],
            )
        )
        axes.imshow(np.clip(canvas, 0, 1), aspect="auto", interpolation="nearest")
        axes.set_xticks([], [])
        axes.set_yticks([], [])
        for spine in axes.spines.values():
            spine.set_visible(False)
        for row, label in enumerate(sheet.row_labels):
            axes.text(-4, row * (height + gap) + height / 2, label, ha="right", va="center")
        for column, label in enumerate(sheet.column_labels):
            axes.text(column * (width + gap) + width / 2, -4, label, ha="center", va="bottom")
        # At least as many dots as pixels.
        figure.savefig(path, dpi=max(100, 1.25 * height / INCHES))
        plt.close(figure)


def draw_latents(path: Path, means: np.ndarray, log_vars: np.ndarray, active: int, seed: int = 0) -> None:
    """Draws from all posteriors against N(0, 1), and how much each latent is used."""
    z = means + np.exp(log_vars / 2) * np.random.default_rng(seed).standard_normal(means.shape)
    kl = -0.5 * (1 + log_vars - means**2 - np.exp(log_vars)).mean(0)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
        x = np.linspace(-5, 5, 201)
        left.hist(z.ravel(), x[::2], density=True, color=GENUINE, alpha=0.65, label="draws from q(z|x), all latents")
        left.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=BOUNDARY, label="prior N(0, 1)")
        left.set(xlabel="latent", ylabel="density", xlim=(-5, 5))
        left.legend(loc="upper left", fontsize="small")
        left.set_ylim(top=1.25 * left.get_ylim()[1])
        right.plot(np.arange(1, len(kl) + 1), np.sort(kl)[::-1], color=GENUINE)
        right.set(xlabel="latents, most used first", ylabel="KL of each latent (nats)", ylim=(0, None))
        right.set_title(f"{active} of {len(kl)} latents active", fontsize="medium", loc="right")
        figure.savefig(path)
        plt.close(figure)
