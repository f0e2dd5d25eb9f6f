"""Contents of a folder or zip of images: their names, the lists beside them, and a fingerprint."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vae_jax.data.errors import DataError
from vae_jax.data.unpacking import DAMAGE, MOST_BYTES
from vae_jax.images.celeba_lists import ListFile
from vae_jax.images.decoding import SUFFIXES
from vae_jax.images.readers import FolderReader, Reader, ZipReader

PARTITION_LISTS = ("list_eval_partition.csv", "list_eval_partition.txt")
ATTRIBUTE_LISTS = ("list_attr_celeba.csv", "list_attr_celeba.txt")
LISTS = (*PARTITION_LISTS, *ATTRIBUTE_LISTS)
IMAGE_FOLDER = "img_align_celeba"
OTHER_WAYS = "use --data kaggle, --data tfds or --data synthetic, or unpack the pictures and name their folder"


class Found(NamedTuple):
    """Contents of a folder or zip: `Pictures` before the lists are read; `other` is a file that is no picture."""

    names: list[str]
    reader: Reader
    lists: Sequence[ListFile]
    fingerprint: str
    stamp: str
    notices: list[str]
    other: str = ""


def list_folder(path: Path) -> Found:
    """Lists a folder, searched recursively."""
    names, lists, unreadable = [], [], []
    fingerprint, stamp = hashlib.sha256(), hashlib.sha256()
    seen, other = set(), ""
    for folder, subfolders, files in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            subfolders.clear()  # a link to a folder already visited
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        for name in sorted(files):
            file = Path(folder, name)
            if name in LISTS:
                lists.append(file)
            elif name.startswith("."):
                continue
            elif name.lower().endswith(SUFFIXES):
                picture = file.relative_to(path).as_posix()
                if not _is_text(picture):
                    unreadable.append(picture)
                    continue
                names.append(picture)
                size, modified = _status(file)
                fingerprint.update(f"{picture} {size}\n".encode())
                stamp.update(f"{modified}\n".encode())
            else:
                other = other or name
    if not lists:  # the path is the folder of images itself, with the lists beside it
        lists = [path.parent / name for name in LISTS]
        lists = [file for file in lists if path.name == IMAGE_FOLDER and file.is_file()]
    notices = []
    if unreadable:
        example = unreadable[0].encode(errors="surrogateescape").decode(errors="backslashreplace")
        notices.append(f"{len(unreadable):,} pictures whose names are not UTF-8 are left out, e.g. {example}")
    return Found(names, FolderReader(path, names), lists, fingerprint.hexdigest(), stamp.hexdigest(), notices, other)


def _is_text(name: str) -> bool:
    """Whether a file name, which may be any bytes, is UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _status(file: Path) -> tuple[int | None, int | None]:
    """Returns a file's size and modification time; None for a broken link, which the reader will report."""
    try:
        status = file.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def list_zip(path: Path) -> Found:
    """Lists a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename: entry for entry in archive.infolist()}  # the last of each name is read
            entries = archive.namelist()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error})") from error
    except DAMAGE as error:
        with open(path, "rb") as file:
            start = file.read(512).lstrip().lower()
        if start.startswith((b"<!doctype html", b"<html")):
            raise DataError(
                f"{path}: an HTML page, not a zip (Google Drive serves one when its download quota is used up); "
                + OTHER_WAYS
            ) from error
        raise DataError(f"{path}: not a folder and not a readable zip ({error}); {OTHER_WAYS}") from error
    other = next((e for e in entries if not e.endswith("/") and not e.lower().endswith(SUFFIXES)), "")
    entries = [e for e in entries if e.lower().endswith(SUFFIXES) and not _hidden(e)]
    unsafe = [entry for entry in entries if _leads_out(entry)]
    repeated = len(entries) - len(set(entries))
    names = sorted(set(entries) - set(unsafe))
    notices = []
    if unsafe:
        notices.append(f"{len(unsafe):,} entries whose path leads out of the zip are left out, e.g. {unsafe[0]}")
    if repeated:
        notices.append(f"{repeated:,} repeated names in the zip: the last picture of each name counts")
    fingerprint = hashlib.sha256("\n".join(f"{name} {members[name].CRC}" for name in names).encode()).hexdigest()
    beside = [file for name in LISTS if (file := path.parent / name).is_file()]
    lists = [*beside, *_lists_within(path, members.values())]
    return Found(names, ZipReader(path, names), lists, fingerprint, str(_status(path)), notices, other)


def _lists_within(path: Path, members: Iterable[zipfile.ZipInfo]) -> list[zipfile.Path]:
    """The lists in a zip, which count where none lies beside it."""
    found = [m for m in members if PurePosixPath(m.filename).name in LISTS and not _hidden(m.filename)]
    for member in found:
        if member.file_size > MOST_BYTES:
            raise DataError(f"{path}: {member.filename} has {member.file_size:,} bytes, more than {MOST_BYTES:,}")
    return [zipfile.Path(path, member.filename) for member in found if not _leads_out(member.filename)]


def _leads_out(entry: str) -> bool:
    return PurePosixPath(entry).is_absolute() or ".." in PurePosixPath(entry).parts or "\\" in entry


def _hidden(entry: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and not part.startswith("..") for part in PurePosixPath(entry).parts)
