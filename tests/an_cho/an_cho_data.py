"""Tiny data sets in the layouts of MNIST and KDD99, made on the spot."""

import gzip
import struct
from pathlib import Path

import numpy as np

from experiments.an_cho.kdd99 import COLUMNS, FIRST, LATER, WORDS
from vae_jax.images.digits import CLASSES, FILES, SIDE

LABELS = ["normal.", "smurf.", "guess_passwd.", "rootkit.", "nmap."]


def write_digits(folder: Path, train: int = 200, test: int = 100) -> Path:
    """Writes the four idx files: each digit is a bright row of its own, with noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for names, count in ((FILES[:2], train), (FILES[2:], test)):
        labels = (np.arange(count) % CLASSES).astype(np.uint8)
        images = rng.integers(0, 60, (count, SIDE, SIDE)).astype(np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        (folder / names[0]).write_bytes(struct.pack(">4i", 2051, count, SIDE, SIDE) + images.tobytes())
        (folder / names[1]).write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return folder


def connection(label: str, rng: np.random.Generator) -> str:
    """A line of a file of KDD99; attacks have larger numbers and another service."""
    normal = label == "normal."
    words = {"protocol_type": "tcp", "service": rng.choice(["http", "smtp"]) if normal else "ftp", "flag": "SF"}
    cells = [words[name] if name in WORDS else f"{rng.poisson(3 if normal else 9)}" for name in COLUMNS[:-1]]
    return ",".join([*cells, label])


def write_connections(folder: Path, normal: int = 120, each: int = 10) -> Path:
    """Writes both files, the later one with an attack of a kind that the first has not."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, labels in ((FIRST, LABELS), (LATER, ["normal.", "saint."])):
        counts = [normal, *[each] * (len(labels) - 1)]
        lines = [connection(label, rng) for label, count in zip(labels, counts, strict=True) for _ in range(count)]
        (folder / name).write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return folder
