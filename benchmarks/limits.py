"""How fast the machine could be: operations and bytes per row or picture, over rates measured in the same run.

An addition and a multiplication are two operations. A training step multiplies each layer three times: forward, and for
the gradients of its input and its weights; the first layer needs no input gradient. Bytes are those that must move to
or from memory, counted once; everything else could stay in a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FLOAT = 4  # bytes
HIDDEN, LATENT = (20, 10, 8), 2
FACE_LATENT, FACE_PARAMETERS = 200, 2_648_531
FACE_PIXELS = 128 * 128 * 3


@dataclass(frozen=True)
class Rates:
    """Measured rates of the device: operations/s of a large matrix product, bytes/s of a large copy."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Cost:
    """Operations and bytes per row or picture."""

    operations: float
    bytes: float

    def limit(self, rates: Rates) -> float:
        """The most per second: the slower of computing and moving decides."""
        return 1 / max(self.operations / rates.operations, self.bytes / rates.bytes)

    def arithmetic(self, rates: Rates) -> str:
        """How the limit is computed, in words."""
        compute, move = self.operations / rates.operations, self.bytes / rates.bytes
        return (
            f"{self.operations:,.0f} operations at {rates.operations / 1e9:,.1f} G/s take {compute * 1e6:.3g} µs, "
            f"{self.bytes:,.0f} bytes at {rates.bytes / 1e9:,.1f} GB/s take {move * 1e6:.3g} µs"
        )


def _dense(widths: Sequence[int]) -> list[int]:
    return [i * o for i, o in pairwise(widths)]


def fraud_encoder(features: int) -> list[int]:
    """Multiply-adds per layer; the last is both heads."""
    return [*_dense([features, *HIDDEN]), 2 * HIDDEN[-1] * LATENT]


def fraud_decoder(features: int, learned_variance: bool) -> list[int]:
    """Multiply-adds per layer; the last is the mean, with the log variance if it is learned."""
    return [*_dense([LATENT, *HIDDEN[::-1]]), HIDDEN[0] * features * (1 + learned_variance)]


def face_encoder() -> list[int]:
    """Multiply-adds per layer: 3 x 3 taps per output pixel; the last is both heads."""
    down = pairwise([3, 32, 64, 64, 64])
    layers = [9 * side * side * i * o for side, (i, o) in zip((64, 32, 16, 8), down, strict=True)]
    return [*layers, 2 * 8 * 8 * 64 * FACE_LATENT]


def face_decoder() -> list[int]:
    """Multiply-adds per layer: 3 x 3 taps per input pixel."""
    up = pairwise([64, 64, 64, 32, 3])
    layers = [9 * side * side * i * o for side, (i, o) in zip((8, 16, 32, 64), up, strict=True)]
    return [FACE_LATENT * 8 * 8 * 64, *layers]


def face_activations() -> int:
    """Numbers that a picture's forward pass keeps for the backward pass: each layer's output."""
    encoder = 64 * 64 * 32 + 32 * 32 * 64 + 16 * 16 * 64 + 8 * 8 * 64
    decoder = 8 * 8 * 64 + 16 * 16 * 64 + 32 * 32 * 64 + 64 * 64 * 32 + FACE_PIXELS
    return encoder + 2 * FACE_LATENT + decoder


def training_operations(layers: Sequence[int]) -> int:
    """Operations of a training step per example."""
    return 2 * (3 * sum(layers) - layers[0])


def fraud_training(features: int, learned_variance: bool) -> Cost:
    """Per row, which is read once."""
    layers = fraud_encoder(features) + fraud_decoder(features, learned_variance)
    return Cost(training_operations(layers), FLOAT * features)


def fraud_scoring(features: int, learned_variance: bool, samples: int) -> Cost:
    """Per row: encoded and read once, decoded once per sample, its scores written."""
    products = sum(fraud_encoder(features)) + samples * sum(fraud_decoder(features, learned_variance))
    return Cost(2 * products, FLOAT * (2 * features + 2))


def face_training(batch: int, itemsize: int) -> Cost:
    """Per picture: read as uint8; activations written and read once; its share of parameters and optimiser state.

    Adam reads and writes the parameters and two moments, all float32.
    """
    moved = FACE_PIXELS + 2 * itemsize * face_activations() + 6 * FLOAT * FACE_PARAMETERS / batch
    return Cost(training_operations(face_encoder() + face_decoder()), moved)


def face_generating(chunk: int) -> Cost:
    """Per picture: written as float32; its share of reading the decoder's parameters."""
    parameters = sum((FACE_LATENT * 4096, 9 * 64 * 64, 9 * 64 * 64, 9 * 64 * 32, 9 * 32 * 3))
    return Cost(2 * sum(face_decoder()), FLOAT * (FACE_PIXELS + parameters / chunk))
