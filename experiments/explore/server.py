"""The server: a page for each run, a list of them, and nothing that comes from or goes to elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from experiments.command_line import UsageError
from experiments.explore.finished import Finished

# What a browser may load: this server's own files and what the page itself holds. Gradio needs the inline and evaluated
# scripts.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
HEADERS = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
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


def serve(runs: Sequence[Finished], taken: socket.socket, upload_megabytes: int) -> None:
    """Serves the pages until a signal comes."""
    import uvicorn  # pyright: ignore[reportMissingImports]

    options = uvicorn.Config(
        WithHeaders(application(runs, upload_megabytes)), log_level="warning", timeout_graceful_shutdown=1
    )
    uvicorn.Server(options).run(sockets=[taken])


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
    for run in runs:
        gr.mount_gradio_app(
            app,
            pages[run.kind](run),
            f"/{run.address}",
            footer_links=[],
            run_history=False,
            max_file_size=f"{upload_megabytes}mb",
            ssr_mode=False,
            theme=theme,
            css_paths=style,
        )
    return app


class WithHeaders:
    """Adds the policy to every answer."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def with_headers(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        await self._app(scope, receive, with_headers)


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
