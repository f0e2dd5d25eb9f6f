"""What the columns of a table are, learned from its training rows, and how rows become numbers for a model.

A column has a kind, and from its kind some *parts*: one for most, several for a date, none for an id. Each part has a
likelihood. `Schema.transform` turns a frame of any order into rows of parts, NaN for a gap, as `networks.columns` takes
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.data.errors import CellError, DataError
from vae_jax.networks.columns import SMOOTHING, ColumnConstants, ColumnLayout
from vae_jax.tables import kinds
from vae_jax.tables.cells import as_frame, cells_of, typed_cells_of
from vae_jax.tables.columns import Column, Missing, column_of, made_of, remark, values_of
from vae_jax.tables.kinds import Found, Kind
from vae_jax.tables.parts import GAP, LIKELIHOODS, Part, encoded, part_of
from vae_jax.tables.scaling import LARGEST
from vae_jax.tables.text_numbers import NumberFormat, recognise

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Array, Bool, Float


MOST_REMARKS = 100_000  # remembered at once


@dataclass(frozen=True)
class Schema:
    """All columns of a table, and how they are read.

    Attributes:
      columns: in the order of the table.
      number_format: how numbers in text are written.
      limit: standardised numbers are cut at ± this.

    Examples:
      >>> import pandas as pd
      >>> from vae_jax.tables.schema import Schema
      >>> table = pd.DataFrame({"city": ["Rome", "Oslo", None, "Rome"] * 20, "paid": ["$5.10", "$7", "$9", "$2"] * 20})
      >>> schema = Schema.fit(table, columns={"city": "category"})
      >>> [(column.name, column.kind) for column in schema.columns]
      [('city', 'category'), ('paid', 'real')]
      >>> schema.transform(table).shape, schema.modelled
      ((80, 2), ('city', 'paid'))
    """

    columns: tuple[Column, ...]
    number_format: NumberFormat = field(default_factory=NumberFormat)
    limit: float = LARGEST

    @classmethod
    def fit(
        cls,
        table: Any,
        columns: Mapping[str, Kind] | None = None,
        missing: Missing = "ignore",
        limit: float = LARGEST,
        number_format: NumberFormat | None = None,
    ) -> Schema:
        """Learns what the columns are from training rows.

        Args:
          table: a frame, or rows of numbers and text; see `cells.as_frame`.
          columns: kinds of columns, by name, for those that should not be inferred. Without any, a table of numbers
            alone has real numbers alone, as it has without gaps.
          missing: `informative` makes of each column with gaps a further answer: whether its cell is missing.
          limit: in standard deviations.
          number_format: how numbers in text are written; None recognises it from all cells.

        Returns:
          The schema.

        Raises:
          DataError: for a name that is no column, cells that do not fit a kind, or a table of which nothing is left.
        """
        import pandas as pd

        frame = as_frame(table)
        said: dict[str, Kind] = {str(name): kind for name, kind in (columns or {}).items()}
        for name in said:
            if name not in frame.columns:
                raise DataError(f"column {name}: not in the table; there are {', '.join(map(str, frame.columns[:40]))}")
        for name, dtype in frame.dtypes.items():  # a frame's own categories need not be said
            if isinstance(dtype, pd.CategoricalDtype):
                said.setdefault(str(name), "category")
        modelled = [name for name in frame.columns if said.get(name) not in ("dropped", "id")]
        with _rows_as_in(frame):
            cells = {name: typed_cells_of(frame[name]) for name in modelled}
        if number_format is None:
            number_format = recognise({name: of for name, of in cells.items() if of.dtype == object})
        found = {}
        for name in frame.columns:
            if name not in cells:
                found[name] = Found(said[name], "said so", np.empty(0))
                continue
            with _rows_as_in(frame):
                if name in said:
                    found[name] = kinds.read_as(said[name], name, cells[name], number_format)
                else:
                    found[name] = kinds.infer(name, cells[name], number_format)
        if not said:
            found = kinds.real_if_alone(found)
        made = (column_of(name, column, missing) for name, column in found.items())
        schema = cls(tuple(made), number_format, min(limit, LARGEST))
        if not schema.modelled:
            left_out = ", ".join(f"{column.name} ({column.kind}: {column.reason})" for column in schema.columns[:10])
            raise DataError(f"no column is left to be a feature; left out: {left_out}")
        return schema

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def modelled(self) -> tuple[str, ...]:
        """Names of the columns that a model sees."""
        return tuple(column.name for column in self.columns if column.parts)

    @cached_property
    def order(self) -> list[tuple[Column, Part]]:
        """The columns and parts of a row, in the order of the layout."""
        parts = [(column, part) for column in self.columns for part in column.parts]
        return sorted(parts, key=lambda of: (LIKELIHOODS.index(of[1].likelihood), len(of[1].levels)))

    @cached_property
    def layout(self) -> ColumnLayout:
        """What the parts of a row are."""
        parts = [part for _, part in self.order]
        numbers, counts, answers = (sum(part.likelihood == of for part in parts) for of in LIKELIHOODS[:3])
        levels = (_padded(len(part.shares)) for part in parts[numbers + counts + answers :])
        return ColumnLayout(numbers, counts, answers, tuple(levels))

    def constants(self, highest_log_var: Float[np.ndarray, " M"]) -> ColumnConstants:
        """What the likelihoods need besides the network's output; `highest_log_var` bounds numbers and counts."""

        def array(values: Sequence[float] | np.ndarray) -> Array:
            import jax.numpy as jnp

            return jnp.asarray(np.array(values, np.float32))

        counts = [part for _, part in self.order if part.likelihood == "count"]
        answers = [part for _, part in self.order if part.likelihood == "bernoulli"]
        categories = [part for _, part in self.order if part.likelihood == "categorical"]
        of_levels = [np.pad(part.shares, (0, _padded(len(part.shares)) - len(part.shares))) for part in categories]
        smoothing = [SMOOTHING * shares for shares in of_levels]
        for part, weights in zip(categories, smoothing, strict=True):
            if not part.pooled:  # nothing else teaches the probability of an unseen value
                weights[len(part.levels)] = part.shares[-1]
        of_yes = np.array([part.shares[1] for part in answers])
        return ColumnConstants(
            highest_log_var=array(list(highest_log_var)),
            count_mean=array([part.mean for part in counts]),
            count_sd=array([part.sd for part in counts]),
            count_log=array([float(part.log) for part in counts]),
            frequencies=array(np.concatenate([of_yes, *of_levels])),
            smoothing=array(np.concatenate([SMOOTHING * of_yes, *smoothing])),
            unknown=array([part.unknown for part in answers]),
        )

    def transform(self, table: Any, wrong: dict[int, CellError] | None = None) -> Float[np.ndarray, "N P"]:
        """Turns rows into numbers.

        Args:
          table: a frame with the modelled columns, in any order and among others; or rows of all columns, in order.
          wrong: if given, cells that can't be read are gaps, and the first error of each row is put here, by row.

        Returns:
          float32, NaN for a gap: numbers standardised and within ± `limit`, answers 0 or 1 (2 for neither), and the
          numbers of levels (the last for rare and unseen values).

        Raises:
          DataError: for a column that is missing, or a cell that can't be read as its kind; names both.
        """
        import pandas as pd

        frame = as_frame(table, list(self.feature_names))
        parts: dict[tuple[str, str], np.ndarray] = {}
        for column, values in self.read(frame, wrong):
            gap = pd.isna(values)
            for part in column.parts:
                if part.what == GAP:
                    found = gap.astype(np.float64)
                else:
                    found = encoded(part, part_of(part.what, values), column.numeric, self.limit)
                    found[gap] = np.nan
                parts[column.name, part.what] = found
        rows = np.empty((len(frame), len(self.order)), np.float32)
        for i, (column, part) in enumerate(self.order):
            rows[:, i] = parts[column.name, part.what]
        return rows

    def read(
        self, frame: pd.DataFrame, wrong: dict[int, CellError] | None = None
    ) -> Iterator[tuple[Column, np.ndarray]]:
        """Yields each modelled column, and its cells as numbers, dates or text; arguments and errors of `transform`."""
        for name in self.modelled:
            if name not in frame.columns:
                raise DataError(f"column {name} is missing")
        for column in self.columns:
            if column.parts:
                with _rows_as_in(frame):
                    cells = (typed_cells_of if column.reads_numbers else cells_of)(frame[column.name], finite=False)
                    values = values_of(column, cells, self.number_format, wrong)
                yield column, values

    def by_column(self, parts: Float[np.ndarray, "... P"]) -> Float[np.ndarray, "... C"]:
        """Adds up the parts of each modelled column, along the last axis."""
        membership = np.array([[column.name == name for name in self.modelled] for column, _ in self.order])
        return parts @ membership.astype(parts.dtype)

    def new_gaps(self, rows: Float[np.ndarray, "N P"]) -> dict[str, int]:
        """Counts the gaps in columns that had none in training, in rows as `transform` gives them."""
        counts = zip(self.modelled, self.gaps(rows).sum(0).tolist(), strict=True)
        return {name: count for name, count in counts if count and not self[name].gaps}

    def gaps(self, rows: Float[np.ndarray, "N P"]) -> Bool[np.ndarray, "N C"]:
        """Tells which cells of the modelled columns are missing, in rows as `transform` gives them."""
        places = {column.name: i for i, (column, part) in enumerate(self.order) if part.what != GAP}
        return np.isnan(rows[:, [places[name] for name in self.modelled]])

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def describe(self) -> list[tuple[str, str, str, str]]:
        """Returns name, kind, reason and what is made of it, for each column."""
        return [(column.name, column.kind, column.reason, made_of(column)) for column in self.columns]

    def notices(self) -> list[str]:
        """Sentences about columns that are left out, or in which any other value looks like an anomaly."""
        left_out = [column for column in self.columns if not column.parts and column.kind != "dropped"]
        found = [f"Left out: {', '.join(f'{c.name} ({c.kind}: {c.reason})' for c in left_out)}."] if left_out else []
        constant = [column.name for column in self.columns if column.kind == "constant"]
        if constant:
            found.append(
                f"Constant in the training rows: {', '.join(constant)}. Any other value looks like an anomaly."
            )
        return found

    def remark(self, name: str, cell: Any) -> str:
        """Says what is known of a cell: its level's share of the training rows, or what is typical; "" for a gap."""
        key = (name, str(cell))  # the same few cells come again and again
        if key not in self._remarks:
            if len(self._remarks) >= MOST_REMARKS:
                self._remarks.clear()
            self._remarks[key] = remark(self[name], cell, self.number_format, self.limit)
        return self._remarks[key]

    @cached_property
    def _remarks(self) -> dict[tuple[str, str], str]:
        return {}

    def to_json(self) -> dict[str, Any]:
        """Returns the schema as lists, numbers and strings."""
        return json.loads(json.dumps(asdict(self)))  # tuples as lists, as they are read back

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Schema:
        """Rebuilds a schema from `to_json`, to the last bit."""

        def part(of: dict[str, Any]) -> Part:
            given: dict[str, Any] = {name: tuple(of[name]) for name in ("levels", "shares", "typical")}
            return Part(**{**of, **given})

        columns = [Column(**{**column, "parts": tuple(map(part, column["parts"]))}) for column in record["columns"]]
        return cls(tuple(columns), NumberFormat(**record["number_format"]), record["limit"])


def numbers_of(table: Any, names: Sequence[str], number_format: NumberFormat) -> Float[np.ndarray, "N D"]:
    """Reads rows for a model of numbers alone from a table that also has cells of other types.

    Args:
      table: a frame, or rows; see `cells.as_frame`.
      names: of the D features.
      number_format: how numbers in text are written.

    Returns:
      float64, NaN for a gap.

    Raises:
      CellError: for a cell that is no number; names its row and column.

    Examples:
      >>> from vae_jax.tables.schema import numbers_of
      >>> from vae_jax.tables.text_numbers import NumberFormat
      >>> numbers_of([[1.5, "2"], [None, "NA"]], ["a", "b"], NumberFormat()).tolist()
      [[1.5, 2.0], [nan, nan]]
    """
    frame = as_frame(table, list(names)).set_axis(list(names), axis=1)
    with _rows_as_in(frame):
        columns = (Column(name, "real", "numbers alone") for name in names)
        read = [values_of(of, typed_cells_of(frame[of.name]), number_format) for of in columns]
    return np.stack(read, axis=1)


@contextmanager
def _rows_as_in(frame: pd.DataFrame) -> Iterator[None]:
    """Makes an error name the row by the frame's index: a part of a table has the table's row numbers there."""
    try:
        yield
    except CellError as error:
        raise CellError(frame.index[error.row], error.column, error.wrong) from None


def _padded(levels: int) -> int:
    """A power of two: categories of equally many levels are computed together, and similar tables share a program."""
    return max(4, 1 << (levels - 1).bit_length())
