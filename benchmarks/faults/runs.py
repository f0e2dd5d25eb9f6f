"""Small runs, started as a user starts them, and everything that has to be the same in two of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pandas as pd

from vae_jax.tables.synthetic import simulate_transactions

ROOT = Path(__file__).parents[2]
PIPE = 1 << 20  # bytes that a command may say before somebody reads them; an older JAX complains at every program
# What tests set so that programs compile soon; these runs are compiled as a user's are.
FOR_TESTS = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
# Of metrics: rates, where they were measured, and how the run was started.
MEASURED_ANEW = ("_per_second", "machine", "config", "command")
GENUINE, FRAUDS = 400, 30
OPTIONS = {
    "fraud": "--data ../small.csv --recipes gaussian --hidden-dims 6 --num-samples 20 --batch-size 64 --epochs 12",
    "celeba": "--data synthetic --limit 120 --image-size 32 --latent-dim 4 --batch-size 16 --epochs 6 --cache cache",
}
SAVES = {"fraud": "--save-every 1", "celeba": "--save-every 1 --save-every-minutes 0.005"}
_started: list[subprocess.Popen[str]] = []
_stopping = threading.Event()


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
      code: its exit code, or minus the signal that killed it.
      errors: what it wrote to standard error.
    """

    code: int
    errors: str

    @property
    def refusals(self) -> list[str]:
        """The lines that say what was wrong."""
        return [line for line in self.errors.splitlines() if line.startswith("error: ")]

    @property
    def last_words(self) -> str:
        """The end of what it wrote, in one line that a table can hold."""
        return " ".join(self.errors.split())[-300:].replace("|", "/")

    @property
    def tidy(self) -> bool:
        """Whether it said at most one line of what was wrong, and never where in the code."""
        return len(self.refusals) <= 1 and "Traceback" not in self.errors


def write_transactions(path: Path) -> None:
    """Writes a table of a few hundred simulated transactions, among them enough frauds for each part."""
    frame = simulate_transactions(seed=1, rows=20_000)
    parts = frame[frame.Class == 0].head(GENUINE), frame[frame.Class == 1].head(FRAUDS)
    pd.concat(parts).sort_values("Time").to_csv(path, index=False)


def options(experiment: str) -> list[str]:
    """The options of a run that takes seconds, in a folder beside the table of transactions."""
    return f"{OPTIONS[experiment]} {SAVES[experiment]}".split()


@contextmanager
def all_stopped() -> Iterator[None]:
    """Lets no command go on, nor begin, when something ends the block."""
    try:
        yield
    except BaseException:
        _stopping.set()
        for process in _started:
            process.kill()  # nothing, if it has ended
        raise


def begin(command: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Starts a process that `all_stopped` ends; its errors go to a pipe."""
    if _stopping.is_set():
        raise RuntimeError("all commands are stopped")
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, **options)
    _started.append(process)
    return process


def start(command: str, arguments: Sequence[object], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Starts a command of `run.sh` in a folder; compiled programs are kept in the folder above it."""
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    usual = {name: value for name, value in os.environ.items() if name not in FOR_TESTS}
    return begin(
        [sys.executable, "-m", "experiments", command, *arguments],
        cwd=folder,
        env={**usual, "PYTHONPATH": str(ROOT), **compiled, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pipesize=PIPE,
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Waits for the end."""
    _, errors = process.communicate()
    return Ended(process.returncode, errors)


def do(command: str, arguments: Sequence[object], folder: Path, **environment: str) -> Ended:
    """Runs a command to its end."""
    return finish(start(command, arguments, folder, **environment))


def empty(folder: Path) -> Path:
    """Makes a folder, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def undisturbed(experiment: str, folder: Path) -> Path:
    """A run that others are compared with, in a folder within `folder`, which also keeps compiled programs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_transactions(folder / "small.csv")
    ended = do(experiment, options(experiment), empty(folder / "undisturbed"))
    assert ended.code == 0, ended.errors
    return folder / "undisturbed"


def wait_for(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """Waits until something is so, or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.005)


def newest(folder: Path, experiment: str) -> Path:
    """The newest run that was started in a folder."""
    return (folder / "runs" / experiment / "latest").resolve()


def parameters(run: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoints of a run's models, by name."""
    found = {}
    for folder in (path for path in (run / "checkpoints").iterdir() if path.is_dir()):
        step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        with ocp.PyTreeCheckpointer() as reader:
            path = (folder / str(step) / "state").absolute()
            saved = reader.metadata(path).item_metadata.tree
            # As NumPy arrays: the devices that they were saved from may not be here.
            arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
            leaves = jax.tree_util.tree_leaves_with_path(reader.restore(path, restore_args=arrays))
        found |= {f"{folder.name}/{step}{jax.tree_util.keystr(key)}": np.asarray(leaf) for key, leaf in leaves}
    return found


def metrics(run: Path) -> Any:
    """Everything that a run measured, but for rates; its log too."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return _timeless([json.loads((run / "metrics.json").read_text(encoding="utf-8")), *map(json.loads, lines)])


def _timeless(record: Any) -> Any:
    if isinstance(record, list):
        return [_timeless(item) for item in record]
    if isinstance(record, dict):
        return {name: _timeless(item) for name, item in record.items() if not name.endswith(MEASURED_ANEW)}
    return record


def results(run: Path) -> dict[str, bytes]:
    """The bytes of scores, of models and of what was learned about latents."""
    names = ["scores.csv", *(f"model/{name}" for name in ("arrays.safetensors", "detector.json", "latents.npz"))]
    return {name: (run / name).read_bytes() for name in names if (run / name).exists()}


def differences(run: Path, expected: Path) -> list[str]:
    """What is not the same in two runs, bit for bit."""
    ours, theirs = parameters(run), parameters(expected)
    found = [name for name in ours.keys() | theirs.keys() if not _same(ours.get(name), theirs.get(name))]
    if metrics(run) != metrics(expected):
        found.append("metrics")
    ours, theirs = results(run), results(expected)
    return sorted(found + [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)])


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def largest_difference(run: Path, expected: Path) -> float:
    """The largest difference of two runs' parameters."""
    ours, theirs = parameters(run), parameters(expected)
    both = [name for name in ours if "params" in name and name in theirs]
    return max(float(np.abs(ours[name].astype(float) - theirs[name].astype(float)).max()) for name in both)


def files(folder: Path) -> set[str]:
    """The names of all files below a folder, but for checkpoints' data, and with `*` for times and checkpoints' steps.

    A run that was stopped within an epoch has saved, and may still keep, a step that no other run saves.
    """
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if "runs" in parts[:1] and len(parts) > 2 and parts[2] != "latest":
            parts = (*parts[:2], "*", *("*" if part.isdecimal() else part for part in parts[3:]))
        if "state" in parts or "compiled" in parts:
            continue
        found.add("/".join("events.*" if part.startswith("events.out") else part for part in parts))
    return found
