"""How soon a picture follows a slider of `bash run.sh explore`, in Chromium.

    PYTHONPATH=. .venv/bin/python -m benchmarks.explorer

Needs a finished run of faces, by default the latest; `.venv-explore`, which `bash run.sh explore` makes; and Debian's
packages chromium and chromium-driver. A picture counts as shown once it is decoded and the next frame is drawn.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from experiments.command_line import UsageError, parse, run
from experiments.explore.finished import find

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".venv-explore" / "bin" / "python"
OPENED = 180  # seconds that opening a model may take
SLIDERS = ("along-pc1", "temperature")
# Moves a slider as often as asked, and waits each time until the new picture is on the screen; milliseconds.
MOVE = """
const [name, moves, done] = arguments;
const slider = document.querySelector(`#${name} input[type=range]`), image = document.querySelector("#face img");
const pause = (ms) => new Promise((next) => setTimeout(next, ms));
const newPicture = () => new Promise((next) => image.addEventListener("load", next, { once: true }));
const frame = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
(async () => {
  const shown = [];
  performance.clearResourceTimings();
  for (let i = 1; i <= moves; i++) {
    const [low, high] = [Number(slider.min), Number(slider.max)];
    const began = performance.now(), loaded = newPicture();
    slider.value = low + (high - low) * (i * 7 % 31 + 1) / 33;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await loaded;
    await frame();
    shown.push(performance.now() - began);
    await pause(200);
  }
  const asked = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("component_server"));
  done([asked.map((entry) => entry.duration), shown]);
})();
"""


@dataclass(frozen=True)
class ExplorerConfig:
    """Measure how soon a picture follows a slider."""

    run: tyro.conf.Positional[str] = "latest"
    """A run of faces: its folder, or its name in runs/celeba."""
    moves: int = 50
    """Moves of each slider."""


def main(arguments: Sequence[str]) -> None:
    """Measures, and prints a line for each slider."""
    config = parse(ExplorerConfig, "python -m benchmarks.explorer", arguments)
    (found,) = [of for of in find((config.run,)) if of.kind == "celeba"] or [None]
    if found is None:
        raise UsageError(f"{config.run}: no run of faces")
    with explorer(found.run.folder) as address, closing_browser() as browser:
        browser.get(f"{address}/{found.address}/")
        WebDriverWait(browser, OPENED).until(lambda _: browser.find_elements("css selector", "#face img"))
        time.sleep(2)
        for name in SLIDERS:
            asked, shown = browser.execute_async_script(MOVE, name, config.moves)
            print(f"{name}: request {spread(asked)}, on the screen {spread(shown)}")
    print(f"{os.cpu_count()} cores; load of the last minute, this included: {os.getloadavg()[0]:.1f}")


def spread(milliseconds: Sequence[float]) -> str:
    """Median and slowest of most."""
    median, slow = np.quantile(milliseconds, (0.5, 0.95))
    return f"{median:.0f} ms (95 %: {slow:.0f} ms)"


@contextmanager
def explorer(folder: Path) -> Iterator[str]:
    """The explorer of a run, in a process of its own; its address."""
    if not PYTHON.exists():
        raise UsageError(f"{PYTHON}: not there; bash run.sh explore makes it")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([PYTHON, "-m", "experiments.explore", folder, "--port", str(port)], env=environment)
    try:
        while server.poll() is None and not answers(port):
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def answers(port: int) -> bool:
    """Whether something listens at a port."""
    with closing(socket.socket()) as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def closing_browser() -> Iterator[WebDriver]:
    """Chromium without a window."""
    driver = shutil.which("chromedriver")
    if driver is None:
        raise UsageError("no browser: install Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    with tempfile.TemporaryDirectory() as profile:
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
            options.add_argument(argument)
        browser = webdriver.Chrome(options, Service(driver))
        browser.set_script_timeout(600)
        try:
            yield browser
        finally:
            browser.quit()


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
