"""What both kinds of pages have in common: a run opened at its first visit, uploads that are not kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

import gradio as gr  # pyright: ignore[reportMissingImports] (in an environment of its own)

from experiments.command_line import RunError, UsageError
from vae_jax.data.errors import DataError

T = TypeVar("T")

# A slider's events: answered at once, the last one in any case, those between while the page can follow.
LIVE: dict[str, Any] = {
    "queue": False,
    "trigger_mode": "always_last",
    "show_progress": "hidden",
    "api_visibility": "private",
}
ONCE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


class Opened(Generic[T]):
    """Opens something at its first use, once for all visitors."""

    def __init__(self, make: Callable[[], T]):
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Returns it; an error that names a file or an option is shown on the page."""
        with self._lock:
            if not self._made:
                self._made.append(shown(self._make))
        return self._made[0]


def shown(make: Callable[[], T]) -> T:
    """Calls a function; what a user can mend is shown on the page, in one line."""
    try:
        return make()
    except (UsageError, RunError, DataError) as error:
        # Gradio takes a message for HTML.
        raise gr.Error(escape(str(error), quote=False), duration=None, print_exception=False) from None


def script(name: str) -> str:
    """A component's script, which follows a slider."""
    return "\n".join(Path(__file__).with_name(part).read_text(encoding="utf-8") for part in ("newest.js", name))


def take(upload: str) -> tuple[bytes, str]:
    """Reads an uploaded file and removes it; returns its content and its name."""
    path = Path(upload)
    content = path.read_bytes()
    discard(path)
    return content, path.name


def discard(path: Path) -> None:
    """Removes an uploaded file and the folder that was made for it."""
    path.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def empty(zone: gr.File, uploaded: Any) -> None:
    """Makes room for the next file after an upload, whether the file could be used or not."""
    for ended in (uploaded.success, uploaded.failure):
        ended(lambda: None, None, zone, **LIVE)
