"""Short forms of `bash run.sh faults` with whole runs: hit, two at once, on bad disks, scored in other ways."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.faults import concurrency, determinism, disk, kills, long, runs
from benchmarks.faults.outcome import NOTHING


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    return runs.undisturbed("fraud", tmp_path_factory.mktemp("fraud"))


def test_a_run_that_is_hit_ends_like_an_undisturbed_one(expected: Path) -> None:
    undisturbed = kills.Undisturbed("fraud", expected, seconds=6.0)
    outcome = kills.hit_often(undisturbed, "SIGTERM twice", 1, np.random.default_rng(0))
    assert (outcome.survived, outcome.lost) == (outcome.tries, NOTHING)  # one that ends too soon is tried again
    assert outcome.figures.endswith(" 1")  # the stage


def test_two_runs_that_start_at_once_end_like_one_alone(expected: Path) -> None:
    assert concurrency.both_start(expected, "fraud", 0) == []


def test_scores_do_not_depend_on_order_number_and_devices(expected: Path, tmp_path: Path) -> None:
    table = pd.read_csv(expected.parent / "small.csv", dtype=str)
    ways = determinism.ways_to_score(table, seed=0)
    some = {name: ways[name] for name in ("another order", "one row")}
    outcome = determinism.scored_in_other_ways(runs.newest(expected, "fraud"), table, some, tmp_path / "scores")
    assert (outcome.tries, outcome.survived, outcome.lost) == (2, 2, NOTHING)


def test_a_run_with_a_damaged_checkpoint_goes_on_from_the_one_before(expected: Path) -> None:
    assert disk.run_with_damaged_checkpoint("fraud", expected, np.random.default_rng(0)) == []


def test_a_run_on_a_full_disk_goes_on_where_there_is_room_again(expected: Path) -> None:
    if subprocess.run(["unshare", "--mount", "--map-root-user", "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here, so no small disk")
    assert disk.in_namespace("full", "fraud", expected, 200_000 // disk.PAGE * disk.PAGE) == []


@pytest.mark.parametrize("name", ["scores.csv", "metrics.json", "model/arrays.safetensors", "metrics.jsonl"])
def test_what_differs_between_two_runs_is_named(name: str, expected: Path, tmp_path: Path) -> None:
    run = runs.newest(expected, "fraud")
    other = shutil.copytree(run, tmp_path / "run")
    assert runs.differences(other, run) == []
    (other / name).write_bytes((other / name).read_bytes().replace(b"1", b"2"))
    assert runs.differences(other, run) == ["metrics" if "metrics" in name else name]


def test_what_is_left_behind_is_named(expected: Path, tmp_path: Path) -> None:
    other = shutil.copytree(expected, tmp_path / "other", symlinks=True)
    assert runs.files(other) == runs.files(expected)
    (runs.newest(other, "fraud") / "metrics.json.partial").write_text("{")
    assert runs.files(other) - runs.files(expected) == {"runs/fraud/*/metrics.json.partial"}


def test_stages_of_a_run(expected: Path, tmp_path: Path) -> None:
    assert kills.stage(tmp_path, "fraud") == "before the run folder"
    assert kills.stage(expected, "fraud") == "ending"


def test_memory_files_and_threads_of_a_process_are_counted() -> None:
    command = [sys.executable, "-c", "print('begun', flush=True); input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    memory, files, threads = long.sample(process)
    process.communicate("\n")
    assert 0.1 < memory < 100
    assert 3 <= files < 30
    assert threads == 1


def test_a_run_that_grows_is_not_flat(tmp_path: Path) -> None:
    ended, flat = runs.Ended(143, ""), np.tile([500.0, 40.0, 20.0], (100, 1))
    assert long.judge("fraud", ended, flat.tolist(), tmp_path).survived == 4
    growing = flat + np.linspace(0, 1, 100)[:, None] * [50, 0, 4]
    outcome = long.judge("fraud", ended, growing.tolist(), tmp_path)
    assert (outcome.survived, outcome.lost) == (2, "memory in MB, threads")
    assert long.judge("fraud", runs.Ended(1, "error: disk"), flat.tolist(), tmp_path).survived == 3


def test_an_interrupt_ends_what_other_threads_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_stopping", threading.Event())
    monkeypatch.setattr(runs, "_started", [])

    def interrupted() -> None:
        with ThreadPoolExecutor(1) as pool, runs.all_stopped():
            pool.submit(lambda: runs.begin(["sleep", 600]).communicate())
            while not runs._started:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [process.returncode for process in runs._started] == [-signal.SIGKILL]
    with pytest.raises(RuntimeError, match="all commands are stopped"):
        runs.begin(["true"])
