"""Training batches of images that do not fit on the device, prefetched by grain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int, UInt8

THREADS = 4  # readers
AHEAD = 4  # groups of batches to prefetch


@dataclass(frozen=True)
class _Groups:
    """A grain source: item i is a group of consecutive batches of an epoch."""

    pixels: UInt8[np.ndarray, "N H W C"]
    batches: list[Int[np.ndarray, "steps b"]]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.pixels[self.batches[index]]


def stream_batches(
    pixels: UInt8[np.ndarray, "N H W C"],
    rows: Int[np.ndarray, " M"],
    order: Callable[[int], Int[np.ndarray, " M"]],
    batch_size: int,
    steps_per_call: int,
    first_step: int,
    columns: Int[np.ndarray, " b"] | None = None,
) -> Iterator[UInt8[np.ndarray, "steps b H W C"]]:
    """Yields the batches of one epoch after another, without end, from any step on.

    Args:
      pixels: all images, memory-mapped.
      rows: row indices of the images to train on.
      order: maps an epoch number to the order in which it visits `rows`, a permutation of 0..M-1.
      batch_size: images per batch.
      steps_per_call: batches per group; the last group of an epoch may have fewer.
      first_step: step at which the first group starts.
      columns: which images of each batch to read, if other processes read the rest; all by default.

    Yields:
      Groups of batches, each with only the images of `columns`.

    Examples:
      >>> import numpy as np
      >>> from vae_jax.images.batches import stream_batches
      >>> pixels = np.zeros((10, 8, 8, 3), np.uint8)
      >>> batches = stream_batches(
      ...     pixels, np.arange(10), lambda epoch: np.arange(10), batch_size=2, steps_per_call=3, first_step=0
      ... )
      >>> next(batches).shape, next(batches).shape  # five steps: three, then two
      ((3, 2, 8, 8, 3), (2, 2, 8, 8, 3))
    """
    import grain

    per_epoch = len(rows) // batch_size
    epoch, done = divmod(first_step, per_epoch)
    while True:
        batches = rows[order(epoch)][: per_epoch * batch_size].reshape(per_epoch, batch_size)
        batches = batches if columns is None else batches[:, columns]
        groups = [batches[start : start + steps_per_call] for start in range(done, per_epoch, steps_per_call)]
        dataset = grain.MapDataset.source(_Groups(pixels, groups)).to_iter_dataset(
            grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
        )
        yield from dataset
        epoch, done = epoch + 1, 0
