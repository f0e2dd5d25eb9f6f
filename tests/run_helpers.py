"""What tests of whole runs share: processes to start, stop and continue, and what they left behind."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.command_line import run
from experiments.runs.run_folder import CHECKSUM, CONFIG, FORMAT_FILE

ROOT = Path(__file__).parent.parent


def start(arguments: Sequence, folder: Path, experiment: str = "fraud", program: str | None = None) -> subprocess.Popen:
    """Starts a run in a process of its own, whose working directory is `folder`, as a user does or by a program."""
    how = ["-m", f"experiments.{experiment}"] if program is None else ["-c", program]
    command = [sys.executable, *how, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, pipesize=1 << 20, text=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> None:
    """Waits until something has happened, while the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def logged_epochs(folder: Path) -> int:
    """How many epochs the log of a run holds."""
    log = folder / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def write_config(folder: Path, record: dict) -> None:
    """Replaces the config of a run, with its checksum, as if the run had been started with it."""
    text = json.dumps(record)
    (folder / CONFIG).write_text(text)
    form = json.loads((folder / FORMAT_FILE).read_text())
    (folder / FORMAT_FILE).write_text(json.dumps(form | {CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}))


def final_arrays(folder: Path, model: str = "gaussian") -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint of a run, by name."""
    import orbax.checkpoint as ocp

    steps = [int(path.name) for path in (folder / "checkpoints" / model).iterdir() if path.name.isdigit()]
    path = folder / "checkpoints" / model / str(max(steps)) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        saved = reader.metadata(path.absolute()).item_metadata.tree
        # As NumPy arrays: the devices that they were saved from may not be here.
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        tree = reader.restore(path.absolute(), restore_args=arrays)
    return {jax.tree_util.keystr(key): np.asarray(leaf) for key, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def assert_bit_for_bit(one: Path, other: Path, model: str = "gaussian") -> None:
    """The newest checkpoints of two runs hold the same bits."""
    first, second = final_arrays(one, model), final_arrays(other, model)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def resume(folder: Path, experiment: str = "fraud", program: str | None = None) -> None:
    """Continues the run in `folder` to its end, in a process of its own."""
    process = start(["--resume", folder], folder.parent, experiment, program)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def refused(main: Callable, arguments: Sequence, capsys: pytest.CaptureFixture, code: int = 2) -> str:
    """Runs a command line that must fail, and returns its one line."""
    assert run(main, [str(word) for word in arguments]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]
