"""Disks that are full or read-only, folders that vanish, and checkpoints whose files are damaged.

A full disk is a small tmpfs in a mount namespace of its own, which needs Linux, and root or user namespaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import optax

import vae_jax
from benchmarks.faults import runs
from benchmarks.faults.outcome import Outcome, counted
from benchmarks.faults.settings import Settings
from vae_jax.training import TrainState
from vae_jax.training.checkpoints import CheckpointError, Checkpoints

DAMAGES = ("truncated", "emptied", "bit-flipped", "removed", "swapped with another step's")
LOSSES = (3.0, 1.0, 2.0, 4.0)  # of four saved steps: the second is the best
PAGE = 4096  # bytes; what a tmpfs counts in
AMPLE = "size=1g"


def outcomes(settings: Settings) -> Iterator[Outcome]:
    """Damages checkpoints, then does to whole runs of both experiments what a disk can do."""
    rng = settings.generator()
    saved = save_checkpoints(settings.folder / "saved")
    for damage in DAMAGES:
        lost = [damaged_is_noticed(saved, damage, rng) for _ in range(settings.number(200))]
        yield counted(f"a file of the newest checkpoint {damage}", lost)
    for experiment in runs.OPTIONS:
        expected = runs.undisturbed(experiment, settings.folder / experiment)
        lost = [run_with_damaged_checkpoint(experiment, expected, rng) for _ in range(settings.number(10))]
        yield counted(f"{experiment}: --resume with a damaged newest checkpoint", lost)
        lost = [run_vanishes(experiment, expected, rng) for _ in range(settings.number(5))]
        yield counted(f"{experiment}: the run folder vanishes", lost)
        used = sum(PAGE + path.stat().st_size for path in expected.rglob("*"))
        sizes = rng.integers(8 * PAGE, used, settings.number(20)) // PAGE * PAGE
        lost = [in_namespace("full", experiment, expected, int(size)) for size in sizes]
        yield counted(f"{experiment}: full disk", lost)
        lost = [in_namespace("read-only", experiment, expected) for _ in range(settings.number(3))]
        yield counted(f"{experiment}: read-only disk", lost)


def _state(step: int = 0) -> TrainState:
    """A small state; another for each step."""
    vae = vae_jax.dense_vae(feature_dim=3, hidden_dims=(4,))
    state = vae_jax.create_train_state(jax.random.key(step), vae, vae_jax.Objective(), optax.adam(1e-3), (3,))
    return state.replace(step=state.step + step)


def save_checkpoints(folder: Path) -> Path:
    """Saves steps 1 to 4, of which 2, 3 and 4 are kept."""
    with Checkpoints(folder) as checkpoints:
        for step, loss in enumerate(LOSSES, start=1):
            checkpoints.save(step, _state(step), loss, {"loss": loss})
    return folder


def damage_one(checkpoint: Path, damage: str, rng: np.random.Generator) -> None:
    """Damages a file of a checkpoint, or puts the files of another step in its place."""
    if damage == DAMAGES[-1]:
        others = [path for path in checkpoint.parent.iterdir() if path.name.isdecimal() and path != checkpoint]
        part = rng.choice(["state", "metrics", "."])
        shutil.rmtree(checkpoint / part)
        shutil.copytree(others[rng.integers(len(others))] / part, checkpoint / part)
        return
    files = sorted(path for path in checkpoint.glob("*/**/*") if path.is_file())
    file = files[rng.integers(len(files))]
    content = bytearray(file.read_bytes())
    if damage == "bit-flipped":
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    else:
        del content[0 if damage == "emptied" else rng.integers(len(content)) :]
    file.unlink() if damage == "removed" else file.write_bytes(content)


def damaged_is_noticed(saved: Path, damage: str, rng: np.random.Generator) -> list[str]:
    """Damages step 4: it must be named, and step 3 be read, bit for bit."""
    folder = saved.with_name("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    damage_one(folder / "4", damage, rng)
    warnings: list[str] = []
    try:
        with Checkpoints(folder, warn=warnings.append) as checkpoints:
            latest = checkpoints.latest
            restored = checkpoints.restore(_state(), 3)
            sums = checkpoints.sums(3)
    except CheckpointError as error:
        return [f"refused: {error}"]
    if latest != 3 or len(warnings) != 1 or "checkpoint 4 in" not in warnings[0]:
        return [f"not noticed: step {latest} of 3, {warnings}"]
    numbers, expected = (jax.tree.leaves((s.step, s.params, s.opt_state)) for s in (restored, _state(3)))
    same = all(np.array_equal(one, other) for one, other in zip(numbers, expected, strict=True))
    return [] if same and sums == {"loss": LOSSES[2]} else ["step 3 was read wrongly"]


def _lost(experiment: str, folder: Path, expected: Path) -> list[str]:
    """What a run has lost that was continued to its end."""
    return runs.differences(runs.newest(folder, experiment), runs.newest(expected, experiment))


def run_with_damaged_checkpoint(experiment: str, expected: Path, rng: np.random.Generator) -> list[str]:
    """Damages the newest checkpoint of a finished run, and continues it."""
    folder = expected.with_name("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(expected, folder, symlinks=True)
    (model,) = (path for path in (runs.newest(folder, experiment) / "checkpoints").iterdir() if path.is_dir())
    newest = max(int(path.name) for path in model.iterdir())
    damage_one(model / str(newest), rng.choice(DAMAGES), rng)
    ended = runs.do(experiment, ["--resume"], folder)
    if ended.code != 0 or f"warning: checkpoint {newest} in " not in ended.errors or "Traceback" in ended.errors:
        return [f"ended with {ended.code}: {ended.last_words}"]
    return _lost(experiment, folder, expected)


def run_vanishes(experiment: str, expected: Path, rng: np.random.Generator) -> list[str]:
    """Removes the run's folder while it trains; the run must end with one line."""
    folder = runs.empty(expected.with_name("vanishing"))
    process = runs.start(experiment, runs.options(experiment), folder)
    runs.wait_for(process, lambda: next(folder.glob("runs/*/latest/checkpoints/*/*"), None))
    time.sleep(rng.uniform(0, 1))
    shutil.rmtree(folder / "runs", ignore_errors=True)
    ended = runs.finish(process)
    if ended.code == 0 or (ended.code == 1 and ended.tidy and ended.refusals):
        return []
    return [f"ended with {ended.code}: {ended.last_words}"]


def in_namespace(what: str, experiment: str, expected: Path, *size: int) -> list[str]:
    """Does one of the two below in a mount namespace of its own."""
    folder = runs.empty(expected.with_name("mounted"))
    program = [sys.executable, "-m", "benchmarks.faults.disk", what, experiment, folder, expected, *size]
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", *map(str, program)], capture_output=True, text=True, cwd=runs.ROOT
    )
    return json.loads(done.stdout) if done.returncode == 0 else [done.stderr[-300:]]


def _mount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)], check=True)


def full(experiment: str, folder: Path, expected: Path, size: int) -> list[str]:
    """Runs on a disk of so many bytes; then, with more, continues the run, or begins it if there is none yet."""
    _mount(folder, f"size={size}")
    ended = runs.do(experiment, runs.options(experiment), folder)
    if ended.code != 0 and not (ended.code in (1, 2) and ended.tidy and ended.refusals):
        return [f"ended with {ended.code}: {ended.last_words}"]
    _mount(folder, "remount", AMPLE)
    begun = (runs.newest(folder, experiment) / "config.json").exists()
    ended = runs.do(experiment, ["--resume"] if begun else runs.options(experiment), folder)
    if ended.code != 0:
        return [f"not continued: {ended.last_words}"]
    return sorted(runs.files(folder) ^ runs.files(expected)) + _lost(experiment, folder, expected)


def read_only(experiment: str, folder: Path, expected: Path) -> list[str]:
    """Continues a finished run on a disk that can't be written, which must be refused and change nothing."""
    _mount(folder, AMPLE)
    shutil.copytree(expected, folder, symlinks=True, dirs_exist_ok=True)
    _mount(folder, "remount", "ro")
    ended = runs.do(experiment, ["--resume"], folder)
    if ended.code != 2 or not (ended.tidy and ended.refusals):
        return [f"ended with {ended.code}: {ended.last_words}"]
    return _lost(experiment, folder, expected)


if __name__ == "__main__":
    what, experiment, folder, expected, *size = sys.argv[1:]
    act = {"full": full, "read-only": read_only}[what]
    print(json.dumps(act(experiment, Path(folder), Path(expected), *map(int, size))))
