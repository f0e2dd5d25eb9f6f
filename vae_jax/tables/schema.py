"""What the columns of a table are, learned from its training rows, and how rows become numbers for a model.

A column has a kind, and from its kind some *parts*: one for most, several for a date, none for an id. Each part has a
likelihood. `Schema.transform` turns a frame of any order into rows of parts, NaN for a gap, as `networks.columns` takes
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vae_jax.data.errors import CellError, DataError
from vae_jax.networks.columns import SMOOTHING, UNKNOWN, Constants, Layout
from vae_jax.tables import kinds, text_dates
from vae_jax.tables.cells import as_frame, cells_of
from vae_jax.tables.kinds import Found, Kind
from vae_jax.tables.scaling import LARGEST
from vae_jax.tables.text_numbers import NumberFormat, recognise, to_numbers

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Array, Bool, Float

Likelihood = Literal["gaussian", "count", "bernoulli", "categorical"]
Missing = Literal["ignore", "informative"]
LIKELIHOODS: tuple[Likelihood, ...] = ("gaussian", "count", "bernoulli", "categorical")  # in a layout's order

# A level of fewer rows than these is pooled with the other rare ones and with unseen ones: the share of all of them
# together is known, that of each is not, and a thousand of them would outweigh every other column.
RARE_SHARE, FEWEST_RARE, MOST_RARE = 1e-3, 2, 10
MOST_LEVELS = 255  # beside the pooled one
YES, NO = ("1", "yes", "y", "true", "t", "on"), ("0", "no", "n", "false", "f", "off")
TYPICAL = (0.01, 0.99)  # quantiles between which a number is called typical
DAY = np.timedelta64(1, "D")
SHORTEST_FOR_MONTHS = 60  # days


@dataclass(frozen=True)
class Part:
    """One number of a row: how it is made from a cell.

    Attributes:
      likelihood: see `LIKELIHOODS`.
      what: of a date, which part; `gap` for whether the cell is missing; "" if it is the cell itself.
      log, shift: whether log(x + shift) is standardised; of a count, log(1 + x).
      mean, sd: of the training rows, by which it is standardised; 0 and 1 for answers and categories.
      levels: of an answer (no, yes) or a category, without that of rare and unseen values.
      shares: of the levels among the training rows; of a category with that of rare and unseen values.
      unknown: of an answer, the probability that it is neither of the two.
      pooled: of a category, the training rows of rare values.
      typical: for a number, two quantiles of the training rows, in the cell's own unit.
    """

    likelihood: Likelihood
    what: str = ""
    log: bool = False
    shift: float = 0.0
    mean: float = 0.0
    sd: float = 1.0
    levels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    unknown: float = 0.0
    pooled: int = 0
    typical: tuple[float, float] = (0.0, 0.0)

    def transformed(self, values: np.ndarray) -> np.ndarray:
        """The number that is standardised."""
        if not self.log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.isnan(values), np.nan, np.log(np.maximum(values + self.shift, 0)))


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
        cells = {name: cells_of(frame[name]) for name in frame.columns if said.get(name) not in ("dropped", "id")}
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
        made = (_column(name, column, missing) for name, column in found.items())
        schema = cls(tuple(made), number_format, min(limit, LARGEST))
        if not schema.modelled:
            raise DataError("no column is left to be a feature")
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
    def _order(self) -> list[tuple[Column, Part]]:
        """The parts in the layout's order."""
        parts = [(column, part) for column in self.columns for part in column.parts]
        return sorted(parts, key=lambda of: (LIKELIHOODS.index(of[1].likelihood), len(of[1].levels)))

    @cached_property
    def layout(self) -> Layout:
        """What the parts of a row are."""
        parts = [part for _, part in self._order]
        numbers, counts, answers = (sum(part.likelihood == of for part in parts) for of in LIKELIHOODS[:3])
        levels = (_padded(len(part.shares)) for part in parts[numbers + counts + answers :])
        return Layout(numbers, counts, answers, tuple(levels))

    def constants(self, highest_log_var: Float[np.ndarray, " M"]) -> Constants:
        """What the likelihoods need besides the network's output; `highest_log_var` bounds numbers and counts."""

        def array(values: Sequence[float] | np.ndarray) -> Array:
            import jax.numpy as jnp

            return jnp.asarray(np.array(values, np.float32))

        counts = [part for _, part in self._order if part.likelihood == "count"]
        answers = [part for _, part in self._order if part.likelihood == "bernoulli"]
        categories = [part for _, part in self._order if part.likelihood == "categorical"]
        of_levels = [np.pad(part.shares, (0, _padded(len(part.shares)) - len(part.shares))) for part in categories]
        smoothing = [SMOOTHING * shares for shares in of_levels]
        for part, weights in zip(categories, smoothing, strict=True):
            if not part.pooled:  # nothing else teaches the probability of an unseen value
                weights[len(part.levels)] = part.shares[-1]
        of_yes = np.array([part.shares[1] for part in answers])
        return Constants(
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
        frame = as_frame(table, list(self.feature_names))
        for name in self.modelled:
            if name not in frame.columns:
                raise DataError(f"column {name} is missing")
        parts: dict[tuple[str, str], np.ndarray] = {}
        for column in self.columns:
            if column.parts:
                with _rows_as_in(frame):
                    read = self._read(column, frame[column.name], wrong)
                    parts |= {(column.name, what): values for what, values in read}
        rows = np.empty((len(frame), len(self._order)), np.float32)
        for i, (column, part) in enumerate(self._order):
            rows[:, i] = parts[column.name, part.what]
        return rows

    def _read(
        self, column: Column, cells: Any, wrong: dict[int, CellError] | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each part's values."""
        import pandas as pd

        values = _values(column, cells_of(cells, finite=False), self.number_format, wrong)
        gap = pd.isna(values)
        for part in column.parts:
            if part.what == "gap":
                found = gap.astype(np.float64)
            else:
                found = _encoded(part, _part_of(part.what, values), column.numeric, self.limit)
                found[gap] = np.nan
            yield part.what, found

    def by_column(self, parts: Float[np.ndarray, "... P"]) -> Float[np.ndarray, "... C"]:
        """Adds up the parts of each modelled column, along the last axis."""
        membership = np.array([[column.name == name for name in self.modelled] for column, _ in self._order])
        return parts @ membership.astype(parts.dtype)

    def new_gaps(self, rows: Float[np.ndarray, "N P"]) -> dict[str, int]:
        """Counts the gaps in columns that had none in training, in rows as `transform` gives them."""
        counts = zip(self.modelled, self.gaps(rows).sum(0).tolist(), strict=True)
        return {name: count for name, count in counts if count and not self[name].gaps}

    def gaps(self, rows: Float[np.ndarray, "N P"]) -> Bool[np.ndarray, "N C"]:
        """Tells which cells of the modelled columns are missing, in rows as `transform` gives them."""
        places = {column.name: i for i, (column, part) in enumerate(self._order) if part.what != "gap"}
        return np.isnan(rows[:, [places[name] for name in self.modelled]])

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def describe(self) -> list[tuple[str, str, str, str]]:
        """Returns name, kind, reason and what is made of it, for each column."""
        return [(column.name, column.kind, column.reason, _made_of(column)) for column in self.columns]

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
        import pandas as pd

        column = self[name]
        cells = cells_of(pd.Series([cell], dtype=object))
        if pd.isna(cells[0]):
            return ""
        part = column.parts[0]
        if column.kind in ("real", "positive", "count"):
            low, high = part.typical
            return f"{_percent(TYPICAL[1] - TYPICAL[0])} of training rows have {low:.6g} to {high:.6g}"
        values = _values(column, cells, self.number_format)
        if part.likelihood in ("bernoulli", "categorical") and not part.what:
            code = int(_encoded(part, values, column.numeric, self.limit)[0])
            share = part.shares[code] if code < len(part.shares) else 0.0
            among = (
                "of training rows" if code < len(part.levels) else "of training rows have such a rare or unseen value"
            )
            return f"{_percent(share)} {among}"
        return ", ".join(_date_remark(part, values, self.limit) for part in column.parts if part.what != "gap")

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


def _column(name: str, found: Found, missing: Missing) -> Column:
    """Makes a column of what was found in the training rows."""
    import pandas as pd

    gap = pd.isna(found.values)
    parts = list(_PARTS[found.kind](found)) if found.kind in _PARTS else []
    gaps = float(gap.mean()) if len(gap) else 0.0
    if parts and gaps and missing == "informative":
        parts.append(_answer(np.where(gap, "gap", "given").astype(object), False, "gap", ("given", "gap")))
    return Column(name, found.kind, found.reason, gaps, found.unit, found.date_format, found.numeric, tuple(parts))


def _values(
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
    is_number = column.kind in ("real", "positive", "count")
    if cells.dtype.kind == "M":
        if column.date_format:  # of a category
            return kinds.date_words(cells)
        values = nothing if is_number or column.numeric else np.full(len(cells), None)
        expected = "a number" if is_number or column.numeric else "a word"
        return _checked(column, values, ~np.isnat(cells), cells, expected, wrong)
    if is_number or column.numeric:
        numbers, bad = to_numbers(cells, number_format)
        # A word where the levels are numbers is a level that was not seen.
        return _checked(column, numbers, bad, cells, "a number", wrong) if is_number else np.where(bad, np.inf, numbers)
    if cells.dtype == np.float64:
        return np.array([None if np.isnan(cell) else _as_level(cell) for cell in cells], object)
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


def _part_of(what: str, values: np.ndarray) -> np.ndarray:
    """A date's part: a number of days, or a whole number as text; or the values themselves."""
    if not what:
        return values
    if what == "elapsed":
        return np.where(np.isnat(values), np.nan, (values - np.datetime64(0, "us")) / DAY)
    days = values.astype("datetime64[D]")
    number = {
        "hour": lambda: (values - days).astype("timedelta64[h]"),
        "weekday": lambda: (days.astype("int64") + 3) % 7 + 1,  # 1970-01-01 was a Thursday; 1 is Monday
        "month": lambda: days.astype("datetime64[M]").astype("int64") % 12 + 1,
    }[what]()
    return np.where(np.isnat(values), np.nan, number.astype("int64").astype(np.float64))


def _encoded(part: Part, values: np.ndarray, numeric: bool, limit: float) -> np.ndarray:
    """A part's values as float64: standardised, or the number of the level."""
    import pandas as pd

    if part.likelihood in ("gaussian", "count"):
        if part.what == "elapsed":
            values = np.clip(values, *part.typical)  # the future is as late as the latest training row
        with np.errstate(over="ignore"):
            return np.clip((part.transformed(values) - part.mean) / part.sd, -limit, limit)
    numeric = numeric or bool(part.what)
    levels = pd.Index(np.array(part.levels, np.float64) if numeric else np.array(part.levels, object))
    codes = levels.get_indexer(pd.Index(values)).astype(np.float64)
    if part.likelihood == "bernoulli" and (codes < 0).any() and {level.lower() for level in part.levels} <= {*YES, *NO}:
        # True where training rows had 1, and the like.
        words = pd.Series(values[codes < 0]).map(lambda value: _as_level(value) if numeric else str(value).lower())
        codes[codes < 0] = np.select([words.isin(YES), words.isin(NO)], [1.0, 0.0], -1.0)
    codes[codes < 0] = UNKNOWN if part.likelihood == "bernoulli" else len(part.levels)
    return codes


def _standardised(likelihood: Likelihood, values: np.ndarray, what: str = "", log: bool = False) -> Part:
    given = values[~np.isnan(values)]
    shift = 0.0
    if log:
        above = given[given > 0]
        shift = (
            1.0 if likelihood == "count" or not len(above) else 0.0 if len(above) == len(given) else float(above.min())
        )
    part = Part(likelihood, what, log, shift)
    seen = part.transformed(given)
    if what == "elapsed":
        typical = (float(given.min()), float(given.max()))
    else:
        low, high = np.quantile(given, TYPICAL, method="nearest")
        typical = (float(low), float(high))
    _, exponent = np.frexp(np.abs(seen).max())
    scaled = np.ldexp(seen, -exponent)  # as in `Scaler.fit`
    mean, sd = (float(np.ldexp(of, exponent)) for of in (scaled.mean(), scaled.std()))
    return Part(likelihood, what, log, shift, mean, 1.0 if seen.max() == seen.min() else sd, typical=typical)


def _answer(values: np.ndarray, numeric: bool, what: str = "", levels: tuple[str, ...] = ()) -> Part:
    texts, counts = _counted(values, numeric)
    levels = levels or tuple(sorted(texts, key=lambda text: (text.lower() in YES, text)))
    n = sum(counts)
    yes = (counts[texts.index(levels[-1])] + 1) / (n + 2)
    return Part("bernoulli", what, levels=levels, shares=(1 - yes, yes), unknown=1 / (n + 3))


def _category(values: np.ndarray, numeric: bool, what: str = "") -> Part:
    texts, counts = _counted(values, numeric)
    n = sum(counts)
    rare = min(max(RARE_SHARE * n, FEWEST_RARE), MOST_RARE)
    kept = [(text, count) for text, count in zip(texts, counts, strict=True) if count >= rare][:MOST_LEVELS]
    pooled = n - sum(count for _, count in kept)
    # Rule of succession: what was not seen in n rows is not impossible.
    shares = tuple((count + 1) / (n + len(kept) + 1) for count in (*(count for _, count in kept), pooled))
    return Part("categorical", what, levels=tuple(text for text, _ in kept), shares=shares, pooled=pooled)


def _counted(values: np.ndarray, numeric: bool) -> tuple[list[str], list[int]]:
    """Distinct values as text, the most frequent first, and their numbers of rows."""
    import pandas as pd

    found = pd.Series(values).value_counts(sort=False)
    texts = [_as_level(value) if numeric else str(value) for value in found.index]
    order = sorted(range(len(texts)), key=lambda i: (-found.iloc[i], texts[i]))
    return [texts[i] for i in order], [int(found.iloc[i]) for i in order]


def _as_level(number: float) -> str:
    """The shortest text that is read back as the same number; 1 for 1.0."""
    return repr(float(number)).removesuffix(".0")


def _date_parts(found: Found) -> Iterator[Part]:
    dates = found.values
    days = _part_of("elapsed", dates)
    for what in ("hour", "weekday", "month"):
        values = _part_of(what, dates)
        span = np.nanmax(days) - np.nanmin(days)
        varied = len(np.unique(values[~np.isnan(values)])) > 1
        if varied and (what != "month" or span >= SHORTEST_FOR_MONTHS):
            yield _category(values, True, what)
    yield _standardised("gaussian", days, "elapsed")


# Positive numbers are seen by their logarithm, and so are counts that are as skewed.
_PARTS: dict[str, Callable[[Found], Any]] = {
    "real": lambda found: [_standardised("gaussian", found.values)],
    "positive": lambda found: [_standardised("gaussian", found.values, log=True)],
    "count": lambda found: [
        _standardised(
            "count",
            found.values,
            log=kinds.skewness(found.values) > kinds.SKEWED and bool(np.nanmin(found.values) >= 0),
        )
    ],
    "yes-no": lambda found: [_answer(found.values, found.numeric)],
    "category": lambda found: [_category(found.values, found.numeric)],
    "constant": lambda found: [_category(found.values, found.numeric)],
    "date": _date_parts,
}


def _made_of(column: Column) -> str:
    """What a model sees of a column, in words."""
    if not column.parts:
        return "left out"
    parts = [part for part in column.parts if part.what != "gap"]
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
    value = _part_of(part.what, values)
    if part.what == "elapsed":
        first, last = (np.datetime64(0, "us") + np.timedelta64(round(day * 86400), "s") for day in part.typical)
        return f"training rows from {str(first)[:10]} to {str(last)[:10]}"
    code = int(_encoded(part, value, True, limit)[0])
    return f"{part.what} {value[0]:g}: {_percent(part.shares[code])} of training rows"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
