"""Sheets of pictures, with labels beside rows and above columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # needs no display

import matplotlib.pyplot as plt
import numpy as np

INCHES = 0.62  # side of a picture
LEAST_DPI = 192  # two dots per CSS pixel, of which an inch has 96
INK = "#777777"  # legible on white and on black, because there is no background


@dataclass(frozen=True)
class Sheet:
    """Pictures in rows: shape (rows, columns, H, W, 3), float in [0, 1]. Labels are one per row or column, or none."""

    pictures: np.ndarray
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()


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
    right, top, bottom = (round(inches * dpi) for inches in (0.05, 0.22 if sheet.column_labels else 0.05, 0.05))
    pad = round(0.05 * dpi)  # between a label and its picture
    figure = plt.figure(dpi=dpi, layout="none")
    style = {"size": 8, "color": INK, "parse_math": False}  # an attribute's name may hold a $
    row_labels = [figure.text(0, 0, label, ha="right", va="center", **style) for label in sheet.row_labels]
    longest = max((label.get_window_extent().width for label in row_labels), default=0)
    left = max(round((0.8 if row_labels else 0.05) * dpi), math.ceil(longest) + 2 * pad)
    dots = left + canvas.shape[1] + right, bottom + canvas.shape[0] + top
    figure.set_size_inches(dots[0] / dpi, dots[1] / dpi)
    figure.figimage(canvas, left, bottom, origin="upper")
    step = scale * (height + gap), scale * (width + gap)
    for row, label in enumerate(row_labels):
        y = dots[1] - top - row * step[0] - scale * height / 2
        label.set_position(((left - pad) / dots[0], y / dots[1]))
    for column, label in enumerate(sheet.column_labels):
        x = left + column * step[1] + scale * width / 2
        figure.text(x / dots[0], 1 - (top - pad) / dots[1], label, ha="center", va="bottom", **style)
    figure.savefig(path, dpi=dpi, transparent=True)
    plt.close(figure)
