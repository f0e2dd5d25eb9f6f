"""Figures of the faces experiment."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments.celeba.gallery import Sheet
from experiments.celeba.measures import INFORMATIVE
from experiments.celeba.model import Encoded
from experiments.page.charts import BOUNDARY, GENUINE, chart

INCHES = 0.62  # side of a picture
LEAST_DPI = 192  # two dots per CSS pixel, of which an inch has 96
INK = "#777777"  # legible on white and on black, because there is no background


def draw_sheet(path: Path, sheet: Sheet) -> None:
    """Draws rows of pictures, each pixel a whole number of dots, with labels beside rows and above columns.

    There is no background, so that the sheet suits light and dark pages.
    """
    rows, columns, height, width, _ = sheet.pictures.shape
    gap = max(1, round(height / 64))
    canvas = np.zeros((rows, height + gap, columns, width + gap, 4), np.float32)
    canvas[:, :height, :, :width, :3] = sheet.pictures.transpose(0, 2, 1, 3, 4)
    canvas[:, :height, :, :width, 3] = 1
    canvas = canvas.reshape(rows * (height + gap), columns * (width + gap), 4)[:-gap, :-gap].clip(0, 1)
    scale = math.ceil(LEAST_DPI * INCHES / height)
    dpi = scale * height / INCHES
    canvas = canvas.repeat(scale, 0).repeat(scale, 1)
    left, right, top, bottom = (
        round(inches * dpi)
        for inches in (0.8 if sheet.row_labels else 0.05, 0.05, 0.22 if sheet.column_labels else 0.05, 0.05)
    )
    pad = round(0.05 * dpi)  # between a label and its picture
    dots = left + canvas.shape[1] + right, bottom + canvas.shape[0] + top
    figure = plt.figure(figsize=(dots[0] / dpi, dots[1] / dpi), dpi=dpi, layout="none")
    figure.figimage(canvas, left, bottom, origin="upper")
    step = scale * (height + gap), scale * (width + gap)
    for row, label in enumerate(sheet.row_labels):
        y = dots[1] - top - row * step[0] - scale * height / 2
        figure.text((left - pad) / dots[0], y / dots[1], label, ha="right", va="center", size=8, color=INK)
    for column, label in enumerate(sheet.column_labels):
        x = left + column * step[1] + scale * width / 2
        figure.text(x / dots[0], 1 - (top - pad) / dots[1], label, ha="center", va="bottom", size=8, color=INK)
    figure.savefig(path, dpi=dpi, transparent=True)
    plt.close(figure)


def draw_latents(path: Path, encoded: Encoded, informative: int, seed: int = 0) -> None:
    """Plots samples of all posteriors against N(0, 1), and how much each latent is used."""
    noise = np.random.default_rng(seed).standard_normal(encoded.mean.shape)
    z, kl = encoded.mean + np.exp(encoded.log_var / 2) * noise, encoded.kl_per_latent()
    with chart(path, 8.25, 3.4, columns=2) as (left, right):
        x = np.linspace(-5, 5, 201)
        left.hist(
            z.ravel(),
            x[::2],
            density=True,
            histtype="stepfilled",
            color=GENUINE,
            alpha=0.65,
            label="samples from q(z|x), all latents",
        )
        left.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=BOUNDARY, label="prior N(0, 1)")
        left.set(xlabel="latent", ylabel="density", xlim=(-5, 5))
        left.legend(loc="upper left", fontsize="small")
        left.set_ylim(top=1.25 * left.get_ylim()[1])
        right.plot(np.arange(1, len(kl) + 1), np.sort(kl)[::-1], color=GENUINE)
        right.set(xlabel="latents, most used first", ylabel="KL of each latent (nats)", ylim=(0, None))
        right.axhline(INFORMATIVE, color=BOUNDARY, linewidth=1)
        right.set_title(f"{informative} of {len(kl)} above {INFORMATIVE} nats", fontsize="medium", loc="right")
