"""Exports a detector, and compares its scores and rates with the detector's own.

`.venv-export/bin/python -m benchmarks.exported RUN TABLE`: a run of fraud, and the CSV file it was
trained on. Its test rows are scored, repeated up to 10,000.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pandas as pd

from experiments.command_line import run
from experiments.export.__main__ import main as export
from vae_jax import VAEDetector
from vae_jax.detector.schema_function import numbers_of_cells

SIZES, TESTED, REPEATS = (1, 7, 64, 10_000), 10_000, 3


def main(folder: str, table: str) -> None:
    """Prints the largest differences and the best rate of some repetitions, for several numbers of rows at once."""
    detector = VAEDetector.load(Path(folder, "model"))
    numbers = pd.read_csv(Path(folder, "scores.csv"))["row"]
    frame = pd.read_csv(table)[list(detector.feature_names_in_)].iloc[np.resize(numbers, TESTED)]
    rows = numbers_of_cells(detector.schema_, frame) if detector.schema_ else frame.to_numpy(np.float64)
    encoded = detector.features_.transform(frame if detector.schema_ else rows)
    score, shares = detector.score_encoded(encoded), detector.shares_encoded(encoded)
    own = rate(lambda: (detector.score_encoded(encoded), detector.shares_encoded(encoded)), len(rows))
    print(f"{detector.settings_.recipe}: {len(rows):,} rows, scores {score.min():.1f} to {score.max():.1f} nats")
    print(f"  the detector itself: {own:,.0f} rows/s")
    with tempfile.TemporaryDirectory() as made:
        for how in ("onnx", "stablehlo"):
            assert run(export, ["--model", folder, "--format", how, "--output", f"{made}/{how}"]) == 0
        assert run(export, ["--model", folder, "--format", "onnx", "--output", f"{made}/scores", "--no-shares"]) == 0
        programs = {"onnx": by_onnx(f"{made}/onnx/detector.onnx"), "stablehlo": by_jax(f"{made}/stablehlo")}
        scores_alone = onnxruntime.InferenceSession(f"{made}/scores/detector.onnx")
    for name, program in programs.items():
        for size in SIZES:
            parts = range(0, min(len(rows), 100 * size), size)
            found = [program(rows[i : i + size]) for i in parts]
            joined = {key: np.concatenate([of[key] for of in found]) for key in found[0]}
            n = len(joined["score"])
            of_score, of_shares = np.abs(joined["score"] - score[:n]).max(), np.abs(joined["shares"] - shares[:n]).max()
            decisions = int((joined["anomaly"] != (score[:n] < detector.offset_)).sum())
            rows_per_second = rate(lambda: program(rows[:size]), size)  # noqa: B023 (at once)
            print(
                f"  {name}, {size:,} at once, {n:,} rows: differences of {of_score:.1g} nats in scores, "
                f"{of_shares:.1g} in shares, {decisions} in decisions; {rows_per_second:,.0f} rows/s"
            )

    for size in SIZES:
        rows_per_second = rate(lambda: scores_alone.run(["score"], {"rows": rows[:size]}), size)  # noqa: B023
        print(f"  onnx, without shares, {size:,} at once: {rows_per_second:,.0f} rows/s")


def by_onnx(path: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The program by ONNX Runtime."""
    session = onnxruntime.InferenceSession(path)
    names = ["score", "anomaly", "shares"]
    return lambda rows: dict(zip(names, session.run(names, {"rows": rows}), strict=True))


def by_jax(folder: str) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The program by JAX."""
    program = jax.jit(jax.export.deserialize(bytearray(Path(folder, "detector.stablehlo").read_bytes())).call)

    def call(rows: np.ndarray) -> dict[str, np.ndarray]:
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, program(rows))

    return call


def rate(function: Callable[[], object], rows: int) -> float:
    """Rows per second, of the best repetition."""
    function()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return rows / min(times)


if __name__ == "__main__":
    main(*sys.argv[1:])
