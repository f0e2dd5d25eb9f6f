"""What the tests of pictures share: picture files made on the spot, and a reader that counts."""

import io
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from vae_jax.images.decoding import PictureError
from vae_jax.images.drawn_faces import draw_face
from vae_jax.images.pictures import Pictures, Reader

SIDE = 20  # of the pictures that nothing more is said about


def encoded(picture: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    """A picture file."""
    content = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(content, kind, **options)
    return content.getvalue()


def face(index: int) -> bytes:
    """A PNG file, another one for each index."""
    return encoded(draw_face(0, index, SIDE)[0])


def raw_png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG file put together by hand: Pillow writes neither 16-bit colours nor headers that lie."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def raw_tiff(width: int, height: int, colours: np.ndarray) -> bytes:
    """A TIFF file of one 16-bit colour, which Pillow doesn't write: header, one directory, the depths, the pixels."""
    start, pixels = 8 + 2 + 9 * 12 + 4, colours.astype("<u2").tobytes() * (width * height)
    tags = {256: width, 257: height, 258: start, 259: 1, 262: 2, 273: start + 6, 277: 3, 278: height, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, *((3, 3) if tag == 258 else (4, 1)), n) for tag, n in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<HHH", 16, 16, 16) + pixels


def write_faces(folder: Path, names: Iterable[str]) -> Path:
    """Puts face i under the i-th name; names may have folders in them."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(face(i))
    return folder


def write_zip(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> Path:
    """A zip file whose members may repeat a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(name, content)
    return path


class CountingReader(Reader):
    """Reads faces that are drawn, keeps account of which, and fails where it is told to."""

    def __init__(self, failures: Mapping[int, BaseException] | None = None):
        self.failures = dict(failures or {})
        self.read_rows: list[int] = []
        self._lock = threading.Lock()

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        with self._lock:
            self.read_rows.append(index)
        if index in self.failures:
            raise self.failures[index]
        return draw_face(0, index, size)[0]


def counted(count: int, reader: Reader, fingerprint: str = "counted", stamp: str = "") -> Pictures:
    """Pictures called 0, 1, 2, ..., whose parts are 0, 1, 2, 0, 1, 2, ..."""
    names = tuple(str(i) for i in range(count))
    parts = (np.arange(count) % 3).astype(np.int8)
    return Pictures(names, parts, np.zeros((count, 0), np.int8), (), reader, "a counting reader", fingerprint, stamp)


def unusable(reason: str = "spoilt") -> PictureError:
    """What a reader raises for a picture that can't be used."""
    return PictureError(reason)
