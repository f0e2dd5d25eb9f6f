"""How cost grows: with rows, with the batch size, and memory with the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.results import show
from benchmarks.rows import ROOT, SAMPLES, Bench, our_face_training, our_fraud_training
from benchmarks.sides import Command, Side, median
from benchmarks.stand_in import FULL_ROWS, write_stand_in

TRAINED_ROWS = (10_000, 100_000, FULL_ROWS)
SCORED_ROWS = (28_000, FULL_ROWS)
FRAUD_BATCHES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
FACE_BATCHES = (8, 16, 32, 64, 128)
PICTURES = 4_096  # 201 MB, for training memory
MEMORY_STEPS = 4


def measure(bench: Bench) -> dict[str, list[dict]]:
    """All studies, each a list of records, one per size."""
    return {
        "fraud_rows": trained_rows(bench),
        "fraud_batch": batches(bench, FRAUD_BATCHES, our_fraud_training, recipe="gaussian"),
        "celeba_batch": batches(bench, FACE_BATCHES, our_face_training, pictures=4 * max(FACE_BATCHES)),
        "score_memory": scoring_memory(bench),
        "celeba_memory": training_memory(bench),
    }


def trained_rows(bench: Bench) -> list[dict]:
    """Rows/s of the transactions' training by number of rows."""
    source = None if bench.fraud_data == "synthetic" else Path(bench.fraud_data)
    commands = []
    for rows in TRAINED_ROWS:
        path = bench.folder / f"transactions_{rows}.csv"
        write_stand_in(path, rows, source)
        commands.append(our_fraud_training(bench, "gaussian", f"{rows}", data=str(path)))
    found = bench.race(commands).rates
    return [{"rows": int(name), "rows_per_second": median(rates), **spread(rates)} for name, rates in found.items()]


def batches(bench: Bench, sizes: Sequence[int], training, **todo) -> list[dict]:
    """Steps/s of a training by batch size."""
    found = bench.race([training(bench, name=f"{size}", batch=size, **todo) for size in sizes]).rates
    steps = {int(name): [rate / int(name) for rate in rates] for name, rates in found.items()}
    return [{"batch": size, "steps_per_second": median(rates), **spread(rates)} for size, rates in steps.items()]


def scoring_memory(bench: Bench) -> list[dict]:
    """Peak memory of a scoring process by number of rows."""
    records = []
    for rows in SCORED_ROWS:
        x = np.resize(bench.fraud_inputs.x, (rows, bench.fraud_inputs.x.shape[1]))
        todo = {"recipe": "gaussian", "data": bench.fraud_data, "samples": SAMPLES, "warm_up": 1}
        command = bench.ours("score_fraud", rows=bench.save(f"scored_{rows}.npy", x), **todo)
        records.append({"rows": rows, **memory(command, x.nbytes)})
    return records


def training_memory(bench: Bench) -> list[dict]:
    """Peak memory of training on pictures held on the device, and streamed from disk."""
    size = PICTURES * 128 * 128 * 3
    return [
        {
            "placement": placement,
            **memory(our_face_training(bench, 64, PICTURES, placement=placement, warm_up=MEMORY_STEPS), size),
        }
        for placement in ("resident", "stream")
    ]


def memory(command: Command, input_bytes: int) -> dict:
    """Peak resident memory of a fresh process after its first work, with and without its input."""
    with Side(command) as side:
        peak = side.ready["peak_bytes"]
    return {"peak_mb": peak / 1e6, "input_mb": input_bytes / 1e6, "without_input_mb": (peak - input_bytes) / 1e6}


def spread(rates: Sequence[float]) -> dict:
    """The lowest and the highest rate."""
    return {"lowest": min(rates), "highest": max(rates)}


def tables(studies: dict[str, list[dict]]) -> list[Table]:
    """A table per study."""
    found = []
    for name, records in studies.items():
        table = Table(title=name.replace("_", " "), title_justify="left")
        for column in records[0]:
            table.add_column(column.replace("_", " "), justify="right")
        for record in records:
            table.add_row(*(value if isinstance(value, str) else show(value) for value in record.values()))
        found.append(table)
    return found


def draw(studies: dict[str, list[dict]], output: str | None) -> Path:
    """Plots rates and memory; returns the path of the plot, beside `output` or in benchmarks/."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    draw_rates(axes[0, 0], studies["fraud_rows"], "rows", "rows_per_second", "transactions: training", "linear")
    draw_rates(axes[0, 1], studies["fraud_batch"], "batch", "steps_per_second", "transactions: training")
    draw_rates(axes[1, 0], studies["celeba_batch"], "batch", "steps_per_second", "faces: training")
    draw_memory(axes[1, 1], studies)
    path = (ROOT / "benchmarks" if output is None else Path(output).absolute().parent) / "scaling.png"
    figure.savefig(path, dpi=110)
    return path


def draw_rates(axes, records: list[dict], x: str, y: str, title: str, scale: str = "log") -> None:
    """Medians with their spread; on the log scale, a falling diagonal is a cost proportional to the size."""
    sizes, medians = [record[x] for record in records], [record[y] for record in records]
    errors = [[r[y] - r["lowest"] for r in records], [r["highest"] - r[y] for r in records]]
    axes.errorbar(sizes, medians, errors, marker="o", capsize=3)
    axes.set(xscale="log", yscale=scale, xlabel=x, ylabel=y.replace("_per_second", "/s"), title=title)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.minorticks_off()
    if scale == "linear":
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)


def draw_memory(axes, studies: dict[str, list[dict]]) -> None:
    """Peak memory as bars, split into the process and its input."""
    bars = {f"score\n{record['rows']:,} rows": record for record in studies["score_memory"]}
    bars |= {f"train faces\n{record['placement']}": record for record in studies["celeba_memory"]}
    without = [record["without_input_mb"] for record in bars.values()]
    axes.bar(bars.keys(), without, label="process")
    axes.bar(bars.keys(), [record["input_mb"] for record in bars.values()], bottom=without, label="its input")
    axes.set(ylabel="MB", title="peak resident memory")
    axes.legend()
