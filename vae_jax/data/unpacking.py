"""Unpacking that a decompression bomb, a small file that fills the memory, does not get through."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import zipfile
import zlib
from typing import IO

from vae_jax.data.errors import DataError

# What a file may unpack to: so many bytes, or so many times its size. Tables come to 20 times theirs, bombs to 1,000.
MOST_BYTES, MOST_TIMES = 100_000_000, 200
PIECE = 4_096  # bytes unpacked at once; of bzip2, where so many packed ones are unpacked at once, up to 80 MB
# What Python's modules raise for archives that are damaged or of an unknown kind.
DAMAGE = (OSError, EOFError, ValueError, KeyError, RuntimeError, struct.error)
DAMAGE += (zlib.error, lzma.LZMAError, zipfile.BadZipFile)


def read_at_most(file: IO[bytes] | gzip.GzipFile, most: int) -> bytes:
    """Reads a file to its end, whatever an archive's directory says of its size; raises DataError if it is longer."""
    pieces, length = [], 0
    while piece := file.read(PIECE):
        pieces.append(piece)
        length += len(piece)
        if length > most:
            raise DataError(f"unpacked, it has more than {most:,} bytes")
    return b"".join(pieces)


def gunzip(content: bytes) -> bytes:
    """Unpacks gzip; raises DataError for a bomb and one of `DAMAGE` for damage."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return _read(file, content)


def unzip(content: bytes, archive: zipfile.ZipFile, name: str) -> bytes:
    """Unpacks a member of a zip, of which `content` is the whole; raises as `gunzip` does."""
    with archive.open(name) as file:
        return _read(file, content)


def check_size(content: bytes, archive: zipfile.ZipFile) -> None:
    """Unpacks all members of a zip to see that they are no bomb; raises as `gunzip` does."""
    for name in archive.namelist():
        unzip(content, archive, name)


def _read(file: IO[bytes] | gzip.GzipFile, content: bytes) -> bytes:
    try:
        return read_at_most(file, max(MOST_BYTES, MOST_TIMES * len(content)))
    except DataError as error:
        raise DataError(f"{error} and {MOST_TIMES} times its size; unpack it by hand if that is meant") from None
