"""Where pictures come from: a folder, a zip read in place, tensorflow-datasets, or the drawing of faces.

A source lists its pictures by name, with the part (training, validation, test) and the attributes of each where lists
of these are found, and reads one picture at a time.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vae_jax.data.decoding import PictureError, decode
from vae_jax.data.downloads import download_from_kaggle, network_answers
from vae_jax.data.drawn_faces import ATTRIBUTES, draw_face
from vae_jax.data.errors import DataError
from vae_jax.data.lists import read_attributes, read_partition
from vae_jax.data.splits import TEST, TRAIN, TRAIN_SHARE, VALIDATION, VALIDATION_SHARE

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

SUFFIXES = (".jpg", ".jpeg", ".png")
PARTITION_LISTS = ("list_eval_partition.csv", "list_eval_partition.txt")
ATTRIBUTE_LISTS = ("list_attr_celeba.csv", "list_attr_celeba.txt")
IMAGE_FOLDER = "img_align_celeba"
IMAGE_ZIP = f"{IMAGE_FOLDER}.zip"
MOST_BYTES = 100_000_000  # of a picture in a zip, unpacked; more is taken for a decompression bomb
KAGGLE_SET = "jessicali9530/celeba-dataset"
DRAWN_FACES = 5_000
OTHER_WAYS = "use --data kaggle, --data tfds or --data synthetic, or unpack the pictures and name their folder"


class Reader(ABC):
    """Reads pictures by number. Safe to call from several threads.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.data.pictures import Reader
      >>> class Grey(Reader):
      ...     def read(self, index, size, crop):
      ...         return np.full((size, size, 3), index, np.uint8)
      >>> Grey().read(7, size=32, crop="none").shape
      (32, 32, 3)
    """

    @abstractmethod
    def read(self, index: int, size: int, crop: str) -> UInt8[np.ndarray, "size size 3"]:
        """Returns a picture; raises PictureError if it can't be used, DataError if it can't be read now."""


@dataclass(frozen=True)
class Pictures:
    """A list of pictures.

    Attributes:
      names: N names, each different.
      parts: 0 training, 1 validation, 2 test; shape (N,), int8.
      attributes: 1 = has it, -1 = has it not, 0 = unknown; shape (N, A), int8.
      attribute_names: the A names.
      reader: reads picture i.
      source: where the pictures come from, in words for a person.
      fingerprint: changes when the pictures do; alike for copies.
      stamp: changes with the files' times, too, so that no change is overlooked.
      synthetic: whether they are drawn.
      notices: what was odd about the list.

    Examples:
      >>> from vae_jax.data.pictures import find_pictures
      >>> pictures = find_pictures("synthetic", limit=10)
      >>> pictures.reader.read(3, size=32, crop="none").shape
      (32, 32, 3)
      >>> dict(zip(pictures.attribute_names, pictures.attributes[3].tolist()))["Bald"] in (-1, 1)
      True
    """

    names: tuple[str, ...]
    parts: Int[np.ndarray, " N"]
    attributes: Int[np.ndarray, "N A"]
    attribute_names: tuple[str, ...]
    reader: Reader
    source: str
    fingerprint: str
    stamp: str = ""
    synthetic: bool = False
    notices: tuple[str, ...] = field(default=())


def find_pictures(source: str = "auto", limit: int | None = None, seed: int = 0) -> Pictures:
    """Finds and lists pictures.

    Args:
      source: `auto`, `kaggle`, `tfds`, `synthetic`, or the path of a folder or zip. `auto` takes the first of
        `$VAE_JAX_DATA/celeba`, `data/celeba`, a download from Kaggle, one by tensorflow-datasets, and, where no network
        answers within some seconds, drawn faces.
      limit: use only this many pictures, the same share of each part.
      seed: of the split where there is no list of it, of the choice of a limited number, and of drawn faces.

    Returns:
      The list.

    Raises:
      DataError: if the source is missing or can't be used.

    Examples:
      >>> from vae_jax.data.pictures import find_pictures
      >>> pictures = find_pictures("synthetic", limit=100)
      >>> len(pictures.names), pictures.attribute_names[:2]
      (100, ('Smiling', 'Eyeglasses'))
    """
    pictures = _find(source, limit, seed)
    return pictures if limit is None or limit >= len(pictures.names) else _some(pictures, limit, seed)


def _find(source: str, limit: int | None, seed: int) -> Pictures:
    if source == "synthetic":
        return drawn_faces(limit or DRAWN_FACES, seed)
    if source == "kaggle":
        return read_path(_kaggle(), seed, "Kaggle: ")
    if source == "tfds":
        return read_tfds()
    if source != "auto":
        return read_path(Path(source), seed)
    folders = [Path(os.environ["VAE_JAX_DATA"])] if os.environ.get("VAE_JAX_DATA") else []
    for folder in [*folders, Path("data")]:
        if (folder / "celeba").exists():
            return read_path(folder / "celeba", seed)
    if not network_answers():
        return _find("synthetic", limit, seed)
    try:
        return _find("kaggle", limit, seed)
    except DataError:
        return _find("tfds", limit, seed)


def _kaggle() -> Path:
    return download_from_kaggle(KAGGLE_SET, "PATH/img_align_celeba.zip")


def read_path(path: Path, seed: int = 0, prefix: str = "", with_lists: bool = True) -> Pictures:
    """Lists the pictures of a folder (any layout, searched through) or of a zip file, and the lists beside them.

    Args:
      path: a folder or a zip file.
      seed: of the split, where there is no list of parts.
      prefix: put before the path in the source's description.
      with_lists: whether lists of parts and attributes are looked for.

    Returns:
      The list, by name.

    Raises:
      DataError: if there is no picture, a list is malformed, or the file is not a zip.
    """
    if path.is_dir():
        found = _folder(path)
        if not found.names and (path / IMAGE_ZIP).is_file():
            path = path / IMAGE_ZIP
            found = _zip(path)
    elif path.exists():
        found = _zip(path)
    else:
        raise DataError(f"{path}: no such file or folder")
    return _list(found if with_lists else found._replace(lists=[]), path, seed, prefix)


class _Found(NamedTuple):
    """What a folder or a zip holds: `Pictures`, before the lists are read."""

    names: list[str]
    reader: Reader
    lists: list[Path]
    fingerprint: str
    stamp: str
    notices: list[str]


def _folder(path: Path) -> _Found:
    names, lists, unreadable = [], [], []
    fingerprint, stamp = hashlib.sha256(), hashlib.sha256()
    seen = set()
    for folder, subfolders, files in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()  # a link that leads back
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        for name in sorted(files):
            file = Path(folder, name)
            if name in (*PARTITION_LISTS, *ATTRIBUTE_LISTS):
                lists.append(file)
            elif name.lower().endswith(SUFFIXES) and not name.startswith("."):
                picture = file.relative_to(path).as_posix()
                if not _is_text(picture):
                    unreadable.append(picture)
                    continue
                names.append(picture)
                size, modified = _status(file)
                fingerprint.update(f"{picture} {size}\n".encode())
                stamp.update(f"{modified}\n".encode())
    if not lists:  # a folder of pictures was named, and its lists lie beside it
        lists = [path.parent / name for name in (*PARTITION_LISTS, *ATTRIBUTE_LISTS)]
        lists = [file for file in lists if path.name == IMAGE_FOLDER and file.is_file()]
    notices = []
    if unreadable:
        example = unreadable[0].encode(errors="surrogateescape").decode(errors="backslashreplace")
        notices.append(f"{len(unreadable):,} pictures whose names are not UTF-8 are left out, e.g. {example}")
    return _Found(names, _FolderReader(path, names), lists, fingerprint.hexdigest(), stamp.hexdigest(), notices)


def _is_text(name: str) -> bool:
    """Whether a file's name, which may be any bytes, is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _status(file: Path) -> tuple[int | None, int | None]:
    """Returns a file's size and time of change; None for a link to nowhere, of which the reader will say so."""
    try:
        status = file.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def _zip(path: Path) -> _Found:
    try:
        with zipfile.ZipFile(path) as archive:
            checksums = {entry.filename: entry.CRC for entry in archive.infolist()}  # the last of each name, as is read
            entries = archive.namelist()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from error
    except zipfile.BadZipFile as error:
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            raise DataError(
                f"{path}: an HTML page, not a zip (Google Drive serves one when its download quota is used up); "
                + OTHER_WAYS
            ) from error
        raise DataError(f"{path}: not a folder and not a readable zip ({error}); {OTHER_WAYS}") from error
    entries = [e for e in entries if e.lower().endswith(SUFFIXES) and not _hidden(e)]
    unsafe = [e for e in entries if PurePosixPath(e).is_absolute() or ".." in PurePosixPath(e).parts or "\\" in e]
    repeated = len(entries) - len(set(entries))
    names = sorted(set(entries) - set(unsafe))
    notices = []
    if unsafe:
        notices.append(f"{len(unsafe):,} entries whose path leads out of the zip are left out, e.g. {unsafe[0]}")
    if repeated:
        notices.append(f"{repeated:,} repeated names in the zip: the last picture of each name counts")
    fingerprint = hashlib.sha256("\n".join(f"{name} {checksums[name]}" for name in names).encode()).hexdigest()
    lists = [file for name in (*PARTITION_LISTS, *ATTRIBUTE_LISTS) if (file := path.parent / name).is_file()]
    return _Found(names, _ZipReader(path, names), lists, fingerprint, str(_status(path)), notices)


def _hidden(entry: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and not part.startswith("..") for part in PurePosixPath(entry).parts)


def _list(found: _Found, path: Path, seed: int, prefix: str) -> Pictures:
    names, reader, lists, fingerprint, stamp, notices = found
    if not names:
        raise DataError(f"{path}: no picture here (files ending in {', '.join(SUFFIXES)})")
    keys, notices = [PurePosixPath(name).name for name in names], list(notices)
    if lists and len(set(keys)) < len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise DataError(f"{path}: {twice} is there more than once, so that the lists don't tell which one they mean")
    by_name = {file.name: file for file in reversed(lists)}
    partition = next((by_name[name] for name in PARTITION_LISTS if name in by_name), None)
    if partition:
        parts, odd = read_partition(partition, keys)
        notices += odd
    else:
        parts = seeded_parts(len(names), seed)
    attribute_list = next((by_name[name] for name in ATTRIBUTE_LISTS if name in by_name), None)
    attributes, attribute_names = np.zeros((len(names), 0), np.int8), ()
    if attribute_list:
        attributes, attribute_names, odd = read_attributes(attribute_list, keys)
        notices += odd
    return Pictures(
        tuple(names),
        parts,
        attributes,
        attribute_names,
        reader,
        f"{prefix}{path}",
        fingerprint,
        stamp,
        notices=tuple(notices),
    )


def seeded_parts(count: int, seed: int) -> Int[np.ndarray, " N"]:
    """Divides pictures 70/10/20 at random into training, validation and test, int8."""
    parts = np.full(count, TEST, np.int8)
    order = np.random.default_rng(seed).permutation(count)
    train, validation = round(TRAIN_SHARE * count), round((TRAIN_SHARE + VALIDATION_SHARE) * count)
    parts[order[:train]] = TRAIN
    parts[order[train:validation]] = VALIDATION
    return parts


def _some(pictures: Pictures, limit: int, seed: int) -> Pictures:
    """Chooses pictures at random, the same share of each part."""
    rng = np.random.default_rng(seed)
    total = len(pictures.names)
    members = [np.flatnonzero(pictures.parts == part) for part in (TRAIN, VALIDATION, TEST)]
    # Rounded in sum, not each by itself, so that they add up to the limit.
    ends = np.round(limit * np.cumsum([0, *map(len, members)]) / total).astype(int)
    rows = np.sort(np.concatenate([rng.permutation(m)[:n] for m, n in zip(members, np.diff(ends), strict=True)]))
    return Pictures(
        tuple(pictures.names[row] for row in rows),
        pictures.parts[rows],
        pictures.attributes[rows],
        pictures.attribute_names,
        _Some(pictures.reader, rows),
        f"{pictures.source} ({len(rows):,} of {total:,})",
        f"{pictures.fingerprint} {hashlib.sha256(rows.tobytes()).hexdigest()}",
        pictures.stamp,
        pictures.synthetic,
        pictures.notices,
    )


def drawn_faces(count: int, seed: int = 0) -> Pictures:
    """Lists faces that are drawn when read, with their attributes as labels."""
    reader = _Drawer(seed)
    attributes = np.array([draw_face(seed, i, None)[1] for i in range(count)], np.int8).reshape(count, len(ATTRIBUTES))
    return Pictures(
        tuple(f"{i:06}" for i in range(count)),
        seeded_parts(count, seed),
        attributes,
        ATTRIBUTES,
        reader,
        "the built-in drawn faces",
        f"drawn faces 1 {seed} {count}",
        synthetic=True,
    )


def read_tfds() -> Pictures:
    """Lists CelebA as tensorflow-datasets prepares it, downloading it on first use; TensorFlow is not needed."""
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder("celeb_a", file_format="array_record")
        builder.download_and_prepare()
        splits = [
            builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})  # pyright: ignore
            for split in ("train", "validation", "test")
        ]
    except Exception as error:  # a dozen types, among them NonMatchingChecksumError where Drive sends an HTML page
        reason = (str(error) or type(error).__name__).splitlines()[0]
        page = "Google Drive sends a page instead of the file when its quota is used up; "
        hint = page if "Checksum" in type(error).__name__ else ""
        raise DataError(
            f"tensorflow-datasets could not prepare celeb_a ({type(error).__name__}: {reason[:200]}); {hint}"
            "use --data kaggle or --data synthetic, or name a folder of pictures"
        ) from error
    return list_tfds(splits)


def list_tfds(splits: Sequence) -> Pictures:
    """Lists the records of three data sources (training, validation, test) of `celeb_a`, pictures still encoded."""
    reader = _RecordReader(splits)
    attribute_names = tuple(sorted(splits[0][0]["attributes"]))
    records = [record["attributes"] for split in splits for record in split]
    attributes = np.array([[1 if record[name] else -1 for name in attribute_names] for record in records], np.int8)
    parts = np.repeat(np.array([TRAIN, VALIDATION, TEST], np.int8), [len(split) for split in splits])
    names = tuple(f"{part}/{i}" for part, split in enumerate(splits) for i in range(len(split)))
    return Pictures(
        names, parts, attributes, attribute_names, reader, "tensorflow-datasets: celeb_a", f"tfds celeb_a {len(names)}"
    )


@dataclass(frozen=True)
class _FolderReader(Reader):
    folder: Path
    names: Sequence[str]

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        try:
            data = (self.folder / self.names[index]).read_bytes()
        except FileNotFoundError as error:
            raise PictureError(error.strerror) from error
        except OSError as error:  # which may pass: no reason to do without the picture for good
            raise DataError(f"{self.folder / self.names[index]}: can't be read ({error.strerror or error})") from error
        return decode(data, size, crop)


class _ZipReader(Reader):
    def __init__(self, path: Path, names: Sequence[str]):
        self._path, self._names = path, names
        self._open = threading.local()  # a ZipFile has one position, so each thread opens its own

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        if not hasattr(self._open, "archive"):
            self._open.archive = zipfile.ZipFile(self._path)
        try:
            if (length := self._open.archive.getinfo(self._names[index]).file_size) > MOST_BYTES:
                raise PictureError(f"{length:,} bytes unpacked are more than {MOST_BYTES:,}")
            data = self._open.archive.read(self._names[index])
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise PictureError(f"can't be unpacked ({error})") from error
        return decode(data, size, crop)


@dataclass(frozen=True)
class _RecordReader(Reader):
    splits: Sequence

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        for split in self.splits:
            if index < len(split):
                return decode(bytes(split[index]["image"]), size, crop)
            index -= len(split)
        raise IndexError(index)


@dataclass(frozen=True)
class _Drawer(Reader):
    seed: int

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        return draw_face(self.seed, index, size)[0]


@dataclass(frozen=True)
class _Some(Reader):
    reader: Reader
    rows: np.ndarray

    def read(self, index: int, size: int, crop: str) -> np.ndarray:
        return self.reader.read(int(self.rows[index]), size, crop)
