"""Sources of images: a folder, a zip read in place, tensorflow-datasets, or drawn faces.

A source lists its images by name, with their parts (training, validation, test) and, if lists of these are found, their
attributes, and reads one image at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.downloads import download_from_kaggle, earlier_download, local_data, network_answers
from vae_jax.data.errors import DataError, first_line
from vae_jax.data.parts import TEST, TRAIN, TRAIN_SHARE, VALIDATION, VALIDATION_SHARE
from vae_jax.images.celeba_lists import read_attributes, read_partition
from vae_jax.images.decoding import SUFFIXES
from vae_jax.images.drawn_faces import ATTRIBUTES, draw_face
from vae_jax.images.listing import ATTRIBUTE_LISTS, IMAGE_FOLDER, PARTITION_LISTS, Found, list_folder, list_zip
from vae_jax.images.readers import DrawingReader, Reader, RecordReader, SomeReader

if TYPE_CHECKING:
    from jaxtyping import Int

IMAGE_ZIP = f"{IMAGE_FOLDER}.zip"
KAGGLE_SET = "jessicali9530/celeba-dataset"
DRAWN_FACES = 5_000


@dataclass(frozen=True)
class Pictures:
    """A list of images.

    Attributes:
      names: N names, each different.
      parts: 0 training, 1 validation, 2 test; shape (N,), int8.
      attributes: 1 = has it, -1 = lacks it, 0 = unknown; shape (N, A), int8.
      attribute_names: the A names.
      reader: reads image i.
      source: description of where the images come from.
      fingerprint: changes when the images do; equal for copies.
      stamp: also changes with the files' times, so that no change is missed.
      synthetic: whether they are drawn.
      notices: oddities found in the list.

    Examples:
      >>> from vae_jax.images.pictures import find_pictures
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
    notices: tuple[str, ...] = ()


def find_pictures(source: str = "auto", limit: int | None = None, seed: int = 0) -> Pictures:
    """Finds and lists images.

    Args:
      source: `auto`, `kaggle`, `tfds`, `synthetic`, or the path of a folder or zip, of files that
        [`decode`][vae_jax.images.decoding.decode] reads. `auto` takes the first of
        `$VAE_JAX_DATA/celeba`, `data/celeba`, a download from Kaggle, one by tensorflow-datasets and, if no network
        answers within a few seconds, drawn faces.
      limit: number of images to use, with the same share of each part; None uses all.
      seed: seed of the split if no list gives it, of the choice of a limited number, and of drawn faces.

    Returns:
      The list.

    Raises:
      DataError: if the source is missing or can't be used.

    Examples:
      >>> from vae_jax.images.pictures import find_pictures
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
        return read_path(download_from_kaggle(KAGGLE_SET, f"PATH/{IMAGE_ZIP}"), seed, "Kaggle: ")
    if source == "tfds":
        return read_tfds()
    if source != "auto":
        return read_path(Path(source), seed)
    if path := local_data("celeba"):
        return read_path(path, seed)
    if not (earlier_download(KAGGLE_SET) or network_answers()):
        return _find("synthetic", limit, seed)
    try:
        return _find("kaggle", limit, seed)
    except DataError:
        return _find("tfds", limit, seed)


def read_path(path: Path, seed: int = 0, prefix: str = "", with_lists: bool = True) -> Pictures:
    """Lists the images of a folder (searched recursively) or zip file, using the lists beside them if `with_lists`.

    Without a list of parts, `seed` splits them. `prefix` goes before the path in the description of the source. Raises
    DataError if there is no image, a list is malformed, or the file is not a zip.
    """
    if path.is_dir():
        found = list_folder(path)
        if not found.names and (path / IMAGE_ZIP).is_file():
            path = path / IMAGE_ZIP
            found = list_zip(path)
    elif path.exists():
        found = list_zip(path)
    else:
        raise DataError(f"{path}: no such file or folder")
    return _list(found if with_lists else found._replace(lists=[]), path, seed, prefix)


def _list(found: Found, path: Path, seed: int, prefix: str) -> Pictures:
    names, reader, lists, fingerprint, stamp, notices, other = found
    if not names:
        there = f", but {other}" if other else ""
        raise DataError(f"{path}: no picture here{there}; expected files ending in {', '.join(SUFFIXES)}")
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
    """Splits images 70/10/20 at random into training, validation and test, int8."""
    parts = np.full(count, TEST, np.int8)
    order = np.random.default_rng(seed).permutation(count)
    train, validation = round(TRAIN_SHARE * count), round((TRAIN_SHARE + VALIDATION_SHARE) * count)
    parts[order[:train]] = TRAIN
    parts[order[train:validation]] = VALIDATION
    return parts


def _some(pictures: Pictures, limit: int, seed: int) -> Pictures:
    """Chooses images at random, with the same share of each part."""
    rng = np.random.default_rng(seed)
    total = len(pictures.names)
    members = [np.flatnonzero(pictures.parts == part) for part in (TRAIN, VALIDATION, TEST)]
    # The cumulative counts are rounded, so that the counts add up to the limit.
    ends = np.round(limit * np.cumsum([0, *map(len, members)]) / total).astype(int)
    rows = np.sort(np.concatenate([rng.permutation(m)[:n] for m, n in zip(members, np.diff(ends), strict=True)]))
    return Pictures(
        tuple(pictures.names[row] for row in rows),
        pictures.parts[rows],
        pictures.attributes[rows],
        pictures.attribute_names,
        SomeReader(pictures.reader, rows),
        f"{pictures.source} ({len(rows):,} of {total:,})",
        f"{pictures.fingerprint} {hashlib.sha256(rows.tobytes()).hexdigest()}",
        pictures.stamp,
        pictures.synthetic,
        pictures.notices,
    )


def drawn_faces(count: int, seed: int = 0) -> Pictures:
    """Lists faces that are drawn when read, with their attributes as labels."""
    reader = DrawingReader(seed)
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
    """Lists CelebA from tensorflow-datasets, downloading it on first use; TensorFlow is not needed."""
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder("celeb_a", file_format="array_record")
        builder.download_and_prepare()
        splits = [
            builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})  # pyright: ignore
            for split in ("train", "validation", "test")
        ]
    except Exception as error:  # a dozen types, e.g. NonMatchingChecksumError if Drive sends an HTML page
        page = "Google Drive sends a page instead of the file when its quota is used up; "
        hint = page if "Checksum" in type(error).__name__ else ""
        raise DataError(
            f"tensorflow-datasets could not prepare celeb_a ({type(error).__name__}: {first_line(error)[:200]}); {hint}"
            "use --data kaggle or --data synthetic, or name a folder of pictures"
        ) from error
    return list_tfds(splits)


def list_tfds(splits: Sequence) -> Pictures:
    """Lists the records, still encoded, of three data sources (training, validation, test) of `celeb_a`."""
    reader = RecordReader(splits)
    attribute_names = tuple(sorted(splits[0][0]["attributes"]))
    records = [record["attributes"] for split in splits for record in split]
    attributes = np.array([[1 if record[name] else -1 for name in attribute_names] for record in records], np.int8)
    parts = np.repeat(np.array([TRAIN, VALIDATION, TEST], np.int8), [len(split) for split in splits])
    names = tuple(f"{part}/{i}" for part, split in enumerate(splits) for i in range(len(split)))
    return Pictures(
        names, parts, attributes, attribute_names, reader, "tensorflow-datasets: celeb_a", f"tfds celeb_a {len(names)}"
    )
