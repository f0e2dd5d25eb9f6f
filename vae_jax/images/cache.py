"""Images decoded once into a uint8 array on disk, which is memory-mapped, never loaded whole.

A prepared set is a folder named after its inputs (images, size, crop). It is filled under a temporary name, in blocks
that are recorded once finished, so that a killed preparation can resume; it is renamed when complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vae_jax.data.errors import DataError
from vae_jax.images.decoding import CROPS, HEIC_SUFFIXES, PictureError, reads_heic
from vae_jax.images.pictures import Pictures

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

VERSION = 1  # of the decoding; changing it makes prepared sets stale
BLOCK = 256  # images per progress record
SPARE = 64 * 2**20  # bytes to leave free on disk
PIXELS, LEFT_OUT, BLOCKS = "pixels.npy", "left_out.json", "blocks.jsonl"


@dataclass(frozen=True)
class Images:
    """Prepared images.

    Attributes:
      pixels: shape (N, size, size, 3), uint8, memory-mapped; images left out are black.
      left_out: the reason for each image that could not be used, by name.
      usable: row indices of all other images.
      pictures: the list the images were made from, row by row.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.images.cache import prepare_images
      >>> from vae_jax.images.pictures import find_pictures
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     images = prepare_images(find_pictures("synthetic", limit=10), size=32, crop="none", cache=Path(folder))
      >>> len(images.rows(0)), len(images.rows(1)), len(images.rows(2))  # training, validation, test
      (7, 1, 2)
    """

    pixels: UInt8[np.ndarray, "N size size 3"]
    left_out: Mapping[str, str]
    usable: Int[np.ndarray, " M"]
    pictures: Pictures

    def rows(self, part: int) -> Int[np.ndarray, " P"]:
        """Returns the row indices of a part's usable images."""
        return self.usable[self.pictures.parts[self.usable] == part]


def prepare_images(
    pictures: Pictures,
    size: int,
    crop: str,
    cache: Path,
    report: Callable[[int, int], None] = lambda done, total: None,
    workers: int | None = None,
) -> Images:
    """Decodes images to one size, in parallel, or finds them already prepared.

    Args:
      pictures: the list.
      size: height and width.
      crop: `none` or `center`, see [`decode`][vae_jax.images.decoding.decode].
      cache: folder of prepared sets.
      report: called with the number of images done and the total, from time to time.
      workers: number of threads; by default, the number of cores.

    Returns:
      The prepared images.

    Raises:
      DataError: if the disk is full or can't be written, an image can't be read, or none can be used.

    Examples:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from vae_jax.images.cache import prepare_images
      >>> from vae_jax.images.pictures import find_pictures
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     images = prepare_images(find_pictures("synthetic", limit=10), size=32, crop="none", cache=Path(folder))
      >>> images.pixels.shape, images.pixels.dtype.name, dict(images.left_out)
      ((10, 32, 32, 3), 'uint8', {})
    """
    if crop not in CROPS:
        raise ValueError(f"unknown crop '{crop}': expected one of {', '.join(CROPS)}")
    made_from = f"{VERSION} {size} {crop} {pictures.fingerprint} {pictures.stamp}"
    if any(name.lower().endswith(HEIC_SUFFIXES) for name in pictures.names) and reads_heic():
        made_from += " with HEIC"  # not the set in which they were left out
    key = hashlib.sha256(made_from.encode()).hexdigest()[:20]
    folder, partial = cache / key, cache / f"{key}.partial"
    try:
        if not folder.exists():  # else the cache may be another user's, and read-only
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / f"{key}.lock"):
                if not folder.exists():
                    _prepare(pictures, size, crop, partial, report, workers or os.cpu_count() or 1)
                    os.replace(partial, folder)
        left_out = json.loads((folder / LEFT_OUT).read_text(encoding="utf-8"))
        pixels = np.load(folder / PIXELS, mmap_mode="r")
    except DataError:  # also a ValueError
        raise
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"can't prepare the pictures in {cache}: {reason}; name another --cache") from error
    except ValueError as error:
        damaged = folder if folder.exists() else partial
        raise DataError(f"{damaged}: damaged ({error}); remove it to prepare the pictures anew") from error
    usable = np.array([i for i, name in enumerate(pictures.names) if name not in left_out], np.int64)
    if not len(usable):
        name, reason = next(iter(left_out.items()))
        raise DataError(f"{pictures.source}: none of the {len(left_out):,} pictures can be used; {name}: {reason}")
    return Images(pixels, left_out, usable, pictures)


def _prepare(
    pictures: Pictures, size: int, crop: str, partial: Path, report: Callable[[int, int], None], workers: int
) -> None:
    total = len(pictures.names)
    shape = (total, size, size, 3)
    _check_space(partial.parent, int(np.prod(shape, dtype=np.int64)), partial / PIXELS)
    partial.mkdir(exist_ok=True)
    finished = _finished_blocks(partial)
    pixels = _open_pixels(partial / PIXELS, shape, fresh=not finished)

    def decode_block(start: int) -> dict[str, str]:
        left_out = {}
        for row in range(start, min(start + BLOCK, total)):
            try:
                pixels[row] = pictures.reader.read(row, size, crop)
            except PictureError as error:
                left_out[pictures.names[row]] = str(error)
                pixels[row] = 0  # a killed preparation may have filled it
        return left_out

    todo = [start for start in range(0, total, BLOCK) if start not in finished]
    done = total - sum(min(BLOCK, total - start) for start in todo)
    report(done, total)
    with open(partial / BLOCKS, "a", encoding="utf-8") as notes:
        print(file=notes)  # ends a record that a killed process left unfinished
        for start, left_out in _in_parallel(decode_block, todo, workers):
            pixels.flush()  # before the record: a recorded block must be on disk
            finished[start] = left_out
            print(json.dumps({"start": start, "left_out": left_out}), file=notes, flush=True)
            done += min(BLOCK, total - start)
            report(done, total)
    everything = {name: reason for start in sorted(finished) for name, reason in finished[start].items()}
    (partial / LEFT_OUT).write_text(json.dumps(everything, indent=1), encoding="utf-8")
    (partial / BLOCKS).unlink()


def _in_parallel(work: Callable[[int], dict], items: list[int], workers: int) -> Iterator[tuple[int, dict]]:
    """Yields (item, result) in order. Threads are enough, because decoding releases the GIL."""
    with ThreadPoolExecutor(workers) as pool:
        running: deque[tuple[int, Future]] = deque()
        try:
            for item in items:
                running.append((item, pool.submit(work, item)))
                if len(running) > 2 * workers:
                    item, future = running.popleft()
                    yield item, future.result()
            while running:
                item, future = running.popleft()
                yield item, future.result()
        finally:
            for _, future in running:
                future.cancel()


def _finished_blocks(partial: Path) -> dict[int, dict[str, str]]:
    """Returns the blocks that a killed preparation finished, each with what it left out."""
    if not (partial / BLOCKS).exists() or not (partial / PIXELS).exists():
        return {}
    finished = {}
    for line in (partial / BLOCKS).read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a record that a killed process left unfinished
        finished[record["start"]] = record["left_out"]
    return finished


def _open_pixels(path: Path, shape: tuple[int, ...], fresh: bool) -> np.memmap:
    if not fresh:
        return np.lib.format.open_memmap(path, mode="r+")
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with open(path, "r+b") as file:
        # Now, for an error in one line: if the disk fills up later, writing to the map kills the process with SIGBUS.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return pixels


def _check_space(cache: Path, needed: int, existing: Path) -> None:
    if existing.exists():
        return
    free = shutil.disk_usage(cache).free
    if free < needed + SPARE:
        raise DataError(
            f"--cache {cache}: {needed / 1e9:.1f} GB are needed for the prepared pictures, {free / 1e9:.1f} GB are free"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one process prepare a set while others wait for it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
