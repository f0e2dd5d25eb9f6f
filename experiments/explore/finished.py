"""Which runs there are to explore."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import PROGRAM
from experiments.celeba.face_model import ATTRIBUTE_NAMES
from experiments.command_line import UsageError
from experiments.runs.progress import console
from experiments.runs.run_folder import CONFIG, LATEST, ROOT, Run

KINDS = ("celeba", "fraud")  # experiments whose runs can be explored
METRICS = "metrics.json"
# What the list and the pages show of it.
SHOWN = {
    "celeba": ("data.train", "evaluation.rmse", "config.latent_dim", "notices"),
    "fraud": ("data.test", "data.test_frauds", "recipes", "notices"),
}


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
      run: its folder, open for reading alone, so that other commands can use it meanwhile.
      metrics: its `metrics.json`.
      address: the path of its page.
    """

    run: Run
    metrics: dict
    address: str

    @property
    def kind(self) -> str:
        """The experiment, one of `KINDS`."""
        return self.metrics["experiment"]


def find(names: Sequence[str]) -> list[Finished]:
    """Returns the named runs, or all finished ones in `runs/` that are whole; raises UsageError if there are none."""
    if names:
        folders = dict.fromkeys(folder for name in names for folder in named(name))
        metrics = {folder: check(folder) for folder in folders}
    else:
        metrics = dict(whole(all_finished()))
    if not metrics:
        raise UsageError(f"no finished run in {ROOT}/celeba or {ROOT}/fraud; make one: {PROGRAM} fraud --epochs 60")
    addresses = iter(unique(f"{of['experiment']}/{folder.name}" for folder, of in metrics.items()))
    return [Finished(Run(folder, None), of, next(addresses)) for folder, of in metrics.items()]


def named(name: str) -> list[Path]:
    """The folders of a run's name: a path, a name in `runs/<kind>`, or latest, which each kind may have."""
    candidates = [Path(name), *(ROOT / kind / name for kind in KINDS)]
    found = [folder.resolve() for folder in candidates if (folder / CONFIG).is_file()]
    if not found:
        raise UsageError(f"{name}: no run at {' or '.join(dict.fromkeys(map(str, candidates)))}")
    return found


def check(folder: Path) -> dict:
    """Returns a run's metrics; raises UsageError if it is unfinished, damaged or of another experiment."""
    if not (folder / METRICS).is_file():
        raise UsageError(f"{folder}: this run is not finished; continue it with --resume")
    metrics = Run(folder, None).read_json(METRICS)
    experiment = metrics.get("experiment") if isinstance(metrics, dict) else None
    if experiment not in KINDS:
        raise UsageError(f"{folder}: a run of {experiment}; expected one of {' or '.join(KINDS)}")
    if missing := [name for name in SHOWN[experiment] if not has(metrics, name.split("."))]:
        raise UsageError(f"{folder / METRICS}: has no {', '.join(missing)}")
    if experiment == "celeba":
        Run(folder, None).read_json(ATTRIBUTE_NAMES)  # what its page has sliders for
    return metrics


def has(record: Any, names: Sequence[str]) -> bool:
    """Whether there is an entry at these names, each within the one before."""
    return not names or (isinstance(record, dict) and names[0] in record and has(record[names[0]], names[1:]))


def whole(folders: Iterable[Path]) -> Iterator[tuple[Path, dict]]:
    """Yields runs and their metrics; those that can't be shown are left out with a line."""
    for folder in folders:
        try:
            yield folder, check(folder)
        except UsageError as error:
            console().print(f"left out: {error}", soft_wrap=True)


def all_finished() -> Iterator[Path]:
    """Yields the finished runs in `runs/`, newest first."""
    for kind in KINDS:
        for folder in sorted((ROOT / kind).glob("*"), reverse=True):
            if folder.name != LATEST and (folder / METRICS).is_file():
                yield folder.resolve()


def unique(names: Iterable[str]) -> list[str]:
    """Addresses of names, each different and of plain characters."""
    found: list[str] = []
    for name in names:
        plain = address = re.sub(r"[^A-Za-z0-9._/-]", "_", name)
        number = 1
        while address in found:
            number += 1
            address = f"{plain}-{number}"
        found.append(address)
    return found
