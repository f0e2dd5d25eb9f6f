"""The server: a page for each run, a list of them, and nothing that comes from or goes to elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import Collection, Iterator, Sequence
from html import escape
from pathlib import Path

from experiments.command_line import UsageError
from experiments.explore.finished import Finished
from experiments.explore.guard import Guard

SANS, MONO = ["system-ui", "sans-serif"], ["ui-monospace", "Menlo", "Consolas", "monospace"]


@contextlib.contextmanager
def own_folder() -> Iterator[None]:
    """A folder for Gradio's files, removed at the end; to be made before Gradio is imported, which reads these."""
    with tempfile.TemporaryDirectory(prefix="vae_jax_explore_") as folder:
        os.environ |= {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "1",
        }
        yield


def listen(host: str, port: int) -> socket.socket:
    """Takes a port; raises UsageError if it is in use, or the host none of this machine's."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror or error}") from None
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
        taken.listen()
    except OSError as error:
        taken.close()
        raise UsageError(f"--host {host} --port {port}: {error.strerror or error}; name another with --port") from None
    return taken


def serve(runs: Sequence[Finished], taken: socket.socket, names: Collection[str], upload_megabytes: int) -> None:
    """Serves the pages, under these names, until a signal comes."""
    import uvicorn  # pyright: ignore[reportMissingImports]

    pages = [run.address for run in runs]
    guarded = Guard(application(runs, upload_megabytes), pages, names, upload_megabytes << 20)
    options = uvicorn.Config(guarded, ws="none", log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(options)
    # At the end, pages that are still open are cut off, which is no error.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
    server.run(sockets=[taken])


def application(runs: Sequence[Finished], upload_megabytes: int):
    """The list of runs, and under each run's address its page."""
    import gradio as gr  # pyright: ignore[reportMissingImports]
    from fastapi import FastAPI  # pyright: ignore[reportMissingImports]
    from fastapi.responses import HTMLResponse, Response  # pyright: ignore[reportMissingImports]

    from experiments.explore import face_page, fraud_page

    pages = {"celeba": face_page.build, "fraud": fraud_page.build}
    app = FastAPI(openapi_url=None)
    home = index(runs)
    app.get("/", response_class=HTMLResponse)(lambda: home)
    # Gradio's pages ask for these at the server's root.
    app.get("/manifest.json")(lambda: {"name": "vae_jax", "start_url": "/"})
    app.get("/favicon.ico", status_code=204, response_class=Response)(lambda: None)
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=SANS, font_mono=MONO)
    style = Path(__file__).with_name("style.css")
    fetch_nothing()
    for run in runs:
        page = pages[run.kind](run)
        page.has_launched = True  # else any path is taken for that of an uploaded file
        gr.mount_gradio_app(
            app,
            page,
            f"/{run.address}",
            footer_links=[],
            run_history=False,
            max_file_size=f"{upload_megabytes}mb",
            ssr_mode=False,
            theme=theme,
            css_paths=style,
        )
    return app


def fetch_nothing() -> None:
    """Keeps Gradio from downloading an address that is given in place of an uploaded file."""
    import gradio as gr  # pyright: ignore[reportMissingImports]
    from gradio import processing_utils  # pyright: ignore[reportMissingImports]

    async def refuse(url: str) -> None:
        raise gr.Error(f"{url}: not an uploaded file", print_exception=False)

    processing_utils.async_ssrf_protected_get = refuse


def index(runs: Sequence[Finished]) -> str:
    """The list of runs."""
    entries = "".join(
        f'<li><a href="/{escape(run.address)}/"><b>{title(run)}</b><span>{escape(run.address)}</span>'
        f"<span>{escape(figures(run))}</span></a></li>"
        for run in runs
    )
    return Path(__file__).with_name("index.html").read_text(encoding="utf-8").replace("ENTRIES", entries)


def title(run: Finished) -> str:
    """What a run is about."""
    return {"celeba": "Faces", "fraud": "Transactions"}[run.kind]


def figures(run: Finished) -> str:
    """A run's main figures."""
    if run.kind == "celeba":
        data, evaluation = run.metrics["data"], run.metrics["evaluation"]
        return f"{data['train']:,} training pictures, held-out RMSE {evaluation['rmse']:.3f}"
    recipes = run.metrics["recipes"].items()
    found = [f"{name} {of['average_precision']:.3f}" for name, of in recipes if of["average_precision"] is not None]
    rows = f"{run.metrics['data']['test']:,} test rows"
    return f"{rows}, average precision: {', '.join(found)}" if found else rows
