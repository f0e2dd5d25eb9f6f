"""Progress of a run: a live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from vae_jax.data.errors import printable

LINES = 20  # plain lines per run, at most
SECONDS = 10.0  # between plain lines if the total is unknown
WIDE = 110  # columns of a terminal, from which on there is room for a bar beside the text
PLAIN_WIDTH = 120  # columns without a terminal


def console(file: IO[str] | None = None) -> Console:
    """Returns the console for all output, stdout by default; without a terminal its width is fixed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Or a log file shows nothing for minutes, and a word that the terminal's encoding lacks ends the run.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    # A path may hold [brackets] and :colons:.
    plain = partial(SafeConsole, highlight=False, markup=False, emoji=False, file=file)
    output = plain()
    return output if output.is_terminal else plain(width=PLAIN_WIDTH)


class SafeConsole(Console):
    """A console on which no text gives the terminal orders, whoever named the column or the file that it quotes."""

    def render_str(self, text: str, **style: Any) -> Text:
        """Makes of a string, also one in a table or a frame, what is printed."""
        return super().render_str(printable(text), **style)


class TrainingProgress:
    """Shows epoch, losses, rate and time left. A context manager."""

    def __init__(self, title: str, first_step: int, last_step: int, steps_per_epoch: int, unit: str, output: Console):
        self._title = title
        self._first, self._last = first_step, last_step
        self._steps_per_epoch = steps_per_epoch
        self._unit = unit
        self._output = output
        self._started = time.monotonic()
        self._printed = first_step
        self._validation = ""
        # On a narrow terminal the time left is worth more than the bar and the end of the text.
        narrow = output.width < WIDE
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1 if narrow else None))
        columns = [text, *([] if narrow else [BarColumn(None)]), TaskProgressColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=output, disable=not output.is_terminal, expand=narrow)
        self._task = self._bar.add_task(title, total=last_step, completed=first_step)

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, step: int, record: Mapping[str, float]) -> None:
        """Shows the state after `step` (counted from 1); `record` is a full or a partial line of `metrics.jsonl`."""
        if not self._output.is_terminal and step < self._last and step - self._printed < self._last / LINES:
            return
        if "loss" not in record:
            return  # the first call of a run, whose numbers are not known yet
        self._printed = step
        if "validation_loss" in record:
            self._validation = f"  validation {record['validation_loss']:.4g}"
        text = (
            f"{self._title}  epoch {math.ceil(step / self._steps_per_epoch):,}/"
            f"{self._last // self._steps_per_epoch:,}  loss {record['loss']:.4g}{self._validation}  "
            f"KL {record['kl']:.3g} nats  {record[f'{self._unit}_per_second']:,.0f} {self._unit}/s"
        )
        if self._output.is_terminal:
            self._bar.update(self._task, completed=step, description=text)
        else:
            left = (time.monotonic() - self._started) / (step - self._first) * (self._last - step)
            self._output.print(f"{text}  {_clock(left)} left", soft_wrap=True)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class WorkProgress:
    """Shows how much is done, the rate and the time left; nothing if there was no work. A context manager."""

    def __init__(self, title: str, unit: str, output: Console):
        self._title, self._unit, self._output = title, unit, output
        self._started = self._said = time.monotonic()
        self._first: int | None = None
        self._printed = 0
        columns = [TextColumn("{task.description}"), BarColumn(None), TaskProgressColumn(), TimeRemainingColumn()]
        self._bar = Progress(*columns, console=output, disable=not output.is_terminal, transient=True)

    def __enter__(self) -> WorkProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int | None) -> None:
        """Shows how much is done; the total may be unknown."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=total, completed=done)
        rate = (done - self._first) / max(now - self._started, 1e-9)
        of_total = "" if total is None else f"/{total:,}"
        text = f"{self._title}  {done:,}{of_total}  {rate:,.0f} {self._unit}/s"
        if self._output.is_terminal:
            self._bar.update(self._task, completed=done, total=total, description=text)
        elif total is None:
            if now - self._said >= SECONDS:
                self._said = now
                self._output.print(text, soft_wrap=True)
        elif done == total or done - self._printed >= total / LINES:
            self._printed = done
            left = _clock((total - done) / rate) if rate else "?"
            self._output.print(f"{text}  {left} left", soft_wrap=True)
