"""What the experiments' commands share: from a command line to a config, its inputs and an open run folder."""

from __future__ import annotations

import dataclasses
import json
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

from experiments import PROGRAM
from experiments.command_line import Interrupted, UsageError, as_option, as_typed, parse
from experiments.runs import loggers, processes, run_folder, stopping
from experiments.startup import use_cores
from vae_jax.data.errors import one_line
from vae_jax.version import __version__

INPUTS = "checkpoints/inputs.json"
FREE = ("data", "cache", "logger")  # options whose value may change when a run is continued
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "pandas", "scikit-learn")


@dataclass(frozen=True)
class Experiment:
    """What differs between the experiments at the start of a run.

    Attributes:
      name: of the command, and of its folder under `runs/`.
      config_type: a frozen dataclass with the fields `run_dir`, `resume`, `logger` and those in `processes.OPTIONS`.
      check: raises UsageError for an invalid config.
      prepare: config -> checked inputs.
      describe: inputs -> JSON object that identifies the data and holds what a model needs besides its parameters.
      divided: config -> number of things to divide among the CPU cores, see `use_cores`.
      preset: config -> the defaults of the options that it does not name; by default its type's.
      settle: config -> one whose options that depend on the machine are decided; it is saved with the run.
      recognise: (inputs, description) -> whether a description, perhaps by an earlier version, is of the same data; by
        default, whether it is that of these inputs.
    """

    name: str
    config_type: type
    check: Callable[[Any], None]
    prepare: Callable[[Any], Any]
    describe: Callable[[Any], dict]
    divided: Callable[[Any], int | None]
    preset: Callable[[Any], Any] = lambda config: type(config)()
    settle: Callable[[Any], Any] = lambda config: config
    recognise: Callable[[Any, Any], bool] | None = None

    @property
    def command(self) -> str:
        """The command as a user types it."""
        return f"{PROGRAM} {self.name}"

    def start(self, arguments: Sequence[str]) -> tuple[Any, Any, run_folder.Run]:
        """Reads the command line and the data, and creates the run folder or reopens the one to continue.

        If there are other processes, this one joins them.
        """
        arguments = _fill_in_resume(arguments)
        config = parse(self.config_type, self.command, arguments)
        config = parse(self.config_type, self.command, arguments, default=self.preset(config))
        processes.connect(config.coordinator, config.num_processes, config.process_id)
        # How the processes find each other is not part of the run.
        config = dataclasses.replace(config, **dict.fromkeys(processes.OPTIONS))
        logger = loggers.find(config.logger)
        if config.resume is None:
            config, inputs, opened = self._begin(config)
        else:
            config, inputs, opened = self._continue(config.resume, arguments)
            logger = loggers.find(config.logger)
        if logger is not None and opened.writes:
            opened.callback = logger(dataclasses.asdict(config) | {"run": str(opened.folder)})
        return config, inputs, opened

    def _begin(self, config: Any) -> tuple[Any, Any, run_folder.Run]:
        """Starts a run; process 0 makes the folder once all processes have the same options and data."""

        def same_options(told: str) -> None:
            theirs = run_folder.as_config(self.config_type, json.loads(told))
            self._refuse_other_options(config, theirs, "process 0 has")

        use_cores(self.divided(config))
        config = self.settle(config)
        processes.by_main(lambda: self.check(config), lambda _: json.dumps(dataclasses.asdict(config)), same_options)
        inputs = self._inputs(config)

        def create() -> run_folder.Run:
            return run_folder.create(self.name, config.run_dir, config, {INPUTS: self.describe(inputs)})

        return config, inputs, processes.by_main(create, _place, run_folder.follow)

    def _continue(self, name: str, arguments: Sequence[str]) -> tuple[Any, Any, run_folder.Run]:
        """Reopens a run, with the options and data it was started with."""

        def read(opened: run_folder.Run) -> tuple[Any, Any]:
            saved = run_folder.read_config(opened, self.config_type)
            asked = parse(self.config_type, self.command, arguments, default=saved)
            free = {field: getattr(asked, field) for field in FREE if hasattr(asked, field)}
            return asked, dataclasses.replace(saved, **free)

        def reopen() -> run_folder.Run:
            opened = run_folder.reopen(self.name, name)
            with _closed_if_refused(opened):
                asked, saved = read(opened)
                self._refuse_other_options(asked, saved, "the run was started with", "start a new run to change it")
                use_cores(self.divided(saved))
                self.check(saved)
            return opened

        opened = processes.by_main(reopen, _place, run_folder.follow)
        with _closed_if_refused(opened):
            _, saved = read(opened)
            inputs = self._inputs(saved)
            if not self._is_same_data(inputs, opened.read_json(INPUTS)):
                raise UsageError(f"{saved.data}: not the data that the run in {opened.folder} was started with")
        return saved, inputs, opened

    def _inputs(self, config: Any) -> Any:
        """Reads the data; process 0 goes first, and downloads and prepares what the others then find."""

        def same_data(told: str) -> Any:
            inputs = self.prepare(config)
            if not self._is_same_data(inputs, json.loads(told)):
                raise UsageError(f"--data {config.data}: not the same data as in process 0")
            return inputs

        return processes.by_main(
            lambda: self.prepare(config), lambda inputs: json.dumps(self.describe(inputs)), same_data
        )

    def _is_same_data(self, inputs: Any, description: Any) -> bool:
        if self.recognise is not None:
            return self.recognise(inputs, description)
        return description == self.describe(inputs)

    def _refuse_other_options(self, asked: Any, wanted: Any, owner: str, advice: str = "") -> None:
        for field in dataclasses.fields(self.config_type):
            value, expected = getattr(asked, field.name), getattr(wanted, field.name)
            if field.name not in ("resume", *processes.OPTIONS) and value != expected:
                theirs = "the default" if expected is None else as_typed(expected)
                more = f"; {advice}" if advice else ""
                raise UsageError(f"{as_option(field.name)} {as_typed(value)}: {owner} {theirs}{more}")

    @contextmanager
    def resumable(self, opened: run_folder.Run) -> Iterator[None]:
        """Closes the run at the end of the block; prints how to continue if a signal ends it."""
        try:
            with stopping.immediate():
                yield
        except Interrupted:
            if processes.is_main():
                folder = shlex.quote(str(opened.folder))
                print(one_line(f"stopped; continue with: {self.command} --resume {folder}"), file=sys.stderr)
            raise
        finally:
            opened.close()

    def command_line(self, config: Any) -> str:
        """The command that repeats a run, with the options that differ from the defaults."""
        words = [self.command]
        defaults = self.preset(config)
        for field in dataclasses.fields(self.config_type):
            value = getattr(config, field.name)
            unnamed = value == getattr(defaults, field.name) and field.name != "preset"
            if unnamed or field.name in ("run_dir", "resume", *processes.OPTIONS):
                continue
            words.append(as_option(field.name))
            if not isinstance(value, bool):
                words.extend(shlex.quote(str(v)) for v in (value if isinstance(value, tuple) else (value,)))
        return " ".join(words)


def announce(output: Console, lines: Sequence[str], opened: run_folder.Run, notices: Sequence[str]) -> None:
    """Prints a run's data, device, folder and notices."""
    devices = jax.devices()
    for title, line in zip(["data", *[""] * len(lines)], lines, strict=False):
        output.print(f"{title:8}{line}", soft_wrap=True)
    among = f" in {jax.process_count()} processes" if processes.several() else ""
    output.print(f"device  {len(devices)} x {devices[0].device_kind}{among}")
    output.print(f"run     {opened.folder}", soft_wrap=True)
    for notice in notices:
        output.print(Panel(notice, title="NOTICE", style="bold yellow"))


def describe_machine() -> dict:
    """Versions and devices, for comparing figures."""
    devices = jax.devices()
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "devices": [device.device_kind for device in devices],
        "packages": {"vae_jax": __version__, **{name: version(name) for name in PACKAGES}},
    }


def _place(opened: run_folder.Run) -> str:
    return str(opened.folder.absolute())


def _fill_in_resume(arguments: Sequence[str]) -> list[str]:
    """Makes `--resume` without a value mean the latest run."""
    filled = []
    for word, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        filled.append(word)
        if word == "--resume" and following.startswith("--"):
            filled.append(run_folder.LATEST)
    return filled


@contextmanager
def _closed_if_refused(opened: run_folder.Run) -> Iterator[None]:
    try:
        yield
    except BaseException:
        opened.close()
        raise
