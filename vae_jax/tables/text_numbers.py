"""Numbers as people write them: decimal commas, thousands, currencies, percent signs, and words for missing cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_jax.data.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    from jaxtyping import Bool, Float, Shaped

# "none" is not among them: in some tables it is a value like any other.
MISSING_WORDS = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "<NA>", "?", "-", "NaT")
)

# In the order of preference: if several fit all cells, the first is taken. So 1,234 alone has thousands, 1.234 hasn't.
_FORMATS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))
_NUMERIC_SHARE = 0.5  # of a column's distinct cells, from which on it has a say in the format

# fmt: off
_CURRENCIES = (
    "AED", "ARS", "AUD", "BGN", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP", "EUR", "GBP", "HKD",
    "HUF", "IDR", "ILS", "INR", "ISK", "JPY", "KES", "KRW", "MXN", "MYR", "NGN", "NOK", "NZD", "PHP", "PLN", "RMB",
    "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR", "A$", "C$", "HK$", "NZ$",
    "R$", "US$", "kr.", "kr", "Kr.", "Kr", "Fr.", "zł", "Kč", "Ft", "$", "€", "£", "¥", "₹", "₽", "₩", "₺", "₴",
    "₪", "₫", "฿", "₦", "₱", "¢",
)
# fmt: on
_CURRENCY = "|".join(map(re.escape, _CURRENCIES))
# Pieces of a number, for RE2 (of Arrow) and Python alike; spaces and signs are unified.
_FRAME = (
    r"^(?P<open>\()? ?(?P<sign>[-+])? ?(?P<before>{currency})? ?(?P<second>[-+])?(?P<body>{body})"
    r"(?P<power>[eE][-+]?[0-9]+)? ?(?P<after>{currency}|%)? ?(?P<close>\))?$"
)
# What is written in several ways: no-break, narrow no-break and thin spaces and tabs, apostrophes, minus signs.
_KINDS = {"\u00a0\u202f\u2009\t": " ", "’": "'", "−": "-"}
_UNIFIED = str.maketrans({character: one for of_a_kind, one in _KINDS.items() for character in of_a_kind})
# A number without any of that, for RE2 and Python alike.
PLAIN = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"


@dataclass(frozen=True)
class NumberFormat:
    """How numbers are written.

    Attributes:
      decimal: the decimal sign, "." or ",".
      thousands: what divides groups of three digits: "", ",", ".", "'" or " ", which stands for any kind of space.

    Examples:
      >>> from dataclasses import asdict
      >>> from vae_jax.tables.text_numbers import NumberFormat
      >>> asdict(NumberFormat(",", "."))
      {'decimal': ',', 'thousands': '.'}
    """

    decimal: str = "."
    thousands: str = ""


def is_missing(cells: Shaped[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Tells which cells are missing.

    Args:
      cells: any dtype; text is stripped.

    Returns:
      True for None, NaN, pandas' NA and NaT, and `MISSING_WORDS`.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.text_numbers import is_missing
      >>> is_missing(np.array(["1", "?", None, "none"], dtype=object)).tolist()
      [False, True, True, False]
    """
    import pandas as pd

    missing = np.asarray(pd.isna(cells), bool)
    if cells.dtype == object:
        missing |= pd.Series(cells, dtype=object).isin(list(MISSING_WORDS)).to_numpy(bool)
    return missing


def recognise(
    columns: Mapping[str, Shaped[np.ndarray, " N"]], decimal: str | None = None, thousands: str | None = None
) -> NumberFormat:
    """Finds the one format in which most cells are numbers.

    All cells of the columns that look like numbers have a say, each distinct one once: those of which at least half the
    distinct cells are numbers in some format. 1,5 and 0,125 have a decimal comma, 1,234,567 and 1,234.5 thousands. If
    several formats fit equally well, 1,234 has thousands and 1.234 has none.

    Args:
      columns: arrays of text and None, perhaps among numbers, by name.
      decimal: the decimal sign, if known.
      thousands: the sign between groups of three digits, if known; "" for none.

    Returns:
      The format.

    Raises:
      DataError: if `decimal` or `thousands` can't be one, or both are the same.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.text_numbers import recognise
      >>> recognise({"amount": np.array(["1.234", "17,5", None], dtype=object)})
      NumberFormat(decimal=',', thousands='.')
    """
    formats = _allowed_formats(decimal, thousands)
    if len(formats) == 1:
        return formats[0]
    votes: Counter[NumberFormat] = Counter()
    any_format = [_pattern(NumberFormat(*pair)) for pair in _FORMATS]
    for cells in columns.values():
        shapes = _shapes(cells)
        total = sum(shapes.values())
        # Shapes without these signs are numbers in every format or in none.
        numeric = {shape: count for shape, count in shapes.items() if any(p.match(shape) for p in any_format)}
        if sum(numeric.values()) < _NUMERIC_SHARE * total:
            continue
        for number_format in formats:
            pattern = _pattern(number_format)
            votes[number_format] += sum(count for shape, count in numeric.items() if pattern.match(shape))
    return max(formats, key=lambda number_format: votes[number_format])  # the first of equals


def to_numbers(
    cells: Shaped[np.ndarray, " N"], number_format: NumberFormat
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Converts cells to numbers.

    A number may have a sign, groups of exactly three digits, an exponent, a currency before or after it and a percent
    sign after it (12 % is 12). (1,234) is negative if a currency, thousands or a decimal sign make clear that it is a
    number. Infinity, hexadecimal digits and numbers beyond float64 are not numbers.

    Args:
      cells: text and None, perhaps among numbers; or numbers of any dtype.
      number_format: how they are written.

    Returns:
      float64, with NaN where a cell is missing or no number; and True for each cell that is neither missing nor a
      number.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.text_numbers import NumberFormat, to_numbers
      >>> cells = np.array(["€ 1.234,50", "-7", "N/A", "abc"], dtype=object)
      >>> numbers, bad = to_numbers(cells, NumberFormat(",", "."))
      >>> numbers.tolist(), bad.tolist()
      ([1234.5, -7.0, nan, nan], [False, False, False, True])
    """
    import pandas as pd

    missing = is_missing(cells)
    if cells.dtype.kind in "biuf":
        numbers = cells.astype(np.float64)
        numbers[~np.isfinite(numbers)] = np.nan
        return numbers, np.isnan(numbers) & ~missing
    known = cells.astype(object)
    known[missing] = None
    codes, distinct = pd.factorize(known)
    is_text = np.fromiter((isinstance(cell, str) for cell in distinct), bool, len(distinct))
    values = np.full(len(distinct) + 1, np.nan)  # the last is for missing cells, whose code is -1
    values[np.flatnonzero(is_text)] = _from_text(distinct[is_text].tolist(), number_format)
    for j in np.flatnonzero(~is_text):
        values[j] = _from_object(distinct[j])
    numbers = values[codes]
    return numbers, np.isnan(numbers) & ~missing


def unit_of(cells: Shaped[np.ndarray, " N"]) -> str:
    """Returns the currency or percent sign of a column.

    Args:
      cells: text and None.

    Returns:
      The sign as written, if all cells that are numbers in some format carry the same; else "".

    Examples:
      >>> import numpy as np
      >>> from vae_jax.tables.text_numbers import unit_of
      >>> unit_of(np.array(["$5", "$1,200.50", "unknown"], dtype=object))
      '$'
    """
    pattern = re.compile(_FRAME.format(currency=_CURRENCY, body=r"[0-9.,' ]*[0-9][0-9.,' ]*?"))
    units = set()
    for shape in _shapes(cells):
        if match := pattern.match(shape):
            units.add(match["before"] or match["after"] or "")
    return units.pop() if len(units) == 1 else ""


def _allowed_formats(decimal: str | None, thousands: str | None) -> list[NumberFormat]:
    """The formats that agree with what is known."""
    thousands = thousands.translate(_UNIFIED) if thousands is not None else None
    if decimal not in (None, ".", ","):
        raise DataError(f"--decimal {decimal!r}: expected '.' or ','")
    if thousands not in (None, "", ",", ".", " ", "'"):
        raise DataError(f"--thousands {thousands!r}: expected ',', '.', ' ', \"'\" or '' for none")
    if decimal is not None and decimal == thousands:
        raise DataError(f"--thousands {thousands!r}: the same as --decimal")
    return [NumberFormat(d, t) for d, t in _FORMATS if decimal in (None, d) and thousands in (None, t)]


def _body(number_format: NumberFormat) -> str:
    """A regular expression of the digits with their signs."""
    decimal, thousands = map(re.escape, (number_format.decimal, number_format.thousands))
    # A group never begins with 0, so 0,125 has a decimal comma.
    whole = rf"[0-9]+|[1-9][0-9]{{0,2}}(?:{thousands}[0-9]{{3}})+" if thousands else "[0-9]+"
    return rf"(?:{whole})(?:{decimal}[0-9]*)?|{decimal}[0-9]+"


def _pattern(number_format: NumberFormat) -> re.Pattern[str]:
    return re.compile(_FRAME.format(currency=_CURRENCY, body=_body(number_format)))


def _shapes(cells: np.ndarray) -> Counter[str]:
    """Counts a column's distinct cells by shape: with 9 for each digit, save a 0 that stands alone."""
    import pandas as pd

    distinct = pd.unique(cells[~is_missing(cells)])
    words = [cell for cell in distinct if isinstance(cell, str)]  # what is typed as a number has no say
    texts = [cell for cell in words if "\n" not in cell]
    if not texts:
        return Counter()
    # All cells at once, as bytes: a regular expression for each would take a second.
    characters = np.frombuffer(("\n".join(texts) + "\n").translate(_UNIFIED).encode(), np.uint8)
    digit = (characters >= ord("0")) & (characters <= ord("9"))
    alone = digit & ~np.roll(digit, 1) & ~np.roll(digit, -1)
    nines = np.where(digit & ~(alone & (characters == ord("0"))), np.uint8(ord("9")), characters)
    shapes = Counter(nines.tobytes().decode().split("\n")[:-1])
    return shapes + Counter({"": len(words) - len(texts)})  # + leaves out what occurs 0 times


def _from_text(texts: list[str], number_format: NumberFormat) -> np.ndarray:
    """Converts words; NaN for those that are no numbers."""
    import pyarrow as pa

    from vae_jax.tables.arrow import pc

    values = np.full(len(texts), np.nan)
    todo = np.arange(len(texts))
    cells = pa.array(texts, pa.large_string())
    if number_format.decimal == ".":
        plain = pc.match_substring_regex(cells, PLAIN).to_numpy(zero_copy_only=False)
        values[plain] = _parse(cells.filter(pa.array(plain)))
        todo = todo[~plain]
    if not len(todo):
        return values
    cells = cells.take(pa.array(todo))
    for of_a_kind, one in _KINDS.items():
        cells = pc.replace_substring_regex(cells, f"[{of_a_kind}]", one)
    cells = pc.utf8_trim_whitespace(cells)
    pattern = _FRAME.format(currency=_CURRENCY, body=_body(number_format))
    pieces = pc.extract_regex(cells, pattern)
    found = pieces.is_valid().to_numpy(zero_copy_only=False)
    pieces = pieces.filter(pa.array(found))
    body, power = pieces.field("body"), pieces.field("power")
    digits = pc.replace_substring(body, number_format.thousands, "") if number_format.thousands else body
    digits = pc.replace_substring(digits, number_format.decimal, ".")
    sizes = _parse(pc.binary_join_element_wise(digits, power, pa.scalar("", pa.large_string())))

    def is_sign(name: str, *signs: str) -> np.ndarray:
        return np.isin(pieces.field(name).to_numpy(zero_copy_only=False).astype("U1"), signs)

    brackets = is_sign("open", "(")
    signs = is_sign("sign", "+", "-").astype(int) + is_sign("second", "+", "-") + brackets
    clear = pc.match_substring_regex(body, "[^0-9]").to_numpy(zero_copy_only=False)
    clear |= ~(is_sign("before", "") & is_sign("after", ""))
    valid = (brackets == is_sign("close", ")")) & (signs <= 1) & (clear | ~brackets)
    negative = brackets | is_sign("sign", "-") | is_sign("second", "-")
    values[todo[found]] = np.where(valid, np.where(negative, -sizes, sizes), np.nan)
    return values


def _parse(numbers: pa.Array) -> np.ndarray:
    """Converts plain numbers; NaN for those beyond float64."""
    import pyarrow as pa

    try:
        values = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # some versions refuse numbers beyond float64, others make them infinite, as NumPy does
        values = np.array(numbers.to_pylist(), np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _from_object(cell: Any) -> float:
    """Converts a typed cell of a column of several types; NaN for dates and the like."""
    if not isinstance(cell, (bool, int, float, np.bool_, np.integer, np.floating)):
        return np.nan
    try:
        value = float(cell)
    except OverflowError:
        return np.nan
    return value if np.isfinite(value) else np.nan
