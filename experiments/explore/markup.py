"""Pieces of HTML that both kinds of pages show."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from zlib import Z_RLE  # pyright: ignore[reportAttributeAccessIssue]

import numpy as np
from PIL import Image

# Browsers give the clipboard to pages of this machine or over HTTPS; with --host 0.0.0.0 what is selected is copied.
COPY = (
    "const lines = this.previousElementSibling; "
    "if (navigator.clipboard) navigator.clipboard.writeText(lines.textContent); "
    "else { getSelection().selectAllChildren(lines); document.execCommand('copy'); } "
    "this.textContent = 'Copied'"
)
# The link takes its content from the picture, so that it is sent only once.
SAVE = "this.href = this.closest('figure').querySelector('img').src"
# What makes rows of a table answer to a click, or to a key on the button in them, in an HTML component of Gradio.
ROW_CHOSEN = """
const choose = (event) => {
  const row = event.target.closest("[data-row]");
  if (!row) return;
  for (const other of element.querySelectorAll(".chosen")) other.classList.remove("chosen");
  row.classList.add("chosen");
  trigger("select", { row: Number(row.dataset.row) });
};
element.addEventListener("click", choose);
"""


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address, so that nothing has to be kept on the server."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(pixels: np.ndarray) -> str:
    """Pixels, uint8, as the address of a PNG file."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1, compress_type=Z_RLE)  # the fastest
    return data_uri(content.getvalue(), "image/png")


def figure(pixels: np.ndarray, words: str, name: str) -> str:
    """A picture with its words, and a link to save it under a name."""
    save = f'<a download="{escape(name)}.png" href="#" onclick="{SAVE}">Save</a>'
    caption = f"<figcaption><span>{escape(words)}</span> {save}</figcaption>"
    return f'<figure><img src="{picture_uri(pixels)}" alt="{escape(words)}">{caption}</figure>'


def code(lines: str) -> str:
    """A line or more of code, to be copied."""
    return f'<div class="code"><pre>{escape(lines)}</pre><button onclick="{COPY}">Copy</button></div>'


def table(titles: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table whose rows can be chosen, with `ROW_CHOSEN`."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f'<tr data-row="{i}"><td><button type="button">{escape(str(first))}</button></td>'
        f"{''.join(f'<td>{escape(str(cell))}</td>' for cell in others)}</tr>"
        for i, (first, *others) in enumerate(lines)
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def notice(words: str) -> str:
    """Something that a reader must know."""
    return f'<p class="notice">{escape(words)}</p>'
