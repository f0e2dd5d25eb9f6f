"""A table of the user's own: any file, any columns, with or without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vae_jax.data.errors import CellError, DataError
from vae_jax.tables import kinds
from vae_jax.tables.cells import as_texts, typed_cells_of
from vae_jax.tables.csv_file import LARGEST_CELL, Places, place_of
from vae_jax.tables.labels import to_labels
from vae_jax.tables.text_numbers import NumberFormat, recognise, to_numbers, unit_of

if TYPE_CHECKING:
    import pandas as pd

    from vae_jax.tables.kinds import Kind


OPTIONS = {"real": "number"}  # what a kind is called on a command line, if not by its name


@dataclass(frozen=True)
class Reading:
    """How to read a file, as far as it does not tell by itself.

    Attributes:
      label: the label column; None for no labels.
      anomaly: the label of anomalies; None recognises 1, true, yes, fraud and the like.
      drop: columns to leave out.
      columns: kinds of columns, by name, that should not be inferred.
      encoding: of a text that is neither UTF-8 nor UTF-16 with a byte order mark.
      decimal, thousands: the signs in numbers; None recognises them from all cells.
    """

    label: str | None = None
    anomaly: str | None = None
    drop: tuple[str, ...] = ()
    columns: Mapping[str, Kind] = field(default_factory=dict)
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None


class OwnTable(NamedTuple):
    """What a file holds.

    Attributes:
      features: float64 of shape (N, D) if they are finite numbers alone, else a frame of the cells as they are.
      labels: int64, 1 = anomaly; all 0 for a table without labels.
      names: of the D features.
      number_format: how numbers in text are written.
      notices: sentences that the user should see.
    """

    features: np.ndarray | pd.DataFrame
    labels: np.ndarray
    names: tuple[str, ...]
    number_format: NumberFormat
    notices: tuple[str, ...]


def from_frame(path: Path, frame: pd.DataFrame, reading: Reading, places: Places | None = None) -> OwnTable:
    """Divides a table into features and labels.

    Args:
      path: of its file, for messages.
      frame: the table, see `files.read_frame`.
      reading: how to read it.
      places: where its rows are, for messages; by default each line is a row.

    Returns:
      The table. From numbers alone, columns that only tell rows apart are left out, with a notice.

    Raises:
      DataError: if there is no such column, a label is none, an anomaly is named without a label column, or a number is
        infinite; names the file, and the row or the option.
    """
    asked = {reading.label: "label", **{name: OPTIONS.get(kind, kind) for name, kind in reading.columns.items()}}
    for name, option in asked.items():
        if name is not None and name not in frame.columns:
            there = ", ".join(map(str, frame.columns[:40]))
            raise DataError(f"{path}: --{option} {name}: no such column; there are {there}")
    if reading.label is None:
        if reading.anomaly is not None:
            raise DataError(f"--anomaly {reading.anomaly}: needs --label COLUMN")
        labels = np.zeros(len(frame), np.int64)
    else:
        labels = to_labels(path, reading.label, frame[reading.label].to_numpy(), reading.anomaly, places)
        frame = frame.drop(columns=reading.label)
    if not frame.shape[1]:
        raise DataError(f"{path}: no column is left to be a feature")
    try:
        cells = {str(name): typed_cells_of(frame[name]) for name in frame.columns}
    except CellError as error:
        raise DataError(f"{path}: {place_of(error.row, error.column, places)}: {error.wrong}") from None
    texts = {name: of for name, of in cells.items() if of.dtype == object}
    number_format = recognise(texts, reading.decimal, reading.thousands)
    columns = None if reading.columns else _numbers_alone(cells, number_format)
    if columns is None:
        return OwnTable(frame, labels, tuple(cells), number_format, ())
    numbers, notices = without_ids(columns, [name for name, of in texts.items() if unit_of(of)])
    return OwnTable(np.column_stack(list(numbers.values())), labels, tuple(numbers), number_format, notices)


def without_ids(
    columns: Mapping[str, np.ndarray], amounts: Sequence[str] = ()
) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    """Leaves out columns that only tell rows apart, with a notice; `amounts` have a unit, so they tell more."""
    found = {name: kinds.infer(name, values, NumberFormat()) for name, values in columns.items()}
    kept = {name: values for name, values in columns.items() if name in amounts or found[name].kind != "id"}
    if len(kept) in (0, len(columns)):
        return columns, ()
    ids = ", ".join(f"{name} (id: {found[name].reason})" for name in columns if name not in kept)
    return kept, (f"Left out: {ids}.",)


def _numbers_alone(cells: Mapping[str, np.ndarray], number_format: NumberFormat) -> dict[str, np.ndarray] | None:
    """The columns as finite numbers; None if any cell is something else, or missing, or names rather than counts."""
    found = {}
    for name, of in cells.items():
        if of.dtype.kind == "M":
            return None
        if of.dtype == object:
            numbers, bad = to_numbers(of, number_format)
            if bad.any() or kinds.are_names(as_texts(of)):
                return None
        else:
            numbers = of
        if not (np.abs(numbers) <= LARGEST_CELL).all():  # False also for NaN
            return None
        found[name] = numbers
    return found
