"""Progress of a training run: a live bar for a person, plain lines for a log."""

from __future__ import annotations

import io
import sys
import time
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINES = 20  # plain lines over a whole run, at most
PLAIN_WIDTH = 120  # columns, where no terminal says its own


def console(file: IO[str] | None = None) -> Console:
    """Returns the console for all output, on stdout by default; its width is fixed where there is no terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # or a log file shows nothing for minutes
    plain: dict[str, Any] = {
        "highlight": False,
        "markup": False,
        "emoji": False,
        "file": file,
    }  # a path may hold [brackets] and :colons:
    output = Console(**plain)
    return output if output.is_terminal else Console(**plain, width=PLAIN_WIDTH)


class EpochProgress:
    """Shows epoch, losses, rows per second and time left. A context manager."""

    def __init__(self, title: str, first_epoch: int, epochs: int, output: Console):
        self._title = title
        self._first = first_epoch
        self._epochs = epochs
        self._output = output
        self._started = time.monotonic()
        columns = [TextColumn("{task.description}"), BarColumn(None), TaskProgressColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=output, disable=not output.is_terminal)
        self._task = self._bar.add_task(title, total=epochs, completed=first_epoch)

    def __enter__(self) -> EpochProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, epoch: int, record: dict) -> None:
        """Shows the state after an epoch (counted from 1), from its line of `metrics.jsonl`."""
        text = (
            f"{self._title}  epoch {epoch:,}/{self._epochs:,}  loss {record['loss']:.4g}  "
            f"validation {record['validation_loss']:.4g}  KL {record['kl']:.3g} nats  "
            f"{record['rows_per_second']:,.0f} rows/s"
        )
        if self._output.is_terminal:
            self._bar.update(self._task, completed=epoch, description=text)
        elif epoch == self._epochs or epoch % max(1, self._epochs // LINES) == 0:
            self._output.print(f"{text}  {self._time_left(epoch)} left", soft_wrap=True)

    def _time_left(self, epoch: int) -> str:
        done = epoch - self._first
        seconds = round((time.monotonic() - self._started) / done * (self._epochs - epoch))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
