"""The kind of a column, inferred from its cells in the training rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from vae_jax.data.errors import CellError, DataError
from vae_jax.tables import text_dates
from vae_jax.tables.cells import as_texts
from vae_jax.tables.text_numbers import NumberFormat, to_numbers, unit_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["real", "positive", "count", "yes-no", "category", "date", "constant", "id", "empty", "dropped"]
NUMBERS: tuple[Kind, ...] = ("real", "positive", "count")
KINDS: tuple[Kind, ...] = (*NUMBERS, "yes-no", "category", "date", "constant", "id", "dropped")

FEW = 20  # whole numbers of at most so many values are names rather than amounts
ROWS_PER_VALUE = 10  # and of so many rows for each value
LARGEST_COUNT = 10_000  # above, whether a number is whole matters little
SKEWED = 2.0  # skewness from which on a column of numbers above 0 is seen by its logarithm
FEW_WORDS = 0.05  # share of words among many different numbers, below which they are taken for mistakes
MOSTLY = 0.5  # share of different cells above which words are ids
# Share of a range that different whole numbers fill if they count rows; training rows are only some of all.
DENSE, DENSE_IF_FEW, MANY = 0.5, 0.8, 100
FEWEST_DIFFERENT = 20  # rows; in fewer, that all cells differ says nothing
LONG_NUMBER = 10  # digits of a whole number that is a name
# A word of its own, or after a small letter with a capital one: not "paid" or "casino".
ID_NAME = re.compile(
    r"(?i:(^|[\W_])(id|ids|no|nr|num|number|key|uuid|guid|hash|index|ref)$)|[a-z](Id|ID|No|Nr|Number|Key)$"
)


class Found(NamedTuple):
    """What a column is.

    Attributes:
      kind: see `Kind`.
      reason: why, in a few words.
      values: the cells as numbers, dates or text, as the kind needs them.
      numeric: whether the levels of a category are numbers.
      unit: of numbers with a currency or percent sign.
      date_format: of dates given as text.
    """

    kind: Kind
    reason: str
    values: np.ndarray
    numeric: bool = False
    unit: str = ""
    date_format: str = ""


def infer(name: str, cells: np.ndarray, number_format: NumberFormat) -> Found:
    """Infers a column's kind.

    Args:
      name: of the column; only whether it is called like an id matters.
      cells: as `cells.typed_cells_of` gives them.
      number_format: how numbers in text are written.

    Returns:
      The kind and the cells read as such. A column without any cell is `empty`.

    Raises:
      CellError: for a word in a column of numbers: where all cells but a few are numbers, and these of many values.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.kinds import infer
      >>> from vae_jax.tables.text_numbers import NumberFormat
      >>> infer("city", np.array(["Rome", "Oslo", "Lima", None] * 20, dtype=object), NumberFormat())[:2]
      ('category', '3 different words')
    """
    if cells.dtype.kind == "M":
        return Found("date", "dates", cells) if not np.isnat(cells).all() else _empty(cells)
    if cells.dtype != object:
        return _numbers(name, cells) if not np.isnan(cells).all() else _empty(cells)
    given = _given(cells)
    if not given.any():
        return _empty(cells)
    numbers, bad = to_numbers(cells, number_format)
    few_bad = 0 < bad.sum() < FEW_WORDS * given.sum()
    if few_bad and len(np.unique(numbers[~np.isnan(numbers)])) > FEW:
        raise CellError(
            int(bad.argmax()), name, f"{str(cells[bad.argmax()])[:40]!r} is not a number, as the others are"
        )
    cells = as_texts(cells)
    if not bad.any():
        return _long_numbers(cells, cells[given]) or _numbers(name, numbers, unit_of(cells))
    if date_format := text_dates.recognise(cells):
        dates, _ = text_dates.to_dates(cells, date_format)
        return Found("date", f"dates as {date_format}", dates, date_format=date_format)
    return _words(cells, cells[given])


def read_as(kind: Kind, name: str, cells: np.ndarray, number_format: NumberFormat) -> Found:
    """Reads a column as the kind that the user says it has.

    Args:
      kind: `real` numbers stay as they are, however skewed; `positive` ones are seen by their logarithm.
      name: of the column.
      cells: as for `infer`.
      number_format: as for `infer`.

    Returns:
      As `infer`.

    Raises:
      DataError: if the cells can't be read so; names the column, the row and the cell.
    """
    said = "said so"
    if not _given(cells).any():
        return _empty(cells)
    if kind in NUMBERS:
        numbers, bad = to_numbers(cells, number_format) if cells.dtype.kind != "M" else (cells, ~np.isnat(cells))
        if bad.any():
            row = int(bad.argmax())
            raise CellError(row, name, f"{str(cells[row])[:40]!r} is not a number")
        if kind != "real" and (numbers < 0).any():
            row = int((numbers < 0).argmax())
            raise CellError(row, name, f"{numbers[row]:g} is below 0, so it is no {kind} number")
        return Found(kind, said, numbers, unit=unit_of(cells) if cells.dtype == object else "")
    if kind == "date":
        if cells.dtype.kind == "M":
            return Found(kind, said, cells)
        texts = as_texts(cells) if cells.dtype == object else None
        date_format = None if texts is None else text_dates.recognise(texts)
        if texts is None or date_format is None:
            raise DataError(f"column {name}: not all of its cells are dates of one format")
        return Found(kind, said, text_dates.to_dates(texts, date_format)[0], date_format=date_format)
    numeric = cells.dtype == np.float64
    if cells.dtype.kind == "M":
        return _few_enough(name, Found(kind, said, date_words(cells), date_format="%Y-%m-%d"))
    if cells.dtype == object:
        numbers, bad = to_numbers(cells, number_format)
        cells = as_texts(cells)
        numeric = not bad.any() and not are_names(cells)
        cells = numbers if numeric else cells
    return _few_enough(name, Found(kind, said, cells, numeric))


def date_words(dates: np.ndarray) -> np.ndarray:
    """Returns dates as text, None for NaT; without a time of day at midnight."""
    texts = [text.removesuffix("T00:00:00").replace("T", " ") for text in np.datetime_as_string(dates, "s").tolist()]
    found = np.array(texts, object)
    found[np.isnat(dates)] = None
    return found


def _few_enough(name: str, found: Found) -> Found:
    """Refuses more values than the kind has; a yes or no of only one is constant."""
    distinct = _distinct(found.values)
    if found.kind == "yes-no" and distinct > 2:
        raise DataError(f"column {name}: {distinct} values, so it is no yes or no")
    if found.kind == "constant" and distinct > 1:
        raise DataError(f"column {name}: {distinct} values, so it is not constant")
    if found.kind == "yes-no" and distinct == 1:
        return found._replace(kind="constant", reason="said yes-no, but has only 1 value")
    return found


def real_if_alone(found: Mapping[str, Found]) -> dict[str, Found]:
    """Makes all columns of numbers real, save constant ones, if there are no others, save ids."""
    if not all(column.numeric or column.kind in ("id", "empty") for column in found.values()):
        return dict(found)
    kept = ("id", "empty", "constant")
    return {
        name: column if column.kind in kept else column._replace(kind="real", reason="among numbers alone")
        for name, column in found.items()
    }


def skewness(values: np.ndarray) -> float:
    """Third standardised moment of the values that are not NaN; 0 for a constant."""
    values = values[~np.isnan(values)]
    values = np.ldexp(values, -np.frexp(np.abs(values).max())[1])  # to about 1: squares of 1e300 overflow
    sd = values.std()
    return float((((values - values.mean()) / sd) ** 3).mean()) if sd > 0 else 0.0


def _empty(cells: np.ndarray) -> Found:
    return Found("empty", "no cell is given", cells)


def _given(cells: np.ndarray) -> np.ndarray:
    import pandas as pd

    return ~pd.isna(cells)


def _distinct(cells: np.ndarray) -> int:
    import pandas as pd

    return len(pd.unique(cells[_given(cells)]))


def _long_numbers(cells: np.ndarray, given: np.ndarray) -> Found | None:
    """Whole numbers of many digits, or with zeros in front, are names, not amounts."""
    if not are_names(given):
        return None
    found, longest = _words(cells, given), max(map(len, given))
    why = f"numbers of {longest} digits" if longest >= LONG_NUMBER else "numbers with zeros in front"
    return found._replace(reason=f"{why}: {found.reason}")


def are_names(cells: np.ndarray) -> bool:
    """Whether text cells are whole numbers that no one would add up: of many digits, or with zeros in front."""
    given = [cell for cell in cells if cell is not None]
    if not all(cell.isascii() and cell.isdigit() for cell in given):
        return False
    return any(len(cell) >= LONG_NUMBER or (len(cell) > 1 and cell[0] == "0") for cell in given)


def _numbers(name: str, values: np.ndarray, unit: str = "") -> Found:
    given = values[~np.isnan(values)]
    distinct = len(np.unique(given))
    whole = bool((given == np.round(given)).all())
    low, high = given.min(), given.max()

    def found(kind: Kind, reason: str) -> Found:
        return Found(kind, reason, values, numeric=True, unit=unit)

    if distinct == 1:
        return found("constant", f"only {given[0]:g}")
    may_be_id = whole and not unit and len(given) >= FEWEST_DIFFERENT  # amounts of money are no names
    if may_be_id and distinct == len(given):
        dense = distinct / (high - low + 1)
        if dense >= (DENSE if distinct >= MANY else DENSE_IF_FEW):
            return found("id", "counts the rows")
        if ID_NAME.search(name):
            return found("id", "all different")
    if may_be_id and high >= 10 ** (LONG_NUMBER - 1) and distinct > MOSTLY * len(given):
        return found("id", f"numbers of {len(f'{high:.0f}')} digits, most of them different")
    if distinct == 2:
        return found("yes-no", "2 values")
    if whole and distinct <= FEW and len(given) >= ROWS_PER_VALUE * distinct:
        return found("category", f"{distinct} different whole numbers")
    if whole and low >= 0 and high <= LARGEST_COUNT:
        return found("count", f"whole numbers, {low:g} to {high:g}")
    if low >= 0 and skewness(given) > SKEWED:
        return found("positive", f"skewed, {low:g} to {high:g}")
    return found("real", f"numbers, {low:g} to {high:g}")


def _words(cells: np.ndarray, given: np.ndarray) -> Found:
    distinct = _distinct(given)
    if distinct == 1:
        return Found("constant", f"only {str(given[0])[:30]!r}", cells)
    if len(given) >= FEWEST_DIFFERENT and distinct > MOSTLY * len(given):
        return Found("id", "all different" if distinct == len(given) else "most of them different", cells)
    if distinct == 2:
        return Found("yes-no", "2 values", cells)
    return Found("category", f"{distinct} different words", cells)
