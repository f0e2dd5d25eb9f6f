"""MNIST: its four idx files, a download of them, or digits drawn from a font.

The set (LeCun et al. 1998, http://yann.lecun.com/exdb/mnist) has 60,000 training and 10,000 test images, 28 x 28, grey.
An idx file is a header of big-endian numbers, the type and the sizes, and then the bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.downloads import download_from_kaggle, earlier_download, local_data, network_answers
from vae_jax.data.errors import DataError, first_line
from vae_jax.data.unpacking import DAMAGE

if TYPE_CHECKING:
    from jaxtyping import UInt8

KAGGLE_SET = "hojjatk/mnist-dataset"
SIDE = 28
CLASSES = 10
# Names of the files, in the order training images and labels, test images and labels. Kaggle's have a dot before "idx".
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IMAGES, LABELS = 2051, 2049  # the first number of an idx file: unsigned bytes in three dimensions, or in one
MOST_IMAGES = 1_000_000  # a header that says more is damaged
DRAWN_TRAINING, DRAWN_TEST = 10_000, 2_000


@dataclass(frozen=True)
class Digits:
    """Images of handwritten digits, in two parts.

    Attributes:
      train, test: grey values, 0 = paper, 255 = ink; shapes (N, 784) and (M, 784), uint8.
      train_labels, test_labels: the digits 0 to 9, shapes (N,) and (M,), uint8.
      source: description of where they come from.
      synthetic: whether they are drawn.

    Examples:
      >>> from vae_jax.images.digits import find_digits
      >>> digits = find_digits("synthetic")
      >>> digits.train.shape, digits.test.shape
      ((10000, 784), (2000, 784))
    """

    train: UInt8[np.ndarray, "N 784"]
    train_labels: UInt8[np.ndarray, " N"]
    test: UInt8[np.ndarray, "M 784"]
    test_labels: UInt8[np.ndarray, " M"]
    source: str
    synthetic: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the images do."""
        digest = hashlib.sha256()
        for part in (self.train, self.train_labels, self.test, self.test_labels):
            digest.update(part.tobytes())
        return digest.hexdigest()


def find_digits(source: str = "auto") -> Digits:
    """Finds and reads MNIST.

    Args:
      source: `auto`, `kaggle`, `tfds`, `synthetic`, or a folder with the four idx files, plain or gzipped. `auto` takes
        the first of `$VAE_JAX_DATA/mnist`, `data/mnist`, a download from Kaggle, one by tensorflow-datasets and, if no
        network answers within a few seconds, drawn digits.

    Returns:
      The digits.

    Raises:
      DataError: if the source is missing or can't be used.

    Examples:
      >>> from vae_jax.images.digits import find_digits
      >>> find_digits("synthetic").synthetic
      True
    """
    if source == "synthetic":
        return drawn_digits()
    if source == "kaggle":
        return read_folder(download_from_kaggle(KAGGLE_SET, "FOLDER"), "Kaggle: ")
    if source == "tfds":
        return _read_tfds()
    if source != "auto":
        return read_folder(Path(source))
    if folder := local_data("mnist"):
        return read_folder(folder)
    if not (earlier_download(KAGGLE_SET) or network_answers()):
        return drawn_digits()
    try:
        return find_digits("kaggle")
    except DataError:
        return find_digits("tfds")


def read_folder(folder: Path, prefix: str = "") -> Digits:
    """Reads the four idx files of a folder; `prefix` goes before the path in the description of the source."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    parts = [_read_idx(_find_file(folder, name), LABELS if "labels" in name else IMAGES) for name in FILES]
    for name, images, labels in (("train", *parts[:2]), ("t10k", *parts[2:])):
        if len(images) != len(labels):
            raise DataError(f"{folder}: {name} has {len(images):,} images and {len(labels):,} labels")
        if not len(images):
            raise DataError(f"{folder}: {name} has no images")
        if labels.max() >= CLASSES:
            raise DataError(f"{folder}: {name} has the label {labels.max()}; digits are 0 to 9")
    return Digits(*parts, source=f"{prefix}{folder}")


def _find_file(folder: Path, name: str) -> Path:
    names = [name + suffix for name in (name, name.replace("-idx", ".idx")) for suffix in ("", ".gz")]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise DataError(f"{folder}: lacks {name} or {name}.gz")
    return found


def _read_idx(path: Path, kind: int) -> UInt8[np.ndarray, "N ..."]:
    """Reads an idx file of images, flattened, or of labels; raises DataError if it isn't one or is cut off."""
    sizes = 3 if kind == IMAGES else 1
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 * (1 + sizes))
            if len(header) < 4 * (1 + sizes) or struct.unpack(">i", header[:4])[0] != kind:
                raise DataError(f"{path}: not an idx file of {'images' if kind == IMAGES else 'labels'}")
            count, *shape = struct.unpack(f">{sizes}i", header[4:])
            if not 0 <= count <= MOST_IMAGES or shape not in ([], [SIDE, SIDE]):
                raise DataError(f"{path}: holds {' x '.join(map(str, (count, *shape)))}; {SIDE} x {SIDE} is expected")
            wanted = count * SIDE ** len(shape)
            data = file.read(wanted + 1)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) != wanted:
        raise DataError(f"{path}: has {'more' if len(data) > wanted else 'fewer'} bytes than its header says")
    return np.frombuffer(data, np.uint8).reshape(count, *([SIDE * SIDE] if shape else []))


def _read_tfds() -> Digits:
    """Reads MNIST from tensorflow-datasets, downloading it on first use; TensorFlow is not needed."""
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder("mnist", file_format="array_record")
        builder.download_and_prepare()
        parts = []
        for split in ("train", "test"):
            records = list(builder.as_data_source(split))  # pyright: ignore
            parts.append(np.stack([record["image"] for record in records]).reshape(len(records), -1))
            parts.append(np.array([record["label"] for record in records], np.uint8))
    except Exception as error:  # a dozen types
        raise DataError(
            f"tensorflow-datasets could not prepare mnist ({type(error).__name__}: {first_line(error)[:200]}); "
            "use --data kaggle, --data synthetic, or name a folder with the four idx files"
        ) from error
    return Digits(*parts, source="tensorflow-datasets: mnist")


def drawn_digits(seed: int = 0) -> Digits:
    """Draws digits from a font, turned, shifted, scaled, sheared and thickened at random."""
    from PIL import Image, ImageDraw, ImageFont

    large = 4 * SIDE
    font = ImageFont.load_default(size=3 * SIDE)
    rng = np.random.default_rng(seed)

    def draw(label: int) -> np.ndarray:
        picture = Image.new("L", (large, large))
        thickness = int(rng.integers(0, 5))
        ImageDraw.Draw(picture).text(
            (large / 2, large / 2), str(label), fill=255, font=font, anchor="mm", stroke_width=thickness
        )
        turn, shear, scale = rng.uniform(-0.2, 0.2), rng.uniform(-0.3, 0.3), rng.uniform(1.0, 1.4)
        to_source = scale * np.array([[np.cos(turn), np.sin(turn) + shear], [-np.sin(turn), np.cos(turn)]])
        centre = np.full(2, large / 2)
        offset = centre - to_source @ (centre + rng.uniform(-8, 8, 2))
        matrix = (*to_source[0], offset[0], *to_source[1], offset[1])
        moved = picture.transform((large, large), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
        return np.asarray(moved.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)

    labels = rng.integers(0, CLASSES, DRAWN_TRAINING + DRAWN_TEST).astype(np.uint8)
    images = np.stack([draw(label) for label in labels])
    train, test = slice(DRAWN_TRAINING), slice(DRAWN_TRAINING, None)
    return Digits(images[train], labels[train], images[test], labels[test], "the built-in drawn digits", synthetic=True)
