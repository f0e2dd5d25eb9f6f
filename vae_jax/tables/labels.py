"""Labels as they come: numbers, truth values or words, to 1 for an anomaly and 0 for the rest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.data.errors import DataError
from vae_jax.tables.cells import LARGEST_EXACT
from vae_jax.tables.csv_file import Places, is_number, place_of
from vae_jax.tables.text_numbers import is_missing

if TYPE_CHECKING:
    from jaxtyping import Int, Shaped

# In lower case; numbers in their shortest form.
ANOMALY_WORDS = frozenset(("1", "true", "yes", "y", "fraud", "fraudulent", "anomaly", "outlier"))
NORMAL_WORDS = frozenset(("0", "false", "no", "n", "genuine", "legit", "legitimate", "normal", "inlier"))


def to_labels(
    path: str | Path,
    name: str,
    cells: Shaped[np.ndarray, " N"],
    anomaly: str | None = None,
    places: Places | None = None,
) -> Int[np.ndarray, " N"]:
    """Converts a column of labels.

    Args:
      path: the file, for messages.
      name: the column, for messages.
      cells: any dtype. Without `anomaly`, 1 and 0, truth values, yes and no, or words of `ANOMALY_WORDS` and
        `NORMAL_WORDS`, in any case.
      anomaly: the value that means an anomaly, written as in the file; all others are normal, as are blank cells if
        there are no others.
      places: where its rows are, for messages; by default each line is a row.

    Returns:
      int64, 1 = anomaly, 0 = normal.

    Raises:
      DataError: if a label is missing or unknown, or `anomaly` does not occur.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.labels import to_labels
      >>> to_labels("mine.csv", "Class", np.array(["Yes", "no"], dtype=object)).tolist()
      [1, 0]
      >>> to_labels("mine.csv", "state", np.array(["ok", "stolen", "lost"], dtype=object), anomaly="stolen").tolist()
      [0, 1, 0]
    """
    import pandas as pd

    cells = np.array(cells, object)
    cells[pd.isna(cells)] = None  # pandas' NA can't be compared
    missing = is_missing(cells)
    if anomaly is not None:
        missing &= cells != anomaly
        if missing.any() and {_word(cell) for cell in set(cells[~missing])} == {_word(anomaly)}:
            return (~missing).astype(np.int64)
    if (cells == "+").any():  # beside a plus, a minus is a label
        missing &= cells != "-"
    if missing.any():
        row = int(missing.argmax())
        what = f"{cells[row]!r} stands for a missing label" if isinstance(cells[row], str) and cells[row] else "blank"
        marks = {_word(cell) for cell in set(cells[~missing])}
        if anomaly is None and len(marks) == 1 and not NORMAL_WORDS & {word.lower() for word in marks}:
            what += f"; if only anomalies are marked, say --anomaly {shlex.quote(marks.pop())}"
        raise DataError(f"{path}: {place_of(row, name, places)}: {what}")
    codes, distinct = pd.factorize(cells)
    words = [_word(cell) for cell in distinct]
    if anomaly is not None:
        is_anomaly = [word == _word(anomaly) for word in words]
        if not any(is_anomaly):
            raise DataError(f"{path}: --anomaly {anomaly}: no such value in column {name}; there are {_listed(words)}")
        return np.array(is_anomaly, np.int64)[codes]
    known = [word.lower() in ANOMALY_WORDS | NORMAL_WORDS for word in words]
    if not all(known):
        first = known.index(False)  # in order of occurrence
        row = int((codes == first).argmax())
        advice = "say which value is the anomaly with --anomaly VALUE"
        if is_number(words[first]):
            wrong = f"{words[first]} is neither 0 (genuine) nor 1 (fraud)"
            raise DataError(f"{path}: {place_of(row, name, places)}: {wrong}; {advice}")
        if any(known):  # this one may be a mistake in a single row
            raise DataError(
                f"{path}: {place_of(row, name, places)}: unknown label {_listed(words[first : first + 1])}; {advice}"
            )
        raise DataError(f"{path}: column {name} has the labels {_listed(words)}; {advice}")
    return np.array([word.lower() in ANOMALY_WORDS for word in words], np.int64)[codes]


def _word(cell: Any) -> str:
    """Writes a label: 1, 1.0, "1" and "1.0" are the same."""
    text = str(cell).strip()
    if not is_number(text):
        return text
    value = float(text)
    if value.is_integer():
        return str(int(value)) if abs(value) < LARGEST_EXACT else text
    return f"{value:g}" if float(f"{value:g}") == value else text


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - 10} more" if len(words) > 10 else ""
    return ", ".join(repr(word[:40]) for word in words[:10]) + more
