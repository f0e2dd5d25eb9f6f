"""The score command and `--engine ray` side by side: same scores, rate, memory, and a worker killed in the middle.

    PYTHONPATH=. .venv-cluster/bin/python -m benchmarks.cluster --model FOLDER --folder FOLDER

Makes tables of real transactions, or simulated ones without them, repeated with noise. The cluster is of this machine's
cores, with one worker each, and is started for every call, as the command does by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import dataset
from rich.table import Table

from experiments.command_line import RunError, UsageError, parse, run
from experiments.runs.progress import console
from vae_jax.tables.files import read_frame
from vae_jax.tables.synthetic import simulate_transactions

ROOT = Path(__file__).parent.parent
GROUP = 1 << 17  # rows of a row group
NOISE = 0.01  # standard deviations


@dataclass(frozen=True)
class ClusterConfig:
    """Measure scoring on a cluster beside the command."""

    model: str | None = None
    """Folder of a saved model of card transactions. Required."""
    folder: str = "cluster"
    """Where tables and scores go; tables that are there are used again."""
    rows: tuple[int, ...] = (500_000, 1_000_000, 2_000_000)
    """Numbers of rows to measure."""
    workers: int = 2
    """Workers of the cluster."""
    repeats: int = 1
    """How often the largest table is scored by each, in turns."""


@dataclass(frozen=True)
class Cost:
    """Of one call: seconds from start to end, and peak resident memory in bytes of the largest process that scores."""

    seconds: float
    memory: int


def main(arguments: Sequence[str]) -> None:
    """Measures and prints."""
    config = parse(ClusterConfig, "python -m benchmarks.cluster", arguments)
    if config.model is None:
        raise UsageError("--model: expected the folder of a saved model")
    folder, output = Path(config.folder), console()
    folder.mkdir(parents=True, exist_ok=True)
    costs = Table(title=f"{config.workers} workers beside the command, including start-up")
    for title in ("rows", "by", "seconds", "rows/s", "peak memory of a process, MB"):
        costs.add_column(title, justify="left" if title == "by" else "right")
    for rows in config.rows:
        path = make_table(folder, rows)
        for _ in range(config.repeats if rows == config.rows[-1] else 1):
            for by, score in (("command", by_command), ("ray", by_ray)):
                cost = score(config, path)
                rate = f"{rows / cost.seconds:,.0f}"
                line = f"{rows:,}", by, f"{cost.seconds:,.1f}", rate, f"{cost.memory / 1e6:,.0f}"
                costs.add_row(*line)
                output.print(", ".join(line))
        output.print(f"{rows:,} rows: {compare(path)}")
    by_ray(config, path, kill=True)
    output.print(f"{rows:,} rows, a worker killed in the middle: {compare(path)}")
    output.print(costs)


def make_table(folder: Path, rows: int) -> Path:
    """Writes transactions, repeated with noise, as Parquet."""
    path = folder / f"{rows}.parquet"
    if path.exists():
        return path
    real = Path(os.environ.get("VAE_JAX_DATA", ""), "creditcard", "creditcard.csv")
    frame = read_frame(str(real))[0] if real.exists() else simulate_transactions(rows=20_000)
    frame = frame.drop(columns=["Class"]).astype(np.float64)
    rng, sd = np.random.default_rng(rows), frame.std().to_numpy()
    partial = path.with_suffix(".partial")
    with pq.ParquetWriter(partial, pa.Schema.from_pandas(frame, preserve_index=False)) as writer:
        for start in range(0, rows, GROUP):
            some = frame.iloc[np.arange(start, min(start + GROUP, rows)) % len(frame)].reset_index(drop=True)
            some += NOISE * sd * rng.standard_normal(some.shape)
            writer.write_table(pa.Table.from_pandas(some, preserve_index=False))
    partial.rename(path)
    return path


def by_command(config: ClusterConfig, path: Path) -> Cost:
    """Scores with the command."""
    return measure(config, path, path.with_suffix(".command"), [], lambda process: [process.pid])


def by_ray(config: ClusterConfig, path: Path, kill: bool = False) -> Cost:
    """Scores with the cluster; `kill` ends a worker after the first parts."""
    output = path.with_suffix(".ray")
    subprocess.run(["rm", "-rf", str(output)], check=True)
    killed: list[int] = []

    def scoring(process: subprocess.Popen) -> list[int]:
        found = workers(process.pid)
        if kill and not killed and found and len(list(output.glob("part-*"))) >= 2:
            os.kill(found[0], signal.SIGKILL)
            killed.append(found[0])
        return found

    cost = measure(config, path, output, ["--engine", "ray", "--workers", str(config.workers)], scoring)
    if kill and not killed:
        raise RunError("no worker was found to be killed")
    return cost


def workers(parent: int) -> list[int]:
    """The processes of Ray's workers that a process has started."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    processes = [line.split(None, 2) for line in lines.splitlines()[1:]]
    family = {parent}
    for _ in range(4):
        family |= {int(pid) for pid, of, _ in processes if int(of) in family}
    return [int(pid) for pid, _, name in processes if int(pid) in family and name.startswith("ray::MapWorker")]


def measure(
    config: ClusterConfig,
    path: Path,
    output: Path,
    options: list[str],
    scoring: Callable[[subprocess.Popen], list[int]],
) -> Cost:
    """Runs the command without run.sh, and watches the processes that `scoring` names."""
    target = str(output) if options else f"{output}.parquet"
    words = ["--model", str(config.model), "--input", str(path), "--output", target, *options]
    # Ray would give its workers a low priority, and on a busy machine they would get next to nothing.
    ray = {"RAY_ADDRESS": "local", "RAY_worker_niceness": "0"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **ray}
    command = [sys.executable, "-m", "experiments", "score", *words]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    said: list[bytes] = []
    reading = threading.Thread(target=lambda: said.append(process.stderr.read()), daemon=True)  # pyright: ignore
    reading.start()
    peak = 0
    while process.poll() is None:
        peak = max([peak, *map(peak_memory, scoring(process))])
        time.sleep(0.5)
    seconds = time.perf_counter() - started
    reading.join()
    if process.returncode:
        raise RunError(f"{' '.join(words)} ended with {process.returncode}: {said[0].decode().splitlines()[-1:]}")
    return Cost(seconds, peak)


def peak_memory(process: int) -> int:
    """Peak resident memory of a process, bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def compare(path: Path) -> str:
    """Says whether both wrote the same, to the bit and in the same order."""
    one = pq.read_table(path.with_suffix(".command.parquet"))
    other = dataset.dataset(sorted(map(str, path.with_suffix(".ray").glob("part-*")))).to_table().drop_columns(["file"])
    return "the same rows, scores and decisions" if one.equals(other.select(one.column_names)) else "DIFFERENT"


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
