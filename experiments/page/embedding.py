"""Figures as parts of a page: charts as SVG in the page's own ink, photographs in as few bytes as look the same."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

LARGEST_PNG = 400_000  # bytes
WEBP_QUALITY = 90

# A panel's frame, as matplotlib begins each subfigure: left and bottom, right, top.
PANEL = re.compile(r'<g id="subfigure_\d+">\s*<g id="patch_\d+">\s*<path d="M (\S+) (\S+)\s+L (\S+) \S+\s+L \S+ (\S+)')
PIXELS = 96 / 72  # CSS pixels in a point, which is the unit of matplotlib's SVG


def chart(name: str, path: Path) -> dict:
    """Takes a chart apart for a page.

    Args:
      name: of the figure; its ids begin with it, so that charts on a page don't share any.
      path: an SVG file made by `figures.chart`.

    Returns:
      `drawing`, what is within the SVG element, black turned into the colour of the text around; `panels`, the
      `viewBox` of each, and in how many `columns` they are, because a narrow page has one under another; and the
      `width` of all, in CSS pixels.
    """
    text = path.read_text(encoding="utf-8")
    ((width, drawing),) = re.findall(r'<svg[^>]* viewBox="0 0 (\S+) \S+"[^>]*>(.*)</svg>', text, re.DOTALL)
    corners = [[float(number) for number in panel] for panel in PANEL.findall(drawing)]
    drawing = drawing.replace("#000000", "currentColor")
    return {
        "drawing": re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}_", drawing),
        "panels": [f"{left:g} {top:g} {right - left:g} {bottom - top:g}" for left, bottom, right, top in corners],
        "columns": sum(top == corners[0][3] for *_, top in corners),
        "width": round(float(width) * PIXELS),
    }


def sheet(path: Path) -> dict:
    """Turns a sheet of photographs into text.

    Args:
      path: a PNG file made by `face_figures.draw_sheet`.

    Returns:
      `source`, a data URI, in which a large sheet is a WebP, a tenth of the size, or the page would have 15 MB; and
      `width` and `height` in CSS pixels, at which a screen with two dots a pixel shows each dot as it is.
    """
    data, kind = path.read_bytes(), "png"
    with Image.open(path) as picture:
        width, height = picture.size
        if len(data) > LARGEST_PNG:
            packed = io.BytesIO()
            picture.save(packed, "WEBP", quality=WEBP_QUALITY)
            data, kind = packed.getvalue(), "webp"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"source": source, "width": width // 2, "height": height // 2}
