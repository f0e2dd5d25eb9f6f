"""The dense layer with the features on the first axis and the examples on the last.

A table's network is a few features wide and a batch long. With the batch as the last, contiguous axis a processor
handles eight or sixteen examples in each instruction; with 29 features there, it handles them in threes and a remainder
one by one. Parameters are the same tree as those of `flax.linen.Dense`, and the numbers the same up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
from flax import linen as nn

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Dense(nn.Module):
    """`flax.linen.Dense` for arrays with the features first.

    Attributes:
      features: number of output features.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "D N"]) -> Float[Array, "O N"]:
        """Multiplies by the kernel and adds the bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return _product(kernel, x) + bias[:, None]


def features_first(x: Float[Array, "*batch D"]) -> Float[Array, "D N"]:
    """Turns rows of any batch shape into columns."""
    return _transposed(x.reshape(-1, x.shape[-1]))


def features_last(x: Float[Array, "D N"], batch_shape: Sequence[int]) -> Float[Array, "*batch D"]:
    """Turns columns back into rows of the given batch shape, of size N."""
    assert math.prod(batch_shape) == x.shape[1]
    return x.T.reshape(*batch_shape, x.shape[0])


# Gradients by hand, because autodiff would go through the barrier of `_transposed` and back.
@jax.custom_vjp
def _product(kernel: Float[Array, "D O"], x: Float[Array, "D N"]) -> Float[Array, "O N"]:
    return _transposed(kernel) @ x


def _forward(kernel: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(kernel, x), (kernel, x)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    kernel, x = saved
    return x @ gradient.T, kernel @ gradient


_product.defvjp(_forward, _backward)


def _transposed(a: Float[Array, "M N"]) -> Float[Array, "N M"]:
    """The transpose, on a CPU laid out anew behind a barrier.

    XLA folds a transposition into the product that takes it, and on a CPU has a fast form only for products of two
    matrices as they lie in memory. Elsewhere the folding is right.
    """
    return jax.lax.optimization_barrier(a.T) if jax.default_backend() == "cpu" else a.T
