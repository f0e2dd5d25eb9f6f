"""Dates as people write them: the order of day and month, months by name, times of day and time zones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.tables.text_numbers import is_missing

if TYPE_CHECKING:
    import pyarrow as pa
    from jaxtyping import Bool, Shaped

# Day first before month first. Dashes don't divide numbers of two-digit years: too many orders are in use.
DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d/%b/%Y",
    "%b %d, %Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%d-%b-%y",
)
_TIME, _ZONE = " %H:%M:%S", "%z"  # what follows in a format if a cell has one

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_REST = ("uary", "ruary", "ch", "il", "", "e", "y", "ust", "t(?:ember)?", "ober", "ember", "ember")
_NAMES = "|".join(f"{month}(?:{rest})?" for month, rest in zip(_MONTHS, _REST, strict=True))
_WEEKDAY = r"(?:(?i:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?i:day)?,? )?"
_PIECES = {
    "%Y": r"(?P<year>[0-9]{4})",
    "%y": r"(?P<year>[0-9]{2})",
    "%m": r"(?P<month>[0-9]{1,2})",
    "%d": r"(?P<day>[0-9]{1,2})",
    "%b": rf"(?P<month>(?i:{_NAMES}))\.?",
}
_CLOCK = (
    r"(?:(?:T| +|, *|:)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?)?(?: ?(?P<half>(?i:[ap]m)))?"
    r"(?: ?(?P<zone>Z|UTC|GMT|[-+][0-9]{2}(?::?[0-9]{2})?))?)?"
)
_MICROSECONDS = 1_000_000
_SAMPLE = 1_000


def recognise(cells: Shaped[np.ndarray, " N"]) -> str | None:
    """Finds the format in which every cell that is not missing is a date.

    Where day and month may be either in every cell, the day is taken to be first, as in most countries. The month is
    only if "/" divides them and one of these is so: times have AM or PM; the first number changes and the second
    doesn't (the first of each month); the rows are in order of time that way, and not the other way.

    Args:
      cells: text and None.

    Returns:
      The format in the notation of `strptime`, one of `DATE_FORMATS`, followed by " %H:%M:%S" if any cell has a time of
      day and "%z" if any has a zone; None if there are no dates. Plain numbers like 20240131 are none.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.text_dates import recognise
      >>> recognise(np.array(["03/04/2024", "03/25/2024", None], dtype=object))
      '%m/%d/%Y'
      >>> recognise(np.array(["2024-01-31T10:00:00Z"], dtype=object))
      '%Y-%m-%d %H:%M:%S%z'
    """
    from vae_jax.tables.arrow import pc

    codes, distinct = _distinct(cells)
    if not distinct:
        return None
    fitting: dict[str, tuple[pa.StructArray, np.ndarray]] = {}
    for date_format in DATE_FORMATS:
        # Most formats don't fit the first cells, and other text fits none; to look at all cells takes longer.
        for texts in (distinct[:1], distinct[:_SAMPLE], distinct):
            pieces = _extract(texts, date_format)
            dates = _dates(pieces, date_format)
            if np.isnat(dates).any():
                break
        else:
            fitting[date_format] = pieces, dates
    if not fitting:
        return None
    chosen = next(iter(fitting))
    if list(fitting) in (["%d/%m/%Y", "%m/%d/%Y"], ["%d/%m/%y", "%m/%d/%y"]):
        day_first, month_first = (dates for _, dates in fitting.values())
        chosen = list(fitting)[_month_first(codes, distinct, day_first, month_first)]
    has_time, has_zone = (pc.any(pc.not_equal(fitting[chosen][0].field(name), "")).as_py() for name in ("hour", "zone"))
    return chosen + (_TIME if has_time else "") + (_ZONE if has_zone else "")


def to_dates(
    cells: Shaped[np.ndarray, " N"], date_format: str
) -> tuple[Shaped[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Converts cells to dates.

    Args:
      cells: text and None.
      date_format: from `recognise`. Only the date's part counts: any cell may have a time of day, a fraction of a
        second and a zone.

    Returns:
      datetime64[us] in UTC (a time without a zone counts as UTC), with NaT where a cell is missing or no date; and True
      for each cell that is neither missing nor a date.

    Raises:
      ValueError: if there is no such format.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.text_dates import to_dates
      >>> dates, bad = to_dates(np.array(["31.01.2024 10:30", "30.02.2024"], dtype=object), "%d.%m.%Y")
      >>> dates[0], bad.tolist()
      (np.datetime64('2024-01-31T10:30:00.000000'), [False, True])
    """
    date_format = date_format.removesuffix(_ZONE).removesuffix(_TIME)
    if date_format not in DATE_FORMATS:
        raise ValueError(f"unknown format of dates {date_format!r}")
    codes, distinct = _distinct(cells)
    known = _dates(_extract(distinct, date_format), date_format)
    dates = np.append(known, np.datetime64("NaT", "us"))[codes]  # a missing cell has code -1
    return dates, np.isnat(dates) & (codes >= 0)


def _distinct(cells: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Returns each cell's place among the distinct ones, -1 for a missing cell, and these in order of occurrence."""
    import pandas as pd

    known = cells.astype(object)
    known[is_missing(cells)] = None
    codes, distinct = pd.factorize(known)
    return codes, [str(cell).strip() for cell in distinct]


def _pattern(date_format: str) -> str:
    """A regular expression, for RE2 (of Arrow) and Python alike."""
    date = re.escape(date_format)
    for piece, expression in _PIECES.items():
        date = date.replace(piece, expression)
    date = date.replace(r"\ ", " ").replace(r"\-", "-").replace(", ", ",? ")
    return (_WEEKDAY if "%b" in date_format else "") + date + _CLOCK


def _extract(texts: list[str], date_format: str) -> pa.StructArray:
    """Takes dates apart, "" for a piece that isn't there; null for what has another format."""
    import pyarrow as pa

    from vae_jax.tables.arrow import pc

    return pc.extract_regex(pa.array(texts, pa.large_string()), f"^(?:{_pattern(date_format)})$")


def _dates(pieces: pa.StructArray, date_format: str) -> np.ndarray:
    """Puts dates together; NaT for what has another format, and for days and times that don't exist."""
    from vae_jax.tables.arrow import pc

    dates = np.full(len(pieces), np.datetime64("NaT", "us"))
    found = pieces.is_valid().to_numpy(zero_copy_only=False)
    pieces = pieces.filter(pieces.is_valid())

    def number(name: str) -> np.ndarray:
        return _integers(pieces.field(name))

    if "%b" in date_format:
        starts = pc.utf8_slice_codeunits(pc.ascii_lower(pieces.field("month")), 0, 3)
        month = np.select([starts.to_numpy(zero_copy_only=False) == name for name in _MONTHS], range(1, 13))
    else:
        month = number("month")
    hour, minute, second = number("hour"), number("minute"), number("second")
    half = pc.ascii_lower(pieces.field("half")).to_numpy(zero_copy_only=False)
    halved = half != ""
    valid = (month >= 1) & (month <= 12) & (minute <= 59) & (second <= 59)
    valid &= (hour <= 23) | ((hour == 24) & (minute == 0) & (second == 0))  # 24:00 is the end of the day
    valid &= ~halved | ((hour >= 1) & (hour <= 12))
    hour = np.where(halved, hour % 12 + 12 * (half == "pm"), hour)
    fraction = _integers(pc.utf8_slice_codeunits(pc.utf8_rpad(pieces.field("fraction"), 6, "0"), 0, 6))

    year = number("year")
    if "%y" in date_format:  # as POSIX has it
        year = year + np.where(year < 69, 2000, 1900)
    first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    day = first.astype("datetime64[D]") + (number("day") - 1)
    valid &= day.astype("datetime64[M]") == first  # no 30 February, and no day 0
    minutes = hour * 60 + minute - _offset(pieces.field("zone"))
    found_dates = day.astype("datetime64[us]") + (minutes * 60 + second) * _MICROSECONDS + fraction
    dates[found] = np.where(valid, found_dates, np.datetime64("NaT", "us"))
    return dates


def _integers(texts: pa.Array) -> np.ndarray:
    """Converts digits; 0 for ""."""
    import pyarrow as pa

    from vae_jax.tables.arrow import pc

    return pc.cast(pc.utf8_lpad(texts, 2, "0"), pa.int64()).to_numpy(zero_copy_only=False)


def _offset(zones: pa.Array) -> np.ndarray:
    """Minutes by which a zone is ahead of UTC."""
    # Few zones, many cells.
    encoded = zones.dictionary_encode()
    minutes = [0] * (len(encoded.dictionary) + 1)
    for j, zone in enumerate(encoded.dictionary.to_pylist()):
        if zone[:1] in ("+", "-"):
            digits = zone[1:].replace(":", "").ljust(4, "0")
            minutes[j] = (int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    return np.array(minutes)[encoded.indices.to_numpy(zero_copy_only=False)]


def _month_first(codes: np.ndarray, distinct: list[str], day_first: np.ndarray, month_first: np.ndarray) -> bool:
    """Whether dates that may be both are likelier to be month/day/year."""
    if any(text[-2:].lower() in ("am", "pm") for text in distinct):
        return True
    numbers = [text.split("/", 2)[:2] for text in distinct]
    firsts, seconds = ({int(pair[place]) for pair in numbers} for place in (0, 1))
    if (len(firsts) == 1) != (len(seconds) == 1):
        return len(seconds) == 1
    rows = codes[codes >= 0]

    def ordered(dates: np.ndarray) -> bool:
        return bool((dates[rows][1:] >= dates[rows][:-1]).all())

    return ordered(month_first) and not ordered(day_first)
