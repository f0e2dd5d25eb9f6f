"""A reader as a fuzzer calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


class WrongError(Exception):
    """What was read is not what the input says: a wrong success."""


@dataclass(frozen=True)
class Reader:
    """A reader as a fuzzer calls it.

    Attributes:
      title: what is read, in a few words.
      seeds: makes small valid inputs.
      prepare: given an empty folder, returns what reads one input; it may raise WrongError.
      refusal: the one type of error that is documented; its message is one line.
      words: what inputs of this kind are made of.
      longest: bytes of an input, or twice the longest seed if that is more.
    """

    title: str
    seeds: Callable[[], Sequence[bytes]]
    prepare: Callable[[Path], Callable[[bytes], object]]
    refusal: type[Exception]
    words: Sequence[bytes] = ()
    longest: int = 8_192


def try_one(reader: Reader, read: Callable[[bytes], object], data: bytes) -> bool:
    """Reads an input; returns whether it was accepted.

    Raises WrongError if it was refused in more than one line or none; whatever else the reader raises is raised.
    """
    try:
        read(data)
    except reader.refusal as error:
        if len(str(error).splitlines()) != 1:
            raise WrongError(f"not a message of one line: {str(error)!r}") from error
        return False
    return True
