"""A run's folder: made once, never shared, and found again by name."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from experiments.command_line import RunError, UsageError
from vae_jax.version import __version__

ROOT = Path("runs")
LATEST = "latest"
CONFIG = "config.json"
FORMAT_FILE = "format.json"
# Of the folder and all in it. It goes up when older code could no longer read a folder; code goes on reading all older
# ones. The first had no such file, and is the same otherwise.
FORMAT = 1
LOCK = ".lock"


class Run:
    """An open run folder. While a run has it open, no other can; of a run's processes, only one writes.

    Attributes:
      folder: where it is.
      writes: whether this process writes.
      callback: what else the record of each epoch goes to.
    """

    def __init__(self, folder: Path, lock: IO[str] | None):
        self.folder = folder
        self.callback: Callable[[dict], object] = lambda record: None
        self.writes = lock is not None
        self._lock = lock

    def path(self, *parts: str) -> Path:
        """Returns the path of something to write, making the folders on the way."""
        path = self.folder.joinpath(*parts)
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, name: str, record: Any) -> None:
        """Writes a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(record, indent=2, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file, whole or not at all; does nothing if others write."""
        if not self.writes:
            return
        path = self.path(name)
        partial = path.with_name(path.name + ".partial")
        with disk_errors(self.folder):
            try:
                partial.write_text(text, encoding="utf-8")
                os.replace(partial, path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the run; a missing or damaged one is refused in one line."""
        return _read_json(self.folder / name)


def create(experiment: str, run_dir: str | None, config: Any) -> Run:
    """Makes a new run folder and writes the config into it.

    Args:
      experiment: e.g. "fraud".
      run_dir: where; by default `runs/<experiment>/<time>`, to which `runs/<experiment>/latest` then points.
      config: a dataclass.

    Returns:
      The open run.

    Raises:
      UsageError: if the folder can't be written, or holds something already.
    """
    with disk_errors(Path(run_dir or ROOT / experiment), UsageError):
        folder = _new_folder(ROOT / experiment) if run_dir is None else _empty_folder(Path(run_dir))
        run = _open(folder)
        run.write_json(FORMAT_FILE, {"format": FORMAT, "vae_jax": __version__})
        run.write_json(CONFIG, dataclasses.asdict(config))
        if run_dir is None:
            _point_latest(folder)
    return run


def reopen(experiment: str, name: str, option: str = "--resume") -> Run:
    """Opens an existing run.

    Args:
      experiment: e.g. "fraud".
      name: `latest`, the name of a folder in `runs/<experiment>`, or a path.
      option: that names it, for the error.

    Returns:
      The open run.

    Raises:
      UsageError: if there is no such run, or another process has it open.
    """
    candidates = dict.fromkeys([ROOT / experiment / name, Path(name)])
    folder = next((folder for folder in candidates if _holds_run(folder)), None)
    if folder is None:
        raise UsageError(f"{option} {name}: no run at {' or '.join(str(folder) for folder in candidates)}")
    with disk_errors(folder, UsageError):
        return _open(folder.resolve())


def follow(folder: str) -> Run:
    """Opens, only to read, the run that another process has made or opened.

    Args:
      folder: its absolute path.

    Returns:
      The run.

    Raises:
      UsageError: if it is not to be seen from here.
    """
    if not _holds_run(Path(folder)):
        raise UsageError(f"{folder}: not on this machine; --run-dir must be on a disk that all processes share")
    return Run(Path(folder), None)


def read_config(run: Run, config_type: type) -> Any:
    """Reads the config of a run back into its dataclass; refuses a newer format, and other fields by their names."""
    if (run.folder / FORMAT_FILE).exists():
        _check_format(run)
    record = run.read_json(CONFIG)
    if not isinstance(record, dict):
        raise UsageError(f"{run.folder / CONFIG}: damaged (not a JSON object)")
    names = {field.name for field in dataclasses.fields(config_type)}
    if different := sorted(names ^ record.keys()):
        raise UsageError(f"{run.folder / CONFIG}: made by another version; differs in {', '.join(different)}")
    return as_config(config_type, record)


def _check_format(run: Run) -> None:
    record = run.read_json(FORMAT_FILE)
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise UsageError(f"{run.folder / FORMAT_FILE}: damaged (no format in it)")
    if record["format"] > FORMAT:
        newer = record.get("vae_jax", "a newer version")
        raise UsageError(
            f"{run.folder}: written by vae_jax {newer} in format {record['format']}; this one reads up to {FORMAT}"
        )


def as_config(config_type: type, record: dict) -> Any:
    """Makes a config of what its fields are in JSON, which has no tuples."""
    return config_type(**{name: tuple(v) if isinstance(v, list) else v for name, v in record.items()})


@contextmanager
def disk_errors(folder: Path, error_type: type[Exception] = RunError) -> Iterator[None]:
    """Turns a full disk, missing rights and the like into one line that names the folder."""
    try:
        yield
    except BrokenPipeError:  # no fault of the disk: a reader that has left
        raise
    except OSError as error:
        raise error_type(f"can't write in {folder}: {error.strerror or error}") from error


def _new_folder(parent: Path) -> Path:
    """Makes `<parent>/<time>`; mkdir itself decides between two runs that start in the same second."""
    parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ["", *(f"_{i}" for i in range(2, 1000))]:
        folder = parent / f"{stamp}{suffix}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"a thousand runs began in {parent} within one second")


def _empty_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"--run-dir {folder}: not empty; continue that run with --resume {folder}, or name another")
    return folder


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / CONFIG).is_file()
    except OSError:  # a name that is too long, for example
        return False


def _open(folder: Path) -> Run:
    lock = open(folder / LOCK, "w")  # noqa: SIM115 (held until the process ends)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{folder}: another process is using this run") from None
    return Run(folder, lock)


def _point_latest(folder: Path) -> None:
    link = folder.parent / f".{folder.name}.link"
    link.symlink_to(folder.name)
    os.replace(link, folder.parent / LATEST)  # atomic, where unlink and symlink would leave a gap


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({error})") from None
