"""Runs of thousands of epochs: memory, open files and threads may not grow."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.faults import runs
from benchmarks.faults.outcome import NOTHING, Outcome
from benchmarks.faults.settings import Settings

SECONDS, EVERY = 1_800, 1.0  # usual length, and between two samples
EPOCHS = "1000000"  # more than there is time for
# What is flat: a mean over the last quarter of the time that is at most this share, or this much, above the second's.
SHARE = 0.02
SLACK = {"memory in MB": 5.0, "open files": 1.0, "threads": 1.0}


def outcomes(settings: Settings) -> Iterator[Outcome]:
    """Trains both experiments side by side, watches them, and stops them."""
    runs.write_transactions(settings.folder / "small.csv")
    running = {}
    for experiment in runs.OPTIONS:
        longer = [*runs.options(experiment), "--epochs", EPOCHS, "--save-every", "100", *_rare_saves(experiment)]
        running[experiment] = runs.start(experiment, longer, runs.empty(settings.folder / experiment))
    for experiment, process in running.items():
        runs.wait_for(process, partial(_epochs, settings.folder / experiment, experiment))
    samples: dict[str, list[list[float]]] = {experiment: [] for experiment in running}
    end = time.monotonic() + settings.tries * SECONDS
    while time.monotonic() < end and all(process.poll() is None for process in running.values()):
        for experiment, process in running.items():
            samples[experiment].append(sample(process))
        time.sleep(EVERY)
    for process in running.values():
        process.send_signal(signal.SIGTERM)
    for experiment, process in running.items():
        yield judge(experiment, runs.finish(process), samples[experiment], settings.folder / experiment)


def sample(process: subprocess.Popen[str]) -> list[float]:
    """A process's memory in MB, open files and threads."""
    folder = Path(f"/proc/{process.pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text(encoding="utf-8").splitlines())
    memory, threads = (float(status[name].split()[0]) for name in ("VmRSS", "Threads"))
    return [memory / 1_000, len(list((folder / "fd").iterdir())), threads]


def judge(experiment: str, ended: runs.Ended, samples: list[list[float]], folder: Path) -> Outcome:
    """Compares the last quarter of the samples with the second."""
    quarters = [quarter.mean(0) for quarter in np.array_split(np.array(samples), 4)]
    grown, figures = [], [f"{_epochs(folder, experiment):,} epochs"]
    for name, first, last in zip(SLACK, quarters[1], quarters[3], strict=True):
        figures.append(f"{name} {first:.1f} to {last:.1f}")
        if last - first > max(SHARE * first, SLACK[name]):
            grown.append(name)
    if ended.code != 128 + signal.SIGTERM:
        grown.append(f"ended with {ended.code}: {ended.last_words}")
    tries = len(SLACK) + 1
    what = f"{experiment}: memory, open files and threads stay flat, and it stops tidily"
    return Outcome(what, tries, tries - len(grown), ", ".join(grown) or NOTHING, ", ".join(figures))


def _rare_saves(experiment: str) -> list[str]:
    return ["--save-every-minutes", "10"] if experiment == "celeba" else []


def _epochs(folder: Path, experiment: str) -> int:
    log = runs.newest(folder, experiment) / "metrics.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0
