"""A small run of the transactions."""

from pathlib import Path

import pandas as pd

import experiments.fraud.__main__ as fraud
from experiments.command_line import run
from vae_jax.tables.synthetic import simulate_transactions

OPTIONS = ["--recipes", "gaussian", "--hidden-dims", "6", "--num-samples", "20", "--batch-size", "64", "--epochs", "2"]


def train(folder: Path, name: str) -> pd.DataFrame:
    """Makes a run of a name in a folder from 1,030 simulated rows, which it writes beside it and returns.

    In the file is a line of separators alone, so that the places of rows in the table are not their numbers.
    """
    frame = simulate_transactions(seed=1, rows=20_000)
    frame = pd.concat([frame[frame.Class == 0].head(1_000), frame[frame.Class == 1].head(30)]).sort_values("Time")
    lines = frame.to_csv(index=False).splitlines()
    lines.insert(10, "," * (frame.shape[1] - 1))
    (folder / "small.csv").write_text("\n".join(lines) + "\n")
    assert run(fraud.main, ["--data", str(folder / "small.csv"), *OPTIONS, "--run-dir", str(folder / name)]) == 0
    return frame
