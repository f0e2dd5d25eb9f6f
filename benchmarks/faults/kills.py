"""Runs killed and stopped at random moments of their whole life, then continued: nothing may be lost.

A run is hit several times in a row, each time continued, and then left to end. It must have the bits of a run that
nobody disturbed, and no temporary file.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.faults import runs
from benchmarks.faults.outcome import NOTHING, Outcome
from benchmarks.faults.settings import Settings

TICKS = os.sysconf("SC_CLK_TCK")
IN_A_ROW = 5  # hits of one run
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDS = (0, *(128 + number for number in SIGNALS), *(-number for number in SIGNALS))  # codes that are fine after these
HITS = {  # signal, and usual number for each experiment
    "kill -9": (signal.SIGKILL, 50),
    "SIGTERM": (signal.SIGTERM, 10),
    "SIGINT": (signal.SIGINT, 10),
    "SIGTERM twice": (signal.SIGTERM, 5),
    "SIGINT twice": (signal.SIGINT, 5),
    "kill -9 in a save": (signal.SIGKILL, 5),
    "SIGTERM in a save": (signal.SIGTERM, 5),
    "SIGINT in a save": (signal.SIGINT, 5),
}


@dataclass(frozen=True)
class Undisturbed:
    """The run that all others must equal.

    Attributes:
      folder: where it was started.
      seconds: of computing, in all threads.
    """

    experiment: str
    folder: Path
    seconds: float


def outcomes(settings: Settings) -> Iterator[Outcome]:
    """Hits both experiments with everything in `HITS`."""
    for experiment in runs.OPTIONS:
        expected = undisturbed(experiment, settings.folder / experiment)
        for name, (_, usual) in HITS.items():
            yield hit_often(expected, name, settings.number(usual), settings.generator())


def undisturbed(experiment: str, folder: Path) -> Undisturbed:
    """Runs twice to the end: the first one compiles, the second shows how long the others take."""
    runs.undisturbed(experiment, folder)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    expected = runs.undisturbed(experiment, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Undisturbed(experiment, expected, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def hit_often(expected: Undisturbed, name: str, hits: int, rng: np.random.Generator) -> Outcome:
    """Hits runs this often in one way, several runs at a time."""
    found: list[tuple[list[str], str]] = []
    lost: list[tuple[int, str]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, runs.all_stopped():
        # Again, because a run may end before it is hit, but not if something was lost.
        while not lost and (missing := hits - sum(len(stages) for stages, _ in found)) > 0:
            rows = [min(IN_A_ROW, missing - first) for first in range(0, missing, IN_A_ROW)]
            seeds = rng.integers(2**32, size=len(rows)).tolist()
            found += pool.map(partial(hit_in_a_row, expected, name), rows, seeds)
            lost = [(max(1, len(stages)), reason) for stages, reason in found if reason != NOTHING]
    tries = sum(max(1, len(stages)) for stages, _ in found)
    return Outcome(
        fault=f"{expected.experiment}: {name}",
        tries=tries,
        survived=tries - sum(number for number, _ in lost),
        lost="; ".join(sorted({reason for _, reason in lost})) or NOTHING,
        figures=", ".join(f"{stage} {n}" for stage, n in Counter(chain(*(row for row, _ in found))).most_common()),
    )


def hit_in_a_row(expected: Undisturbed, name: str, hits: int, seed: int) -> tuple[list[str], str]:
    """Hits one run so many times, then lets it end; returns the stage of each hit, and what was lost."""
    rng, experiment, (number, _) = np.random.default_rng(seed), expected.experiment, HITS[name]
    folder = runs.empty(expected.folder.parent / f"{name.replace(' ', '_')}_{seed}")
    stages: list[str] = []
    process = runs.start(experiment, runs.options(experiment), folder)
    while len(stages) < hits:
        seconds = rng.uniform(0, expected.seconds)
        runs.wait_for(process, partial(_is_due, process, None if "save" in name else seconds, folder))
        if process.poll() is not None:
            break
        stages.append(stage(folder, experiment))
        process.send_signal(number)
        if "twice" in name:
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(number)
        ended = runs.finish(process)
        if number != signal.SIGKILL and (ended.code not in ENDS or not ended.tidy):
            return stages, f"ended with {ended.code}: {ended.last_words}"
        process = _go_on(experiment, folder)
    ended = runs.finish(process)
    if ended.code != 0:
        return stages, f"not continued: {ended.last_words}"
    different = runs.differences(runs.newest(folder, experiment), runs.newest(expected.folder, experiment))
    left = sorted(runs.files(folder) ^ runs.files(expected.folder))
    shutil.rmtree(folder)
    return stages, "; ".join([*different[:3], *left[:3]]) or NOTHING


def _is_due(process: subprocess.Popen[str], seconds: float | None, folder: Path) -> bool:
    """Whether a process has computed so long, or, without a time, is saving a checkpoint."""
    if seconds is not None:
        return (_computed(process) or 0) >= seconds
    return next(folder.glob("runs/*/latest/checkpoints/*/*orbax-checkpoint-tmp*"), None) is not None


def _go_on(experiment: str, folder: Path) -> subprocess.Popen[str]:
    """Continues the run, or starts it anew if the folder holds none yet."""
    begun = (runs.newest(folder, experiment) / "config.json").exists()
    return runs.start(experiment, ["--resume"] if begun else runs.options(experiment), folder)


def _computed(process: subprocess.Popen[str]) -> float | None:
    """Seconds that a process has computed, which other processes on the machine do not change; None if it has ended."""
    try:
        times = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    except OSError:
        return None
    return sum(map(int, times)) / TICKS


def stage(folder: Path, experiment: str) -> str:
    """The furthest stage that a run has reached, by what its folder holds; a continued one may be at an earlier one."""
    run = runs.newest(folder, experiment)
    if not (run / "config.json").exists():
        return "preparing pictures" if next(folder.glob("cache/*.partial"), None) else "before the run folder"
    if next(run.glob("checkpoints/*/*orbax-checkpoint-tmp*"), None):
        return "saving"
    after = {
        "report.html": "ending",
        "figures": "drawing",
        "metrics.json": "writing",
        "checkpoints/*/*/state": "training",
    }
    return next((name for pattern, name in after.items() if next(run.glob(pattern), None)), "compiling")
