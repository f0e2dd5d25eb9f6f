"""The training loop of both experiments: compiled epochs, a log, checkpoints, and stopping."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from experiments.command_line import RunError
from experiments.progress import EpochProgress
from experiments.runs import Run, disk_errors
from experiments.stopping import deferred
from vae_jax.checkpoints import CheckpointError, Checkpoints
from vae_jax.training import TrainState

METRICS_LOG = "metrics.jsonl"


@dataclass(frozen=True)
class Training:
    """What to train, and for how long.

    Attributes:
      name: of the model in logs, and of its folder of checkpoints.
      epoch: compiled; state -> (state, info of each step). It may donate the state.
      validate: compiled; state -> dict of scalars, among them `loss`.
      epochs: how many in all.
      rows_per_epoch: examples that one epoch works through, of all models together.
      save_every: epochs between checkpoints.
    """

    name: str
    epoch: Callable[[TrainState], tuple[TrainState, dict[str, jax.Array]]]
    validate: Callable[[TrainState], dict[str, jax.Array]]
    epochs: int
    rows_per_epoch: int
    save_every: int


def train(run: Run, training: Training, state: TrainState, output: Any) -> TrainState:
    """Trains to the last epoch, from the latest checkpoint where there is one.

    Args:
      run: the run's folder.
      training: what to do.
      state: the state at step 0.
      output: the console.

    Returns:
      The saved state with the lowest validation loss.

    Raises:
      Interrupted: after a signal, when everything is saved.
      RunError: if the loss is not finite, or the disk fails.
    """
    try:
        with Checkpoints(run.path("checkpoints", training.name)) as checkpoints:
            if checkpoints.latest is not None:
                state = checkpoints.restore(state, checkpoints.latest)
            first = checkpoints.latest or 0
            _forget_after(run, training.name, first)
            if first < training.epochs:
                state = _train(run, training, state, first, checkpoints, output)
            checkpoints.wait()
            assert checkpoints.best is not None  # the last epoch is always saved
            return checkpoints.restore(state, checkpoints.best)
    except CheckpointError as error:
        raise RunError(str(error)) from error


def _train(
    run: Run, training: Training, state: TrainState, first: int, checkpoints: Checkpoints, output: Any
) -> TrainState:
    with (
        disk_errors(run.folder),
        deferred() as stop,
        EpochProgress(training.name, first, training.epochs, output) as progress,
        closing(_event_file(run, training.name, first)) as events,
        open(run.path(METRICS_LOG), "a", encoding="utf-8") as log,
    ):
        for epoch in range(first + 1, training.epochs + 1):
            started = time.perf_counter()
            state, info = training.epoch(state)
            _check_finite(training.name, epoch, info, checkpoints.latest)  # waits for the epoch to end
            seconds = time.perf_counter() - started
            record = _record(training, epoch, info, training.validate(state), seconds)
            print(json.dumps(record), file=log, flush=True)
            _write_event(events, record)
            progress.show(epoch, record)
            if epoch % training.save_every == 0 or epoch == training.epochs:
                checkpoints.save(epoch, state, record["validation_loss"])
            if stop.signal_number is not None:
                # Never the best, or a run that was stopped would choose among more epochs than one that was not.
                checkpoints.save(epoch, state, math.inf)
                checkpoints.wait()
                stop.raise_if_asked()
    return state


def _record(
    training: Training, epoch: int, info: dict[str, jax.Array], validation: dict[str, jax.Array], seconds: float
) -> dict:
    """One line of the log: means over the steps, and over the models where there are several."""
    return {
        "recipe": training.name,
        "epoch": epoch,
        **{name: float(np.mean(value)) for name, value in info.items()},
        **{f"validation_{name}": float(np.mean(value)) for name, value in validation.items()},
        "rows_per_second": training.rows_per_epoch / seconds,
    }


def _event_file(run: Run, name: str, first: int) -> RecordWriter:
    """Opens a TensorBoard event file.

    It is written record by record, not by tensorboardX's SummaryWriter, whose thread dies of a full disk and then keeps
    the program from ending.
    """
    events = RecordWriter(str(run.path("tensorboard", name, f"events.out.tfevents.{time.time_ns()}.vae_jax")))
    # The second event makes TensorBoard forget what a killed run wrote after its last checkpoint.
    start = Event(step=first, session_log={"status": 1})
    for event in (Event(wall_time=time.time(), file_version="brain.Event:2"), start):
        events.write(event.SerializeToString())
    return events


def _write_event(events: RecordWriter, record: dict) -> None:
    """Appends the numbers of one epoch."""
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in record.items() if isinstance(value, float)]
    event = Event(wall_time=time.time(), step=record["epoch"], summary=Summary(value=scalars))
    events.write(event.SerializeToString())
    events.flush()


def _check_finite(name: str, epoch: int, info: dict[str, jax.Array], saved: int | None) -> None:
    """Raises RunError that names the first step whose loss is not finite."""
    finite = np.isfinite(np.asarray(info["loss"]))
    if finite.all():
        return
    step = int(np.argmin(finite.reshape(-1, finite.shape[-1]).all(0)))  # info is (..., steps)
    kept = f"the checkpoint of epoch {saved} is kept" if saved else "no checkpoint was saved yet"
    raise RunError(f"{name}: the loss is not finite in epoch {epoch}, step {step + 1}; {kept}")


def read_log(run: Run, name: str) -> list[dict]:
    """Reads the log lines of one model, in the order of epochs."""
    return [record for record in _all_records(run) if record["recipe"] == name]


def _all_records(run: Run) -> list[dict]:
    path = run.folder / METRICS_LOG
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break  # the line that a killed process was writing
    return records


def _forget_after(run: Run, name: str, epoch: int) -> None:
    """Drops what a killed run logged after its last checkpoint, since these epochs come again."""
    records = [record for record in _all_records(run) if record["recipe"] != name or record["epoch"] <= epoch]
    run.write_text(METRICS_LOG, "".join(json.dumps(record) + "\n" for record in records))
