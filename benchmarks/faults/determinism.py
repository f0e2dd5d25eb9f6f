"""The same seed gives the same bits, and a score is a function of the model and the row alone.

What need not be the same to the bit is measured as well: its line has the largest difference, and counts as survived.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.faults import runs
from benchmarks.faults.outcome import NOTHING, Outcome, counted
from benchmarks.faults.settings import Settings

DEVICES = (1, 2, 4)
SCORE = "log_reconstruction_probability"
OLD_EMITTERS = "--xla_cpu_use_fusion_emitters=false"


def outcomes(settings: Settings) -> Iterator[Outcome]:
    """Trains the same again under other circumstances, and scores the same rows in other ways."""
    for experiment in runs.OPTIONS:
        expected = runs.undisturbed(experiment, settings.folder / experiment)
        yield from trained_again(expected, experiment, settings.number(3))
        yield finished_elsewhere(expected, experiment)
        yield from trained_elsewhere(expected, experiment)
    run = runs.newest(settings.folder / "fraud" / "undisturbed", "fraud")
    table = pd.read_csv(settings.folder / "fraud" / "small.csv", dtype=str)
    yield scored_in_other_ways(run, table, ways_to_score(table, settings.seed), settings.folder / "scores")


def trained_again(expected: Path, experiment: str, tries: int) -> Iterator[Outcome]:
    """The same run in other processes, with and without compiled programs that are kept."""
    ways: dict[str, tuple[list[str], dict[str, str]]] = {
        "with programs from the cache": ([], {}),
        "compiled anew": ([], {"JAX_ENABLE_COMPILATION_CACHE": "false"}),
    }
    if experiment == "celeba":
        ways["pictures streamed, not on the device"] = (["--placement", "stream"], {})
    for name, (more, environment) in ways.items():
        folders = [expected.parent / f"again_{i}" for i in range(tries)]
        lost = [_lost(_train(experiment, folder, more, **environment), expected, experiment) for folder in folders]
        yield counted(f"{experiment}: trained again, {name}", lost)


def finished_elsewhere(expected: Path, experiment: str) -> Outcome:
    """A trained run is continued on other devices and in two processes, which measure and score anew."""
    lost = {}
    for name in [*(f"{count} devices" for count in DEVICES), "2 processes"]:
        folder = expected.parent / "elsewhere"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(expected, folder, symlinks=True)
        run = runs.newest(folder, experiment)
        for path in ("model", "scores.csv", "metrics.json"):
            shutil.rmtree(run / path) if (run / path).is_dir() else (run / path).unlink(missing_ok=True)
        if name == "2 processes":
            join = ["--coordinator", f"localhost:{_free_port()}", "--num-processes", "2", "--process-id"]
            started = [
                runs.start(experiment, ["--resume", run, *join, i], folder, JAX_NUM_CPU_DEVICES="1") for i in "01"
            ]
        else:
            started = [runs.start(experiment, ["--resume", run], folder, JAX_NUM_CPU_DEVICES=name.split()[0])]
        failed = [ended.last_words for ended in map(runs.finish, started) if ended.code]
        if failed or (different := _lost(run, expected, experiment)):
            lost[name] = failed[0] if failed else ", ".join(different[:3])
    words = "; ".join(f"{name}: {reason}" for name, reason in lost.items())
    tries = len(DEVICES) + 1
    what = f"{experiment}: trained once; measures, scores and model from 1, 2, 4 devices and 2 processes"
    return Outcome(what, tries, tries - len(lost), words or NOTHING)


def trained_elsewhere(expected: Path, experiment: str) -> Iterator[Outcome]:
    """Training on other devices and with other code for the same operations adds in another order: how much differs."""
    ways = {f"{count} devices": {"JAX_NUM_CPU_DEVICES": str(count)} for count in DEVICES}
    ways["XLA's older emitters of code"] = {"XLA_FLAGS": OLD_EMITTERS}
    for name, environment in ways.items():
        run = _train(experiment, expected.parent / "trained_elsewhere", [], **environment)
        largest = runs.largest_difference(run, runs.newest(expected, experiment))
        figure = f"largest difference of a parameter {largest:.1e}" if largest else "the same bits"
        yield Outcome(f"{experiment}: trained with {name}: need not be the same", 1, 1, NOTHING, figure)


def ways_to_score(table: pd.DataFrame, seed: int) -> dict[str, tuple[pd.DataFrame, int]]:
    """Rows and numbers of devices: in another order, few and many at a time."""
    shuffled = table.sample(frac=1, random_state=seed)
    return {
        **{f"{count} devices": (table, count) for count in DEVICES},
        "another order": (shuffled, 4),
        "7 rows": (table.iloc[50:57], 1),
        "one row": (table.iloc[3:4], 2),
        "ten times the rows": (pd.concat([shuffled, *[table] * 9]), 2),
    }


def scored_in_other_ways(
    run: Path, table: pd.DataFrame, ways: dict[str, tuple[pd.DataFrame, int]], folder: Path
) -> Outcome:
    """Compares the scores of rows with those that they have among all rows on one device."""
    expected = _score(run, table, runs.empty(folder), 1)
    wrong = []
    for name, (rows, devices) in ways.items():
        found, wanted = _score(run, rows, folder, devices), expected[rows.index.to_numpy()]
        if not np.array_equal(found, wanted):
            wrong.append(f"{name}: {np.abs(found - wanted).max():.1e}")
    what = f"scores of the same rows: {', '.join(ways)}"
    return Outcome(what, len(ways), len(ways) - len(wrong), "; ".join(wrong) or NOTHING)


def _score(run: Path, rows: pd.DataFrame, folder: Path, devices: int) -> np.ndarray:
    rows.to_csv(folder / "rows.csv", index=False)
    arguments = ["--model", run / "model", "--input", "rows.csv", "--output", "scores.csv"]
    ended = runs.do("score", arguments, folder, JAX_NUM_CPU_DEVICES=str(devices))
    assert ended.code == 0, ended.errors
    return pd.read_csv(folder / "scores.csv")[SCORE].to_numpy()


def _train(experiment: str, folder: Path, more: list[str], **environment: str) -> Path:
    ended = runs.do(experiment, [*runs.options(experiment), *more], runs.empty(folder), **environment)
    assert ended.code == 0, ended.errors
    return runs.newest(folder, experiment)


def _lost(run: Path, expected: Path, experiment: str) -> list[str]:
    return runs.differences(run, runs.newest(expected, experiment))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]
