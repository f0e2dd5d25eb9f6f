"""CelebA's lists of parts and attributes, in Kaggle's format (.csv) or the original one (.txt)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.errors import DataError, first_line
from vae_jax.data.parts import TEST, TRAIN, VALIDATION
from vae_jax.data.unpacking import DAMAGE, MOST_BYTES, read_at_most
from vae_jax.images.decoding import SUFFIXES

ListFile = Path | zipfile.Path

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Int


def read_partition(path: ListFile, names: Sequence[str]) -> tuple[Int[np.ndarray, " N"], list[str]]:
    r"""Reads the part each image belongs to.

    Args:
      path: `list_eval_partition.csv` or `.txt`: a name and 0 (training), 1 (validation) or 2 (test) in each line.
      names: names of the images present.

    Returns:
      Their parts, shape (N,), int8, training for images not listed; and notices of mismatches.

    Raises:
      DataError: if the list is malformed; names the file and the line.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.images.celeba_lists import read_partition
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "list_eval_partition.txt")
      ...     _ = path.write_text("a.jpg 0\nb.jpg 2\n")
      ...     parts, notices = read_partition(path, ["a.jpg", "b.jpg"])
      >>> print(parts, notices)
      [0 2] []
    """
    table = _read(path, header=None if path.suffix == ".txt" else 0)
    if table.shape[1] != 1:
        raise DataError(f"{path}: {table.shape[1] + 1} columns, expected a name and a part in each line")
    _check_values(path, table, allowed=(TRAIN, VALIDATION, TEST))
    parts, notices = _match(path, table, names, missing=TRAIN, meaning="they are used for training")
    return parts[:, 0], notices


def read_attributes(path: ListFile, names: Sequence[str]) -> tuple[Int[np.ndarray, "N A"], tuple[str, ...], list[str]]:
    r"""Reads any number of attributes per image.

    Args:
      path: `list_attr_celeba.csv` or `.txt`: a line of names, then a name and 1 or -1 for each attribute in each line.
      names: names of the images present.

    Returns:
      Their attributes, shape (N, A), int8, 0 for images not listed; the attributes' names; and notices.

    Raises:
      DataError: if the list is malformed; names the file and the line.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.images.celeba_lists import read_attributes
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "list_attr_celeba.txt")
      ...     _ = path.write_text("2\nBald Male\na.jpg -1 1\nb.jpg 1 1\n")
      ...     attributes, names, notices = read_attributes(path, ["a.jpg", "b.jpg"])
      >>> print(names, attributes.tolist(), notices)
      ('Bald', 'Male') [[-1, 1], [1, 1]] []
    """
    table = _read(path, header=0)
    _check_values(path, table, allowed=(-1, 0, 1))
    attributes, notices = _match(path, table, names, missing=0, meaning="their attributes are unknown")
    return attributes, tuple(map(str, table.columns)), notices


def _read(path: ListFile, header: int | None) -> pd.DataFrame:
    """Reads a list, with the names as its index."""
    import pandas as pd

    try:
        with path.open("rb") as file:
            text = read_at_most(file, MOST_BYTES).decode("utf-8-sig")
        if path.suffix == ".csv":
            # Without a header to pandas, which would shift one that is a name short.
            table = pd.read_csv(io.StringIO(text), header=None, index_col=0, dtype=str)
            frame, columns = table.iloc[1:], [str(name) for name in table.iloc[0]]
            if str(table.index[0]).lower().endswith(SUFFIXES):
                raise ValueError(f"the first line is of {table.index[0]}, expected names of columns")
        else:
            lines = text.splitlines()
            if header is not None:
                lines = lines[1:]  # the original list starts with the number of images
            rows = [line.split() for line in lines if line.strip()]
            columns = rows.pop(0) if header is not None else None
            for row in rows:
                if len(row) != len(rows[0]):
                    raise ValueError(f"{row[0]} has {len(row) - 1} values, {rows[0][0]} has {len(rows[0]) - 1}")
            if columns is not None and rows and len(columns) != len(rows[0]) - 1:
                raise ValueError(f"{len(columns)} names of columns, but {rows[0][0]} has {len(rows[0]) - 1} values")
            frame = pd.DataFrame(rows).set_index(0)
        if columns is not None:
            if twice := [name for i, name in enumerate(columns) if name in columns[:i]]:
                raise ValueError(f"two columns are called {twice[0]}")
            frame.columns = columns
        return frame
    except (*DAMAGE, IndexError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: malformed ({first_line(error)[:150]})") from error


def _check_values(path: ListFile, table: pd.DataFrame, allowed: Sequence[int]) -> None:
    good = table.isin([str(value) for value in allowed])
    if not good.to_numpy().all():
        row, column = np.argwhere(~good.to_numpy())[0]
        raise DataError(
            f"{path}: {table.index[row]} has {str(table.iloc[row, column])!r}, expected one of "
            + ", ".join(map(str, allowed))
        )


def _match(
    path: ListFile, table: pd.DataFrame, names: Sequence[str], missing: int, meaning: str
) -> tuple[np.ndarray, list[str]]:
    """Puts the rows of a list into the order of the images."""
    if table.index.has_duplicates:
        # Equal lines count once; a name that is still there twice has different values.
        distinct = table.reset_index().drop_duplicates().iloc[:, 0]
        if contradictory := distinct[distinct.duplicated()].tolist():
            raise DataError(f"{path}: {contradictory[0]} is listed more than once, with different values")
        table = table.loc[~table.index.duplicated(), :]
    matched = table.reindex(names)
    unlisted = int((table.index.get_indexer(list(names)) < 0).sum())
    absent = len(table) - (len(names) - unlisted)
    notices = []
    if unlisted == len(names):
        raise DataError(f"{path}: lists none of the {len(names):,} pictures")
    if unlisted:
        notices.append(f"{path.name} does not list {unlisted:,} of the pictures; {meaning}")
    if absent:
        notices.append(f"{path.name} lists {absent:,} pictures that are not there")
    return matched.fillna(str(missing)).to_numpy(dtype=np.int64).astype(np.int8), notices
