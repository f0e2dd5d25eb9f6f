"""A dense layer with features on the first axis and examples on the last.

A network for tables is a few features wide and a batch long. With the batch as the contiguous axis, a CPU handles eight
or sixteen examples per instruction; 29 features there make three such vectors and a remainder handled one by one. The
parameter tree is that of `flax.linen.Dense`, and results agree up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Dense(nn.Module):
    """`flax.linen.Dense` with `features` outputs, for arrays with features first."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "D N"]) -> Float[Array, "O N"]:
        """Multiplies by the kernel and adds the bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[0], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias)
        return _product(kernel, x) + bias[:, None]


def features_first(x: Float[Array, "*batch D"]) -> Float[Array, "D N"]:
    """Turns rows of any batch shape into columns."""
    return _transposed(x.reshape(-1, x.shape[-1]))


def features_last(x: Float[Array, "D N"], batch_shape: Sequence[int]) -> Float[Array, "*batch D"]:
    """Turns columns back into rows of the given batch shape."""
    assert math.prod(batch_shape) == x.shape[1]
    return x.T.reshape(*batch_shape, x.shape[0])


# A derivative of its own, because autodiff would go through the barrier of `_transposed` and back.
@jax.custom_jvp
def _product(kernel: Float[Array, "D O"], x: Float[Array, "D N"]) -> Float[Array, "O N"]:
    return _transposed(kernel) @ x


@_product.defjvp
def _derivative(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (kernel, x), (by_kernel, by_x) = primals, tangents
    return _product(kernel, x), by_kernel.T @ x + kernel.T @ by_x


def _transposed(a: Float[Array, "M N"]) -> Float[Array, "N M"]:
    """Transposes, on a CPU behind a barrier: there XLA would fold the transpose into a product, which then is slow."""
    return jax.lax.platform_dependent(a, cpu=lambda a: jax.lax.optimization_barrier(a.T), default=jnp.transpose)
