"""Two small runs, and the explorer that shows them, for all tests of its pages."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import small_fraud
from explorer_server import ELSEWHERE, Server, listens, python_with_gradio
from PIL import Image
from run_helpers import ROOT, wait_for

import experiments.celeba.__main__ as celeba
from experiments.command_line import run
from vae_jax.images.drawn_faces import draw_face

CELEBA = ["--data", "synthetic", "--limit", "64", "--image-size", "32", "--latent-dim", "4", "--batch-size", "16"]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small runs, with a table and two photographs beside them."""
    folder = tmp_path_factory.mktemp("explored")
    frame = small_fraud.train(folder, "transactions")
    frame.iloc[:30].drop(columns="Class").to_csv(folder / "own.csv", index=False)
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "large.csv").write_text("a,b\n" + "1,2\n" * 300_000)
    (folder / "spoilt.png").write_text("no picture")
    for i in range(2):
        Image.fromarray(draw_face(0, i, 48)[0]).save(folder / f"photo{i}.png")
    more = ["--cache", str(folder / "cache"), "--epochs", "3", "--run-dir", str(folder / "faces")]
    assert run(celeba.main, [*CELEBA, *more]) == 0
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The explorer of both runs."""
    python = python_with_gradio()
    folder, temporary = request.getfixturevalue("runs"), tmp_path_factory.mktemp("temporary")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "experiments.explore", "transactions", "faces", "--port", str(port)]
    command += ["--upload-megabytes", "1", "--names", ELSEWHERE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: listens(port), process)
        yield Server(f"http://127.0.0.1:{port}", folder, temporary)
        still_open = HTTPConnection("127.0.0.1", port)
        still_open.request("GET", "/fraud/transactions/gradio_api/heartbeat/a")
        still_open.getresponse()
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert "graceful shutdown" not in said
    assert list(temporary.glob("vae_jax_explore_*")) == []
