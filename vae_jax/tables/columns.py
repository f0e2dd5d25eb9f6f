"""A column of a table as it was in the training rows: how its cells are read, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vae_jax.data.errors import CellError
from vae_jax.tables import text_dates
from vae_jax.tables.cells import cells_of
from vae_jax.tables.kinds import NUMBERS, Found, Kind, date_words
from vae_jax.tables.parts import GAP, TYPICAL, Part, as_level, encoded, gap_part, learn, part_of
from vae_jax.tables.text_numbers import NumberFormat, to_numbers

Missing = Literal["ignore", "informative"]


@dataclass(frozen=True)
class Column:
    """A column of the table, as it was in the training rows.

    Attributes:
      name: as in the table.
      kind: see `kinds.Kind`.
      reason: why it is of this kind.
      gaps: share of the cells that were missing.
      unit: of numbers with a currency or percent sign.
      date_format: of dates given as text.
      numeric: whether its levels are numbers.
      parts: what a model sees of it; none if it is left out.
    """

    name: str
    kind: Kind
    reason: str
    gaps: float = 0.0
    unit: str = ""
    date_format: str = ""
    numeric: bool = False
    parts: tuple[Part, ...] = ()

    @property
    def reads_numbers(self) -> bool:
        """Whether its cells, or its levels, are numbers."""
        return self.numeric or self.kind in NUMBERS


def column_of(name: str, found: Found, missing: Missing) -> Column:
    """Makes a column of what was found in the training rows."""
    import pandas as pd

    gap = pd.isna(found.values)
    parts = learn(found)
    gaps = float(gap.mean()) if len(gap) else 0.0
    if parts and gaps and missing == "informative":
        parts.append(gap_part(gap))
    return Column(name, found.kind, found.reason, gaps, found.unit, found.date_format, found.numeric, tuple(parts))


def values_of(
    column: Column, cells: np.ndarray, number_format: NumberFormat, wrong: dict[int, CellError] | None = None
) -> np.ndarray:
    """Reads cells as a column's kind: numbers, dates or text; those that can't be are for `_checked`."""
    nothing = np.full(len(cells), np.nan)
    if column.kind == "date":
        if cells.dtype == object:
            dates, bad = text_dates.to_dates(cells, column.date_format or "%Y-%m-%d")
        elif cells.dtype.kind == "M":
            dates, bad = cells, np.zeros(len(cells), bool)
        else:
            dates, bad = nothing.astype("datetime64[us]"), ~np.isnan(cells)
        return _checked(column, dates, bad, cells, "a date", wrong)
    if cells.dtype.kind == "M":
        if column.date_format:  # of a category
            return date_words(cells)
        values = nothing if column.reads_numbers else np.full(len(cells), None)
        expected = "a number" if column.reads_numbers else "a word"
        return _checked(column, values, ~np.isnat(cells), cells, expected, wrong)
    if column.reads_numbers:
        numbers, bad = to_numbers(cells, number_format)
        if column.kind in NUMBERS:
            return _checked(column, numbers, bad, cells, "a number", wrong)
        return np.where(bad, np.inf, numbers)  # a word where the levels are numbers is a level that was not seen
    if cells.dtype == np.float64:
        return np.array([None if np.isnan(cell) else as_level(cell) for cell in cells], object)
    return cells


def _checked(
    column: Column,
    values: np.ndarray,
    bad: np.ndarray,
    cells: np.ndarray,
    expected: str,
    wrong: dict[int, CellError] | None,
) -> np.ndarray:
    """Raises CellError for the first bad cell, or puts that of each row into `wrong`."""
    for row in np.flatnonzero(bad).tolist():
        error = CellError(row, column.name, f"{str(cells[row])[:40]!r} is not {expected}, as in the training rows")
        if wrong is None:
            raise error
        wrong.setdefault(row, error)
    return values


def remark(column: Column, cell: Any, number_format: NumberFormat, limit: float) -> str:
    """Says what is known of a cell: its level's share of the training rows, or what is typical; "" for a gap."""
    import pandas as pd

    cells = cells_of(pd.Series([cell], dtype=object), finite=False)
    if pd.isna(cells[0]):
        return ""
    part = column.parts[0]
    if column.kind in NUMBERS:
        low, high = part.typical
        found = f"{low:.6g} to {high:.6g}" if low < high else f"{low:.6g}"
        return f"{_percent(TYPICAL[1] - TYPICAL[0])} of training rows have {found}"
    values = values_of(column, cells, number_format)
    if part.likelihood in ("bernoulli", "categorical") and not part.what:
        code = int(encoded(part, values, column.numeric, limit)[0])
        if code >= len(part.levels) and not part.pooled:
            return "not seen in training"
        among = "of training rows" if code < len(part.levels) else "of training rows have such a rare or unseen value"
        return f"{_percent(part.shares[code])} {among}"
    return ", ".join(_date_remark(part, values, limit) for part in column.parts if part.what != GAP)


def made_of(column: Column) -> str:
    """What a model sees of a column, in words."""
    if not column.parts:
        return "left out"
    parts = [part for part in column.parts if part.what != GAP]
    if column.kind == "date":
        words = ", ".join(part.what for part in parts)
    elif parts[0].likelihood == "bernoulli":
        words = f"{' or '.join(reversed(parts[0].levels))}, Bernoulli"
    elif parts[0].likelihood == "categorical":
        words = f"{len(parts[0].levels)} levels and the rare, categorical"
    elif parts[0].likelihood == "count":
        words = "logistic in bins" + (" of the logarithm" if parts[0].log else "")
    else:
        words = "Gaussian" + (" of the logarithm" if parts[0].log else "")
    unit = f" in {column.unit}" if column.unit else ""
    gaps = f"; {_percent(column.gaps)} missing" if column.gaps else ""
    return words + unit + gaps + (", which is modelled" if len(parts) < len(column.parts) else "")


def _date_remark(part: Part, values: np.ndarray, limit: float) -> str:
    value = part_of(part.what, values)
    if part.what == "elapsed":
        first, last = (np.datetime64(0, "us") + np.timedelta64(round(day * 86400), "s") for day in part.typical)
        return f"training rows from {str(first)[:10]} to {str(last)[:10]}"
    code = int(encoded(part, value, True, limit)[0])
    return f"{part.what} {value[0]:g}: {_percent(part.shares[code])} of training rows"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
