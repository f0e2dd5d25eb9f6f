"""Readers of single images: from a folder, a zip, tensorflow-datasets records, or drawn."""

from __future__ import annotations

import errno
import stat
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.errors import DataError
from vae_jax.data.unpacking import DAMAGE, MOST_BYTES, read_at_most
from vae_jax.images.decoding import PictureError, decode
from vae_jax.images.drawn_faces import draw_face

if TYPE_CHECKING:
    from jaxtyping import UInt8


class Reader(ABC):
    """Reads images by index. Safe to call from several threads.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.images.pictures import Reader
      >>> class Grey(Reader):
      ...     def read(self, index, size, crop):
      ...         return np.full((size, size, 3), index, np.uint8)
      >>> Grey().read(7, size=32, crop="none").shape
      (32, 32, 3)
    """

    @abstractmethod
    def read(self, index: int, size: int, crop: str) -> UInt8[np.ndarray, "size size 3"]:
        """Returns an image; raises PictureError if it can't be used, DataError if it can't be read now."""


@dataclass(frozen=True)
class FolderReader(Reader):
    """Reads files by name from a folder."""

    folder: Path
    names: Sequence[str]

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        path = self.folder / self.names[index]
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
                raise PictureError("not a file")
            if status.st_size > MOST_BYTES:
                raise PictureError(f"{status.st_size:,} bytes are more than {MOST_BYTES:,}")
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise PictureError(error.strerror) from error
        except OSError as error:  # may be temporary, so the image is not left out for good
            raise DataError(f"{path}: can't be read ({error.strerror or error})") from error
        return decode(data, size, crop)


class ZipReader(Reader):
    """Reads members of a zip without unpacking it."""

    def __init__(self, path: Path, names: Sequence[str]):
        self._path, self._names = path, names
        self._open = threading.local()  # a ZipFile has one position, so each thread opens its own

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        if not hasattr(self._open, "archive"):
            self._open.archive = zipfile.ZipFile(self._path)
        try:
            with self._open.archive.open(self._names[index]) as file:
                data = read_at_most(file, MOST_BYTES)
        except DataError as error:
            raise PictureError(error) from error
        except DAMAGE as error:
            # Those of modules that unpack have no number, and EINVAL is a place that no file can have.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # as in FolderReader
                raise DataError(f"{self._path}: can't be read ({error.strerror or error})") from error
            raise PictureError(f"can't be unpacked ({error})") from error
        return decode(data, size, crop)


@dataclass(frozen=True)
class RecordReader(Reader):
    """Reads tensorflow-datasets records, one data source after another."""

    splits: Sequence

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        for split in self.splits:
            if index < len(split):
                return decode(bytes(split[index]["image"]), size, crop)
            index -= len(split)
        raise IndexError(index)


@dataclass(frozen=True)
class DrawingReader(Reader):
    """Draws a face for each index."""

    seed: int

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        return draw_face(self.seed, index, size)[0]


@dataclass(frozen=True)
class SomeReader(Reader):
    """Reads a subset of another reader's images."""

    reader: Reader
    rows: np.ndarray

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        return self.reader.read(int(self.rows[index]), size, crop)
