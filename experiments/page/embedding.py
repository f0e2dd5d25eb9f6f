"""Figures as parts of a page: charts as SVG in the page's text colour, photographs in as few bytes as look the same."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

from PIL import Image

LARGEST_PNG = 400_000  # bytes
WEBP_QUALITY = 90

# A panel's frame, which matplotlib draws first in each subfigure: left and bottom, right, top.
PANEL = re.compile(r'<g id="subfigure_\d+">\s*<g id="patch_\d+">\s*<path d="M (\S+) (\S+)\s+L (\S+) \S+\s+L \S+ (\S+)')
PIXELS = 96 / 72  # CSS pixels per point, the unit of matplotlib's SVG


def chart(name: str, path: Path) -> dict:
    """Splits a chart into what a page needs.

    Args:
      name: prefix of the chart's ids, so that charts on a page don't share any.
      path: an SVG file made by `charts.chart`.

    Returns:
      `drawing`, the content of the SVG element, with black replaced by the text colour; `panels`, the `viewBox` of
      each; `columns`, the panels per row, which a narrow page stacks; and `width` of the whole chart in CSS pixels.
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
    """Encodes a sheet of photographs, a PNG file, as text.

    Returns:
      `source`, a data URI (a large sheet becomes a WebP a tenth of the size, or the page would have 15 MB), and `width`
      and `height` in CSS pixels, at which a screen with two dots per pixel shows every dot as it is.
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
