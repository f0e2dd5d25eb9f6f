"""Readers of pictures: single ones, zips of them, their lists, and MNIST's files."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.readers.reader import Reader, WrongError
from vae_jax.data.errors import DataError
from vae_jax.images import digits
from vae_jax.images.celeba_lists import read_attributes, read_partition
from vae_jax.images.decoding import PictureError, decode
from vae_jax.images.pictures import read_path

SIZE = 16
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF")


def _picture(kind: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE + 4), np.uint8)
    Image.fromarray(noise).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _picture_seeds() -> list[bytes]:
    modes = [_picture("PNG", mode) for mode in ("L", "P", "RGBA", "1", "I;16")] + [_picture("JPEG", "CMYK")]
    packed = [_picture("TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    return [*(_picture(kind) for kind in FORMATS), *modes, *packed]


def _decode(data: bytes) -> None:
    for crop in ("none", "center"):
        pixels = decode(data, SIZE, crop)
        if pixels.shape != (SIZE, SIZE, 3) or pixels.dtype != np.uint8:
            raise WrongError(f"{pixels.dtype}{pixels.shape}")


PICTURE_WORDS = (
    *b"IHDR IDAT IEND PLTE tRNS iCCP zTXt iTXt eXIf acTL RIFF WEBP VP8L VP8X BM ftypavif ftypheic".split(),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xc0", b"\xff\xc2", b"\xff\xe1", b"Exif\0\0", b"\xff\xda"),
    *(b"II*\0", b"MM\0*", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01"),
)
picture = Reader("single pictures", _picture_seeds, lambda folder: _decode, PictureError, PICTURE_WORDS)


# Zips


def _zip_of(members: dict[str, bytes], compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def _zip_seeds() -> list[bytes]:
    members = {"a.png": _picture("PNG", "L"), "in/b.jpg": _picture("JPEG", "L"), "../c.png": b"", "d.txt": b"text"}
    lists = {"list_eval_partition.txt": b"a.png 0\nb.jpg 1\n", "list_attr_celeba.txt": b"2\nBald\na.png -1\nb.jpg 1\n"}
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [_zip_of({**members, **lists}, kind) for kind in kinds]


def _prepare_zip(folder: Path) -> Callable[[bytes], object]:
    path = folder / "pictures.zip"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = read_path(path)
        for i, name in enumerate(found.names[:3]):
            if name.startswith("/") or ".." in name.split("/"):
                raise WrongError(f"{name} leads out of the zip")
            try:
                found.reader.read(i, SIZE, "none")
            except PictureError as error:
                if len(str(error).splitlines()) != 1:
                    raise WrongError(f"not a message of one line: {str(error)!r}") from error

    return read


ZIP_WORDS = (
    *(b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7"),
    *(b"../", b"/", b"\\", b".png", b"\xff\xff\xff\xff", b"\0\0"),
)
picture_zip = Reader("zips of pictures", _zip_seeds, _prepare_zip, DataError, ZIP_WORDS)


# Lists. The first byte of an input tells which.


NAMES = ["a.jpg", "b.jpg", "c.jpg"]
LISTS = {  # seeds, by kind and name of the file
    "list_eval_partition.txt": b"a.jpg 0\nb.jpg 1\nc.jpg 2\n",
    "list_eval_partition.csv": b"image_id,partition\na.jpg,0\nb.jpg,1\nc.jpg,2\n",
    "list_attr_celeba.txt": b"3\nBald Male\na.jpg -1 1\nb.jpg 1 1\nc.jpg -1 -1\n",
    "list_attr_celeba.csv": b"image_id,Bald,Male\na.jpg,-1,1\nb.jpg,1,1\nc.jpg,-1,-1\n",
}


def _prepare_lists(folder: Path) -> Callable[[bytes], object]:
    paths = [folder / name for name in LISTS]

    def read(data: bytes) -> None:
        path = paths[data[0] % len(paths) if data else 0]
        path.write_bytes(data[1:])
        if "partition" in path.name:
            allowed, values = {0, 1, 2}, read_partition(path, NAMES)[0]
        else:
            allowed, values = {-1, 0, 1}, read_attributes(path, NAMES)[0]
        if len(values) != len(NAMES) or not set(values.ravel().tolist()) <= allowed:
            raise WrongError(f"{values.tolist()}")

    return read


LIST_WORDS = (b"a.jpg", b"b.jpg", b"-1", b"0", b"1", *(bytes([code]) for code in b' ,\n\r\0"\xff\x85'), b"\xef\xbb\xbf")
lists = Reader(
    "lists of parts and attributes",
    lambda: [bytes([i]) + content for i, content in enumerate(LISTS.values())],
    _prepare_lists,
    DataError,
    LIST_WORDS,
)


# MNIST. The first byte of an input tells which of the four files it is, and whether it is gzipped.


def _idx_files() -> list[bytes]:
    images = struct.pack(">4i", digits.IMAGES, 2, digits.SIDE, digits.SIDE) + bytes(range(256)) * 6 + bytes(32)
    labels = struct.pack(">2i", digits.LABELS, 2) + bytes([3, 7])
    return [images, labels, images, labels]


def _prepare_idx(folder: Path) -> Callable[[bytes], object]:
    names = [digits.FILES[i] + suffix for suffix in ("", ".gz") for i in range(4)]

    def read(data: bytes) -> None:
        for name, content in zip(digits.FILES, _idx_files(), strict=True):
            (folder / name).write_bytes(content)
            (folder / f"{name}.gz").unlink(missing_ok=True)
        name = names[data[0] % len(names) if data else 0]
        (folder / name.removesuffix(".gz")).unlink()
        (folder / name).write_bytes(data[1:])
        found = digits.read_folder(folder)
        if found.train.shape[1] != 784 or max(found.train_labels.max(), found.test_labels.max()) > 9:
            raise WrongError(f"{found.train.shape}")

    return read


def _idx_seeds() -> list[bytes]:
    files = _idx_files()
    packed = [gzip.compress(content, 1, mtime=0) for content in files]
    return [bytes([i]) + content for i, content in enumerate([*files, *packed])]


IDX_WORDS = (b"\0\0\x08\x03", b"\0\0\x08\x01", b"\x1f\x8b\x08", b"\xff" * 4)
idx = Reader("MNIST's files", _idx_seeds, _prepare_idx, DataError, IDX_WORDS)
