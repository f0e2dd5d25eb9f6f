"""What both experiments' commands do alike: from a command line to a config, its inputs and an open run folder."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax
from rich.console import Console
from rich.panel import Panel

from experiments import runs
from experiments.command_line import Interrupted, UsageError, parse

INPUTS = "checkpoints/inputs.json"
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "pandas", "scikit-learn")


def no_preset(config: Any) -> Any:
    """The defaults of a config type that has one set of them."""
    return type(config)()


@dataclass(frozen=True)
class Experiment:
    """What differs between the experiments when one is started.

    Attributes:
      name: of the command and of its folder under `runs/`.
      config_type: a frozen dataclass with the fields `run_dir` and `resume`.
      check: raises UsageError for a config that can't be used.
      prepare: from config to inputs, checked.
      describe: from inputs to a JSON object: what a model needs besides its parameters, and what tells whether the
        data are still the same.
      preset: from a config to the defaults of the options that it does not name.
    """

    name: str
    config_type: type
    check: Callable[[Any], None]
    prepare: Callable[[Any], Any]
    describe: Callable[[Any], dict]
    preset: Callable[[Any], Any] = no_preset

    @property
    def command(self) -> str:
        """The command as a user types it."""
        return f"bash run.sh {self.name}"

    def start(self, arguments: Sequence[str]) -> tuple[Any, Any, runs.Run]:
        """Reads the command line and the data, and makes the run folder, or opens the one to continue."""
        arguments = _fill_in_resume(arguments)
        config = parse(self.config_type, self.command, arguments)
        config = parse(self.config_type, self.command, arguments, default=self.preset(config))
        if config.resume is None:
            self.check(config)
            inputs = self.prepare(config)
            opened = runs.create(self.name, config.run_dir, config)
            opened.write_json(INPUTS, self.describe(inputs))
            return config, inputs, opened
        opened = runs.reopen(self.name, config.resume)
        saved = runs.read_config(opened, self.config_type)
        asked = parse(self.config_type, self.command, arguments, default=saved)
        for field in dataclasses.fields(self.config_type):
            if field.name != "resume" and getattr(asked, field.name) != getattr(saved, field.name):
                raise UsageError(
                    f"--{field.name.replace('_', '-')} {getattr(asked, field.name)}: the run was started with "
                    f"{getattr(saved, field.name)}; start a new run to change it"
                )
        self.check(saved)
        inputs = self.prepare(saved)
        if opened.read_json(INPUTS) != self.describe(inputs):
            raise UsageError(f"{saved.data}: not the data that the run in {opened.folder} was started with")
        return saved, inputs, opened

    @contextmanager
    def resumable(self, opened: runs.Run) -> Iterator[None]:
        """Says how to continue where a signal ends the block."""
        try:
            yield
        except Interrupted:
            print(f"stopped; continue with: {self.command} --resume {opened.folder}", file=sys.stderr)
            raise

    def command_line(self, config: Any) -> str:
        """The command that repeats a run: the options that differ from the defaults."""
        words = [self.command]
        defaults = self.preset(config)
        for field in dataclasses.fields(self.config_type):
            value = getattr(config, field.name)
            unnamed = value == getattr(defaults, field.name) and field.name != "preset"
            if unnamed or field.name in ("run_dir", "resume"):
                continue
            words.append(f"--{field.name.replace('_', '-')}")
            if not isinstance(value, bool):
                words.extend(shlex.quote(str(v)) for v in (value if isinstance(value, tuple) else (value,)))
        return " ".join(words)


def announce(output: Console, lines: Sequence[str], opened: runs.Run, notices: Sequence[str]) -> None:
    """Says which data, device and folder a run uses, and what is odd about them."""
    devices = jax.devices()
    for title, line in zip(["data", *[""] * len(lines)], lines, strict=False):
        output.print(f"{title:8}{line}", soft_wrap=True)
    output.print(f"device  {len(devices)} x {devices[0].device_kind}")
    output.print(f"run     {opened.folder}", soft_wrap=True)
    for notice in notices:
        output.print(Panel(notice, title="NOTICE", style="bold yellow"))


def describe_machine() -> dict:
    """Versions and devices, for whoever compares numbers."""
    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "devices": [device.device_kind for device in devices],
        "packages": {name: version(name) for name in PACKAGES},
    }


def _fill_in_resume(arguments: Sequence[str]) -> list[str]:
    """Lets `--resume` stand without a value for the latest run."""
    filled = []
    for word, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        filled.append(word)
        if word == "--resume" and following.startswith("--"):
            filled.append(runs.LATEST)
    return filled
