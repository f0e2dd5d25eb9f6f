"""Rows of a table of any columns as numbers, and what a `Schema` makes of these within one program.

`tables.schema` reads words and dates on the host. A program has a number for each column instead, see `cell_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from vae_jax.networks.columns import UNKNOWN
from vae_jax.tables.cells import as_frame
from vae_jax.tables.columns import Column
from vae_jax.tables.parts import GAP, MISTAKEN, Part, encoded
from vae_jax.tables.schema import Schema

if TYPE_CHECKING:
    from jaxtyping import Array, Float

DAY = 86_400.0  # seconds


def cell_of(column: Column) -> str:
    """What the number of a column's cell is, in words."""
    if column.kind == "date":
        return "seconds since 1970-01-01 00:00 UTC"
    return "the number" if column.reads_numbers else "the level's place in `levels`, from 0; -1 for any other"


def numbers_of_cells(schema: Schema, table: Any) -> Float[np.ndarray, "N C"]:
    """Turns cells into numbers, as `parts_of_numbers` takes them.

    Args:
      schema: of a detector.
      table: as for `Schema.transform`.

    Returns:
      A number for each of the C modelled columns, see `cell_of`; float64, NaN for a gap.

    Raises:
      DataError: as `Schema.transform`.

    Examples:
      >>> import pandas as pd
      >>> from vae_jax.detector.schema_function import numbers_of_cells
      >>> from vae_jax.tables.schema import Schema
      >>> table = pd.DataFrame({"city": ["Rome", "Oslo", "Rome", None] * 20, "day": ["2024-01-02"] * 80})
      >>> schema = Schema.fit(table, columns={"city": "category"})
      >>> numbers_of_cells(schema, table)[:4].tolist()
      [[0.0, 1704153600.0], [1.0, 1704153600.0], [0.0, 1704153600.0], [nan, 1704153600.0]]
    """
    frame = as_frame(table, list(schema.feature_names))
    found = np.empty((len(frame), len(schema.modelled)))
    for i, (column, values) in enumerate(schema.read(frame)):
        found[:, i] = _numbers(column, values, schema.limit)
    return found


def _numbers(column: Column, values: np.ndarray, limit: float) -> np.ndarray:
    import pandas as pd

    gap = pd.isna(values)
    if column.kind == "date":
        numbers = (values - np.datetime64(0, "us")) / np.timedelta64(1, "s")
    elif column.reads_numbers:
        numbers = values
    else:
        numbers = encoded(column.parts[0], values, False, limit)
        numbers[numbers >= len(column.parts[0].levels)] = -1
    return np.where(gap, np.nan, numbers)


def parts_of_numbers(schema: Schema) -> Callable[[Float[Array, "N C"]], Float[Array, "N P"]]:
    """Returns a function that does what `Schema.transform` does, from numbers as `numbers_of_cells` gives them.

    It must be traced with 64-bit numbers enabled.
    """
    places = {name: i for i, name in enumerate(schema.modelled)}

    def transform(numbers: Array) -> Array:
        gaps = jnp.isnan(numbers)
        filled = jnp.where(gaps, 0.0, numbers)  # before anything is computed, whose gradient would be NaN

        def made(column: Column, part: Part) -> Array:
            gap, cell = (of[:, places[column.name]] for of in (gaps, filled))
            if part.what == GAP:
                return gap.astype(jnp.float32)
            return jnp.where(gap, jnp.nan, _made(column, part, cell, schema.limit).astype(jnp.float32))

        return jnp.stack([made(column, part) for column, part in schema.order], axis=1)

    return transform


def _made(column: Column, part: Part, cell: Array, limit: float) -> Array:
    value = _DATE_PARTS[part.what](cell) if part.what else cell
    if part.likelihood in ("gaussian", "count"):
        if part.what == "elapsed":
            nearest = jnp.clip(value, *part.typical)
            value = jnp.where(jnp.abs(value - nearest) > MISTAKEN, value, nearest)
        if part.log:
            shifted = value + part.shift
            some = shifted > 0
            value = jnp.where(some, jnp.log(jnp.where(some, shifted, 1.0)), -jnp.inf)
        return jnp.clip((value - part.mean) / part.sd, -limit, limit)
    numeric = column.numeric or bool(part.what)
    levels = np.array(part.levels, np.float64) if numeric else np.arange(len(part.levels), dtype=np.float64)
    unseen = UNKNOWN if part.likelihood == "bernoulli" else len(levels)
    codes = np.arange(len(levels), dtype=np.float64) - unseen
    return unseen + jnp.where(value[:, None] == levels[None], codes[None], 0.0).sum(1)


def _month(seconds: Array) -> Array:
    """Month of the civil calendar, in whose arithmetic years begin in March, so that a leap day comes last."""
    days = jnp.floor(seconds / DAY) + 719_468  # since 0000-03-01
    of_era = days - 146_097 * jnp.floor(days / 146_097)  # of 400 years
    leap_days = jnp.floor(of_era / 36_524) - jnp.floor(of_era / 1_460) - jnp.floor(of_era / 146_096)
    year = jnp.floor((of_era + leap_days) / 365)
    of_year = of_era - (365 * year + jnp.floor(year / 4) - jnp.floor(year / 100))
    since_march = jnp.floor((5 * of_year + 2) / 153)
    return jnp.where(since_march < 10, since_march + 3, since_march - 9)


def _modulo(x: Array, by: float) -> Array:
    return x - by * jnp.floor(x / by)


# As `tables.parts.part_of` has them.
_DATE_PARTS: dict[str, Callable[[Array], Array]] = {
    "hour": lambda seconds: _modulo(jnp.floor(seconds / 3600), 24),
    "weekday": lambda seconds: _modulo(jnp.floor(seconds / DAY) + 3, 7) + 1,
    "month": _month,
    "elapsed": lambda seconds: seconds / DAY,
}
