"""A table's columns as arrays of three kinds of cell: numbers, dates or text, whatever frame they come in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.data.errors import CellError, DataError
from vae_jax.tables.text_numbers import is_missing

if TYPE_CHECKING:
    import pandas as pd

LARGEST_EXACT = 2**53  # a longer whole number is a name, and float64 would confuse it with others


def as_frame(table: Any, names: list[str] | None = None) -> pd.DataFrame:
    """Returns any table as a pandas frame: one of pandas, Polars, Arrow or the like, or rows of an array.

    Args:
      table: a frame, or anything that NumPy takes for rows and columns.
      names: the columns' names, for rows; by default x0, x1 and so on.

    Returns:
      A pandas frame, not copied if it is one; its columns' names are text.

    Raises:
      ValueError: for rows that are not two-dimensional, or not as wide as there are names.
      DataError: for two columns of one name.

    Examples:
      >>> from vae_jax.tables.cells import as_frame
      >>> as_frame([["red", 1.5], ["blue", None]]).columns.tolist()
      ['x0', 'x1']
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return _named(table)
    if hasattr(table, "columns"):
        return _named(_of_arrow(table))
    rows = np.asarray(_unmasked(table), dtype=object)
    if rows.ndim != 2:
        raise ValueError(f"Expected 2D array, got {rows.ndim}D array instead. Reshape your data.")
    names = names or [f"x{i}" for i in range(rows.shape[1])]
    if rows.shape[1] != len(names):
        raise ValueError(f"rows of {rows.shape[1]} cells: expected {len(names)}, as many as there are columns")
    return pd.DataFrame({name: rows[:, i] for i, name in enumerate(names)}, index=range(len(rows)), columns=names)


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        raise DataError(f"column {frame.columns[frame.columns.duplicated()][0]}: twice in the table")
    return frame


def _of_arrow(table: Any) -> pd.DataFrame:
    """From Polars, Arrow and the like. By Arrow, since float64, which pandas has for gaps, confuses long numbers."""
    import narwhals
    import pandas as pd
    import pyarrow as pa

    names = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    nullable = {getattr(pa, name.lower())(): pd.api.types.pandas_dtype(name) for name in names}
    try:
        frame = narwhals.from_native(table, eager_only=True)
    except TypeError:
        what = type(table).__name__
        raise TypeError(f"{what}: expected rows in memory, such as a pandas or Polars DataFrame") from None
    return frame.to_arrow().to_pandas(types_mapper=nullable.get)


def is_numbers(table: Any) -> bool:
    """Tells whether a table holds numbers alone, perhaps with gaps: what a numeric array can hold.

    Args:
      table: as for `as_frame`; also a sparse matrix, which is numbers.

    Returns:
      False if there is any date, word, duration or category.

    Raises:
      TypeError: for a structured array, a dict, or a frame whose rows are not in memory.

    Examples:
      >>> from vae_jax.tables.cells import is_numbers
      >>> is_numbers([[1, None], [2.5, 3]]), is_numbers([["red", 1.5]])
      (True, False)
    """
    import pandas as pd

    if hasattr(table, "columns"):
        return all(_is_numeric(column) for _, column in as_frame(table).items())
    kind = getattr(getattr(table, "dtype", None), "kind", "O")
    if kind == "V" or type(table) is dict:  # some sparse matrices are dicts, too
        what = "structured array" if kind == "V" else "dict"
        raise TypeError(f"{what}: expected an array of rows or a frame; pandas.DataFrame makes a frame of it")
    if kind != "O":
        return kind in "biufc"  # complex numbers are refused later
    try:
        rows = np.asarray(table)
    except ValueError:  # rows of different lengths
        return True
    if rows.dtype != object:
        return rows.dtype.kind in "biufc"
    return rows.ndim != 2 or all(_is_numeric(pd.Series(rows[:, i])) for i in range(rows.shape[1]))


def _is_numeric(column: pd.Series) -> bool:
    import pandas as pd

    kind = getattr(column.dtype, "kind", "O")
    if kind in "biufc":
        return True
    numeric = ("integer", "floating", "mixed-integer-float", "decimal", "boolean", "complex", "empty")
    return kind == "O" and column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) in numeric


def gaps_as_nan(table: Any) -> Any:
    """Puts NaN in place of pandas' NA and NaT among objects, which NumPy takes for no numbers, and of masked cells.

    A frame's sparse columns become dense: scikit-learn would take them for a sparse matrix.

    Args:
      table: as for `as_frame`.

    Returns:
      The table itself, or a list of numbers as an array, if it has none of them.

    Examples:
      >>> import pandas as pd
      >>> from vae_jax.tables.cells import gaps_as_nan
      >>> gaps_as_nan([[1, pd.NA], [2, 3]]).tolist()
      [[1, nan], [2, 3]]
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        if any(isinstance(dtype, pd.SparseDtype) for dtype in table.dtypes):
            table = table.apply(lambda of: of.sparse.to_dense() if isinstance(of.dtype, pd.SparseDtype) else of)
        return table.where(table.notna(), np.nan) if any(dtype.kind == "O" for dtype in table.dtypes) else table
    rows = np.asarray(table) if isinstance(table, list) else _unmasked(table)
    kind = getattr(getattr(rows, "dtype", None), "kind", "")
    if kind == "O":
        return np.where(pd.isna(rows), np.nan, rows)
    return rows if kind in "iuf" else table  # a list of numbers is converted once


def _unmasked(table: Any) -> Any:
    return np.ma.filled(table.astype(object), np.nan) if isinstance(table, np.ma.MaskedArray) else table


def cells_of(column: Any, finite: bool = True) -> np.ndarray:
    """Returns a column as one of three kinds of array, with missing cells as such.

    Args:
      column: a pandas series: numbers, nullable or decimal; bool; dates; durations; text; categories; objects.
      finite: whether to refuse infinity.

    Returns:
      float64 with NaN; or datetime64[us] in UTC with NaT; or stripped text with None (object). Durations become
      seconds. Bool and whole numbers beyond 2^53 become text. A column of several types becomes text.

    Raises:
      CellError: for infinity.
      TypeError: for lists and the like; names row and column.

    Examples:
      >>> import pandas as pd
      >>> from vae_jax.tables.cells import cells_of
      >>> cells_of(pd.Series([1, None, 3], dtype="Int64")).tolist(), cells_of(pd.Series([" a", "?"])).tolist()
      ([1.0, nan, 3.0], ['a', None])
    """
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        # The few categories once, instead of every cell.
        codes = column.cat.codes.to_numpy()
        try:
            of_category = cells_of(pd.Series(column.cat.categories), finite)
        except CellError as error:
            raise CellError(int((codes == error.row).argmax()), str(column.name), error.wrong) from None
        nothing = np.array([None], object) if of_category.dtype == object else np.full(1, np.nan, of_category.dtype)
        return np.concatenate([of_category, nothing])[codes]  # a missing cell has code -1
    kind = getattr(column.dtype, "kind", "O")
    if isinstance(column.dtype, pd.PeriodDtype):
        column, kind = column.dt.to_timestamp(), "M"
    if kind == "M":
        return _dates(column)
    if kind == "m":
        return column.dt.total_seconds().to_numpy(np.float64)
    if kind in "iuf":
        numbers = column.to_numpy(np.float64, na_value=np.nan)
        if kind != "f" and (np.abs(numbers) >= LARGEST_EXACT).any():
            return _texts(column.astype(object))
    else:
        numbers = _objects(column)
    if finite and numbers.dtype == np.float64 and np.isinf(numbers).any():
        raise CellError(int(np.isinf(numbers).argmax()), str(column.name), "infinity is no number")
    return numbers


def typed_cells_of(column: Any, finite: bool = True) -> np.ndarray:
    """As `cells_of`, but numbers of a column of several types stay numbers: a decimal comma would misread their text.

    Args:
      column: as for `cells_of`.
      finite: as for `cells_of`.

    Returns:
      As `cells_of`; text and such numbers as objects.

    Examples:
      >>> import pandas as pd
      >>> from vae_jax.tables.cells import typed_cells_of
      >>> typed_cells_of(pd.Series([1.234, "5,5", None, "?"])).tolist()
      [1.234, '5,5', None, None]
    """
    import pandas as pd

    cells = cells_of(column, finite)
    if cells.dtype != object or column.dtype != object or pd.api.types.infer_dtype(column, skipna=True) == "string":
        return cells
    given = column.to_numpy(object)
    kinds = (int, float, np.integer, np.floating)
    typed = np.fromiter((isinstance(cell, kinds) and not isinstance(cell, bool) for cell in given), bool, len(given))
    return np.where(typed & ~pd.isna(cells), given, cells)


def as_texts(cells: np.ndarray) -> np.ndarray:
    """Makes text of the numbers among cells of text, as `cells_of` does."""
    import pandas as pd

    if pd.api.types.infer_dtype(cells, skipna=True) == "string":
        return cells
    return np.array([cell if cell is None or isinstance(cell, str) else str(cell) for cell in cells], object)


def _dates(column: pd.Series) -> np.ndarray:
    """In UTC, as dates in text; those without a zone count as UTC."""
    import pandas as pd

    return pd.to_datetime(column, utc=True).dt.tz_convert(None).to_numpy("datetime64[us]")


def _objects(column: pd.Series) -> np.ndarray:
    """Numbers and dates among objects if there is nothing else among them, and text otherwise."""
    import pandas as pd

    inferred = pd.api.types.infer_dtype(column, skipna=True)
    if inferred == "integer" and any(not pd.isna(cell) and abs(int(cell)) >= LARGEST_EXACT for cell in column):
        return _texts(column)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        return np.array([np.nan if pd.isna(cell) else to_float(cell) for cell in column], np.float64)
    if inferred in ("datetime", "datetime64", "date"):
        return _dates(column)
    if inferred in ("timedelta", "timedelta64"):
        return pd.to_timedelta(column).dt.total_seconds().to_numpy(np.float64)
    return _texts(column)


def to_float(number: Any) -> float:
    """Converts a number; a whole one beyond float64 becomes infinite, as one written with an exponent is."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _texts(column: pd.Series) -> np.ndarray:
    import pandas as pd

    cells = column.to_numpy(object)
    try:
        codes, distinct = pd.factorize(cells)
    except TypeError:  # a list or the like
        row = next((i for i, cell in enumerate(cells) if getattr(type(cell), "__hash__", None) is None), 0)
        what = f"argument must be a string, a number or a date, not {type(cells[row]).__name__}"
        raise TypeError(f"row {column.index[row]}, column {column.name}: {what}") from None
    written = (cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in distinct)
    texts = np.array([*(None if cell is None else str(cell).strip() for cell in written), None], object)
    texts[:-1][is_missing(texts[:-1])] = None
    return texts[codes]
