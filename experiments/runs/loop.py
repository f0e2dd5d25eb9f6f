"""The training loop that the experiments share: compiled steps, log, checkpoints and stopping."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from experiments.command_line import Interrupted, RunError
from experiments.runs import processes
from experiments.runs.progress import TrainingProgress
from experiments.runs.run_folder import Run, disk_errors
from experiments.runs.stopping import deferred, held
from vae_jax.training import TrainState, train_steps
from vae_jax.training.checkpoints import CheckpointError, Checkpoints
from vae_jax.training.finite import TERMS, first_not_finite, is_finite
from vae_jax.training.parallel import AXIS, compile_parallel, replicated

METRICS_LOG = "metrics.jsonl"
STEPS = "steps"  # key of an epoch's sums: the number of steps summed

Advance = Callable[[TrainState, int, int], tuple[TrainState, dict[str, jax.Array]]]


@dataclass(frozen=True)
class Training:
    """What to train, and for how long.

    Attributes:
      name: of the model in logs, and of its checkpoint folder.
      advance: compiled; (state, current step, number of steps) -> (state, info of each step). It may donate the state,
        and is never asked to cross the end of an epoch.
      validate: state -> dict of numbers, among them `loss`.
      steps_per_call: how many steps to ask of `advance` at once.
      examples_per_step: over all models together.
      save_every: epochs between checkpoints.
      save_every_minutes: minutes between checkpoints within an epoch; None for none.
      unit: what the log's rate counts: "rows" or "images".
    """

    name: str
    advance: Advance
    validate: Callable[[TrainState], dict[str, Any]]
    epochs: int
    steps_per_epoch: int
    steps_per_call: int
    examples_per_step: int
    save_every: int
    save_every_minutes: float | None = None
    unit: str = "rows"


def resident_steps(batch_size: int, mesh: Mesh) -> Callable[[int], Callable]:
    """Returns a function that compiles so many steps over data held whole on every device, once for each number."""

    @cache
    def compiled(count: int) -> Callable:
        steps = partial(train_steps, batch_size=batch_size, num_steps=count, axis_name=AXIS)
        return compile_parallel(steps, mesh, (replicated, replicated), (replicated, replicated), donate_argnums=0)

    return compiled


def train(run: Run, training: Training, state: TrainState, output: Console) -> TrainState:
    """Trains from the latest checkpoint, or else from `state` at step 0, to the last epoch.

    All processes of a run train and save; one of them writes the log.

    Returns:
      The saved state with the lowest validation loss.

    Raises:
      Interrupted: after a signal, once everything is saved.
      RunError: if a term of the loss, the parameters or the optimiser's state are not finite, or the disk fails.
    """
    try:
        with _checkpoints(run, training.name) as checkpoints:
            sums: dict[str, float] = {}
            if checkpoints.latest is not None:
                state = checkpoints.restore(state, checkpoints.latest)
                sums = checkpoints.sums(checkpoints.latest)
            first = checkpoints.latest or 0
            _forget_after(run, training.name, first // training.steps_per_epoch)
            if first < training.epochs * training.steps_per_epoch:
                state = _train(run, training, state, first, sums, checkpoints, output)
            checkpoints.wait()
            assert checkpoints.best is not None  # the last epoch is always saved
            return checkpoints.restore(state, checkpoints.best)
    except CheckpointError as error:
        time.sleep(0.2)  # Orbax's other reads and writes fail a moment later, and are hushed only while Python runs
        raise RunError(str(error)) from error


def load_best(run: Run, name: str, like: TrainState) -> TrainState:
    """Loads the saved state with the lowest validation loss, without a change to the run's folder.

    Raises RunError if there is none that fits.
    """
    try:
        with _checkpoints(run, name, read_only=True) as checkpoints:
            if checkpoints.best is None:
                raise RunError(f"{run.folder}: no checkpoint was saved in this run")
            return checkpoints.restore(like, checkpoints.best)
    except CheckpointError as error:
        raise RunError(str(error)) from error


def _checkpoints(run: Run, name: str, read_only: bool = False) -> Checkpoints:
    """Opens a model's checkpoints; damaged ones are named on stderr."""
    folder = run.folder / "checkpoints" / name
    return Checkpoints(folder, warn=lambda line: print(f"warning: {line}", file=sys.stderr), read_only=read_only)


def _train(
    run: Run,
    training: Training,
    state: TrainState,
    first: int,
    sums: dict[str, float],
    checkpoints: Checkpoints,
    output: Console,
) -> TrainState:
    last = training.epochs * training.steps_per_epoch
    with (
        disk_errors(run.folder),
        deferred() as stop,
        TrainingProgress(training.name, first, last, training.steps_per_epoch, training.unit, output) as progress,
        _open_log(run, training.name, first // training.steps_per_epoch) as log,
    ):
        meter = _Meter(training, first, sums, checkpoints)
        votes = processes.Votes()
        step, saved_at = first, time.monotonic()
        while step < last:
            count = min(training.steps_per_call, training.steps_per_epoch - step % training.steps_per_epoch)
            state, info = training.advance(state, step, count)
            step += count
            meter.add(info, is_finite(state), count)
            epoch, within = divmod(step, training.steps_per_epoch)
            if within == 0:
                record = meter.finish_epoch(epoch)
                validation = training.validate(state)
                meter.check_validation(validation, epoch)
                record |= {f"validation_{name}": float(np.mean(value)) for name, value in validation.items()}
                meter.start_epoch()
                log(record)
                progress.show(step, record)
                if epoch % training.save_every == 0 or step == last:
                    with held():
                        checkpoints.save(step, state, record["validation_loss"])
                    saved_at = time.monotonic()
            else:
                progress.show(step, meter.so_far())
            save_now = _is_due(training, saved_at)
            if save_now:
                saved_at = time.monotonic()
            save_now, signal_number = votes.cast(save_now, stop.signal_number or 0, last=step == last)
            if save_now or signal_number:
                # Infinite, so never the best: a stopped run must choose among the same epochs as an uninterrupted one.
                sums = meter.wait()
                with held():  # or threads of Orbax's wait for the rest of the save, and the process for them
                    checkpoints.save(step, state, math.inf, sums)
            if signal_number:
                checkpoints.wait()
                raise Interrupted(signal_number)
    return state


def _is_due(training: Training, saved_at: float) -> bool:
    """Whether a checkpoint within an epoch is due, by the main process's clock."""
    minutes = training.save_every_minutes
    return minutes is not None and processes.is_main() and time.monotonic() - saved_at > 60 * minutes


class _Meter:
    """Sums the info of an epoch's steps, and checks that all stays finite.

    It reads a call's numbers only once the next call is under way, so that the device never waits for the host.
    """

    def __init__(self, training: Training, step: int, sums: dict[str, float], checkpoints: Checkpoints):
        self._training = training
        self._checkpoints = checkpoints
        self._step = step  # the last step in the sums
        self._pending: list[tuple[dict[str, jax.Array], jax.Array, int]] = []
        self.start_epoch(sums)

    def start_epoch(self, sums: Mapping[str, float] = MappingProxyType({})) -> None:
        """Starts from the given sums, and restarts the clock of the rate."""
        self._sums = defaultdict(float, sums)
        self._started, self._examples = time.perf_counter(), 0

    def add(self, info: dict[str, jax.Array], finite: jax.Array, count: int) -> None:
        """Takes the info of a call that has just started, and whether the state after it is finite."""
        self._pending.append((info, finite, count))
        while len(self._pending) > 1:
            self._read()

    def wait(self) -> dict[str, float]:
        """Waits for all calls, and returns the epoch's sums so far."""
        while self._pending:
            self._read()
        return dict(self._sums)

    def so_far(self) -> dict[str, float]:
        """Means over the epoch's known steps, and the rate."""
        steps = self._sums.get(STEPS, 0)
        means = {name: value / steps for name, value in self._sums.items() if name != STEPS} if steps else {}
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return {**means, f"{self._training.unit}_per_second": self._examples / seconds}

    def finish_epoch(self, epoch: int) -> dict[str, Any]:
        """Waits, and returns the epoch's log line: means over the steps, and over the models if there are several."""
        self.wait()
        return {"recipe": self._training.name, "epoch": epoch, **self.so_far()}

    def check_validation(self, validation: Mapping[str, Any], epoch: int) -> None:
        """Raises RunError if a term is NaN. Infinity may be: a held-out row may lie beyond any other."""
        for term in TERMS:
            if np.isnan(validation.get(term, 0.0)).any():
                raise self._failure(f"the {term} of the validation data is not a number after epoch {epoch}")

    def _read(self) -> None:
        info, finite, count = self._pending.pop(0)
        values = {name: np.asarray(value, np.float64) for name, value in info.items()}  # waits for the call to end
        if failure := first_not_finite(values):
            step, term = failure
            raise self._failure(f"the {term} is not finite in {self._place(step)}")
        if not finite:
            what = "the parameters or the optimiser's state"
            raise self._failure(f"{what} are not finite after {self._place(count - 1)}")
        for name, value in values.items():
            self._sums[name] += float(value.mean() * count)
        self._sums[STEPS] += count
        self._step += count
        self._examples += count * self._training.examples_per_step

    def _place(self, step: int) -> str:
        """A step of the call being read, as a reader counts."""
        epoch, within = divmod(self._step + step, self._training.steps_per_epoch)
        return f"epoch {epoch + 1}, step {within + 1}"

    def _failure(self, what: str) -> RunError:
        saved = self._checkpoints.latest
        kept = f"the checkpoint of step {saved:,} is kept" if saved else "no checkpoint was saved yet"
        return RunError(f"{self._training.name}: {what}; {kept}")


@contextmanager
def _open_log(run: Run, name: str, first: int) -> Iterator[Callable[[dict], None]]:
    """Opens `metrics.jsonl` and a TensorBoard file; yields a function that appends an epoch's record to both."""
    if not run.writes:
        yield lambda record: None
        return
    with closing(_event_file(run, name, first)) as events, open(run.path(METRICS_LOG), "a", encoding="utf-8") as log:

        def write(record: dict) -> None:
            run.check()
            print(json.dumps(record), file=log, flush=True)
            _write_event(events, record)
            run.callback(record)

        yield write


def _event_file(run: Run, name: str, first: int) -> RecordWriter:
    """Opens a TensorBoard event file.

    Not with tensorboardX's SummaryWriter: its thread dies on a full disk and then keeps the program from exiting.
    """
    events = RecordWriter(str(run.path("tensorboard", name, f"events.out.tfevents.{time.time_ns()}.vae_jax")))
    # The second event makes TensorBoard discard what a killed run wrote after its last checkpoint.
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


def read_log(run: Run, name: str) -> list[dict]:
    """Reads a trained model's log lines, in order of epochs; raises RunError if they were removed."""
    found = [record for record in _all_records(run) if record["recipe"] == name]
    if not found:
        run.check()
        raise RunError(f"{run.folder / METRICS_LOG}: the lines of {name} were removed while the run was using them")
    return found


def _all_records(run: Run) -> list[dict]:
    """Reads all models' log lines; leaves out those that are damaged, and says so."""
    path = run.folder / METRICS_LOG
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found = [_as_record(line) for line in lines]
    # What follows the last line break is nothing, or a line cut short when the process was killed.
    damaged = [str(i) for i, record in enumerate(found[:-1], 1) if record is None]
    if damaged and run.writes:
        print(f"warning: {path}: left out lines that are damaged: {', '.join(damaged)}", file=sys.stderr)
    return [record for record in found if record is not None]


def _as_record(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and "recipe" in record and isinstance(record.get("epoch"), int)
    return record if whole else None


def _forget_after(run: Run, name: str, epoch: int) -> None:
    """Drops what a killed run logged after its last checkpoint; those epochs are trained again."""
    records = [record for record in _all_records(run) if record["recipe"] != name or record["epoch"] <= epoch]
    run.write_text(METRICS_LOG, "".join(json.dumps(record) + "\n" for record in records))
