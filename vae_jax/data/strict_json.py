"""JSON without what Python's reader forgives: NaN and infinity, a name given twice, and numbers beyond float64."""

from __future__ import annotations

import json
import math
from typing import Any


def loads(text: str) -> Any:
    """Reads JSON; raises ValueError for anything else, and for nesting too deep to read."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in record if names.count(name) > 1)!r} is given twice")
    return record


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no finite number")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_float=_finite, parse_constant=_finite)
