"""A run's folder: created once, never shared, found again by name."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, get_args, get_origin, get_type_hints

from experiments.command_line import RunError, UsageError
from vae_jax.data import strict_json
from vae_jax.version import __version__

ROOT = Path("runs")
LATEST = "latest"
CONFIG = "config.json"
FORMAT_FILE = "format.json"
# Version of everything in the folder. Raise it when older code could no longer read a folder; newer code must read all
# older versions. The first version had no such file, and is otherwise the same.
FORMAT = 1
CHECKSUM = "config_sha256"  # in the format file, but for those of earlier versions
LOCK = ".lock"
PARTIAL = ".partial"  # ends the name of a file that is being written
LINK = ".latest"  # `latest`, before it is moved to its place


class Run:
    """An open run folder. Only one run at a time can open it, and only one of the run's processes writes.

    Attributes:
      writes: whether this process writes.
      callback: called with each epoch's record.
    """

    def __init__(self, folder: Path, lock: IO[str] | None):
        self.folder = folder
        self.callback: Callable[[dict], object] = lambda record: None
        self.writes = lock is not None
        self._lock = lock

    def close(self) -> None:
        """Lets others open the folder, as the end of the process does; call it when all is written."""
        if self._lock is not None:
            self._lock.close()
        self._lock = None

    def check(self) -> None:
        """Raises RunError if the folder was removed: what is written later would make one that holds half a run."""
        if self._lock is not None and os.fstat(self._lock.fileno()).st_nlink == 0:
            raise RunError(f"{self.folder}: removed while the run was using it")

    def path(self, *parts: str) -> Path:
        """Returns the path of a file to write, and makes its parent folders."""
        self.check()
        path = self.folder.joinpath(*parts)
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, name: str, record: Any) -> None:
        """Writes a JSON file atomically."""
        self.write_text(name, _as_json(record))

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file atomically; does nothing in a process that does not write."""
        if not self.writes:
            return
        path = self.path(name)
        partial = path.with_name(path.name + PARTIAL)
        with disk_errors(self.folder):
            try:
                partial.write_text(text, encoding="utf-8")
                os.replace(partial, path)
            except OSError:
                partial.unlink(missing_ok=True)
                raise

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the run; raises UsageError if it is missing or damaged."""
        return _read_json(self.folder / name)


def create(experiment: str, run_dir: str | None, config: Any, records: Mapping[str, Any] = MappingProxyType({})) -> Run:
    """Creates a run folder with the config in it; raises UsageError if it can't be written or is not empty.

    The default for `run_dir` is `runs/<experiment>/<time>`, to which `runs/<experiment>/latest` then points. `records`
    are further JSON files. The config is the last file, so a folder with a config is a run that can be continued.
    """
    record = dataclasses.asdict(config)
    checksum = hashlib.sha256(_as_json(record).encode()).hexdigest()
    made_by = {"format": FORMAT, "vae_jax": __version__, CHECKSUM: checksum}
    records = {FORMAT_FILE: made_by, **records, CONFIG: record}
    with disk_errors(Path(run_dir or ROOT / experiment), UsageError):
        folder = new_folder(ROOT / experiment) if run_dir is None else _empty_folder(Path(run_dir), records)
        run = _open(folder)
        for name, record in records.items():
            run.write_json(name, record)
        if run_dir is None:
            _point_latest(folder)
    return run


def reopen(experiment: str, name: str) -> Run:
    """Opens an existing run to go on with it; raises UsageError if there is none, or if another process has it open.

    `name` is `latest`, the name of a folder in `runs/<experiment>`, or a path.
    """
    folder = _find(experiment, name, "--resume")
    with disk_errors(folder, UsageError):
        run = _open(folder.resolve())
        (run.folder / LINK).unlink(missing_ok=True)  # left by a process that was killed
        return run


def open_to_read(experiment: str, name: str, option: str) -> Run:
    """Opens an existing run for reading, also one that another user owns or another process has open.

    `name` is as for `reopen`; `option` is named in the error.
    """
    return Run(_find(experiment, name, option).resolve(), None)


def _find(experiment: str, name: str, option: str) -> Path:
    candidates = dict.fromkeys([ROOT / experiment / name, Path(name)])
    folder = next((folder for folder in candidates if _holds_run(folder)), None)
    if folder is None:
        raise UsageError(f"{option} {name}: no run at {' or '.join(str(folder) for folder in candidates)}")
    return folder


def follow(folder: str) -> Run:
    """Opens another process's run for reading; raises UsageError if its folder, an absolute path, is not there."""
    if not _holds_run(Path(folder)):
        raise UsageError(f"{folder}: not on this machine; --run-dir must be on a disk that all processes share")
    return Run(Path(folder), None)


def read_config(run: Run, config_type: type) -> Any:
    """Reads a run's config; refuses a newer format, an altered config and unknown fields.

    Fields that are newer than the run have their defaults.
    """
    checksum = _check_format(run) if (run.folder / FORMAT_FILE).exists() else None
    record = run.read_json(CONFIG)
    if checksum not in (None, hashlib.sha256((run.folder / CONFIG).read_bytes()).hexdigest()):
        raise UsageError(f"{run.folder / CONFIG}: damaged (not as the run wrote it, by its checksum)")
    if not isinstance(record, dict):
        raise UsageError(f"{run.folder / CONFIG}: damaged (not a JSON object)")
    names = {field.name for field in dataclasses.fields(config_type)}
    if unknown := sorted(record.keys() - names):
        raise UsageError(f"{run.folder / CONFIG}: made by another command or version; it has {', '.join(unknown)}")
    config, kinds = as_config(config_type, record), get_type_hints(config_type)
    for name in record:
        if not _is_a(getattr(config, name), kinds[name]):
            raise UsageError(f"{run.folder / CONFIG}: damaged ({name} is {record[name]!r})")
    return config


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of an option's type: a plain one, a literal, a union of them or a tuple."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(item, parts[0]) for item in value)
    if parts:
        return any(_is_a(value, part) for part in parts)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _check_format(run: Run) -> Any:
    """Refuses a newer format; returns the config's checksum, or None if an earlier version left none."""
    record = run.read_json(FORMAT_FILE)
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise UsageError(f"{run.folder / FORMAT_FILE}: damaged (no format in it)")
    if record["format"] > FORMAT:
        newer = record.get("vae_jax", "a newer version")
        raise UsageError(
            f"{run.folder}: written by vae_jax {newer} in format {record['format']}; this one reads up to {FORMAT}"
        )
    return record.get(CHECKSUM)


def as_config(config_type: type, record: dict) -> Any:
    """Makes a config from its JSON form, which has no tuples."""
    return config_type(**{name: tuple(v) if isinstance(v, list) else v for name, v in record.items()})


@contextmanager
def disk_errors(folder: Path, error_type: type[Exception] = RunError) -> Iterator[None]:
    """Turns a full disk, missing permissions and the like into one line that names the folder."""
    try:
        yield
    except BrokenPipeError:  # not the disk: the reader has closed the pipe
        raise
    except OSError as error:
        raise error_type(f"can't write in {folder}: {error.strerror or error}") from error


def new_folder(parent: Path, ending: str = "") -> Path:
    """Makes `<parent>/<time><ending>`; mkdir decides between processes that ask in the same second."""
    parent.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S") + ending
    for suffix in ["", *(f"_{i}" for i in range(2, 1000))]:
        folder = parent / f"{stamp}{suffix}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"a thousand runs began in {parent} within one second")


def _empty_folder(folder: Path, files: Iterable[str]) -> Path:
    """Makes a folder, or takes one that is empty or holds only the first `files` of a run that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = {LOCK, *(f"{name}{end}" for name in files for end in ("", PARTIAL))} - {CONFIG}
    begun |= {str(parent) for name in begun for parent in Path(name).parents}
    if any(str(path.relative_to(folder)) not in begun for path in folder.rglob("*")):
        resume = f"--resume {shlex.quote(str(folder))}"
        raise UsageError(f"--run-dir {folder}: not empty; continue that run with {resume}, or name another")
    return folder


def _holds_run(folder: Path) -> bool:
    try:
        return (folder / CONFIG).is_file()
    except OSError:  # e.g. the name is too long
        return False


def _open(folder: Path) -> Run:
    lock = open(folder / LOCK, "w")  # noqa: SIM115 (held until the process ends)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(f"{folder}: another process is using this run") from None
    return Run(folder, lock)


def _point_latest(folder: Path) -> None:
    link = folder / LINK
    link.symlink_to(folder.name)
    os.replace(link, folder.parent / LATEST)  # atomic, unlike unlink and symlink


def _as_json(record: Any) -> str:
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def _read_json(path: Path) -> Any:
    try:
        return strict_json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({error})") from None
