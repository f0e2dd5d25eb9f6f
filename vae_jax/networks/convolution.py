"""The face network's two convolutions, kernel 3 x 3 and stride 2, with a second form for processors.

XLA's own convolutions are right for GPUs and TPUs, and several times too slow on a CPU (forty-five times inside a
`lax.scan`). There the same sums are written as one matrix product each: a convolution as (patches of its input) times
(kernel), a transposed convolution as its transpose, a product whose result is added back onto the picture.
Parameters are the same tree, and the numbers the same up to rounding.

Both follow TensorFlow's SAME padding, which for kernel 3 and stride 2 on an even size adds one row below and one
column to the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float

KERNEL, STRIDE = 3, 2
LAYOUT = ("NHWC", "HWIO", "NHWC")


def prefer_matrix_products() -> bool:
    """Whether the default device is one on which the matrix products are the faster form."""
    return jax.default_backend() == "cpu"


def conv(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], matrix_products: bool | None = None
) -> Float[Array, "B H/2 W/2 O"]:
    """Convolves with stride 2 and SAME padding.

    Args:
      x: pictures, float; H and W even.
      kernel: float.
      matrix_products: which form to use; by default the faster one on the default device.

    Returns:
      Pictures of half the size.

    Raises:
      ValueError: if H or W is odd.
    """
    _check_even(x.shape[1:3])
    if not _use(matrix_products):
        return jax.lax.conv_general_dilated(x, kernel, (STRIDE, STRIDE), "SAME", dimension_numbers=LAYOUT)
    return _conv_products(x, kernel)


def conv_transpose(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], matrix_products: bool | None = None
) -> Float[Array, "B 2H 2W O"]:
    """Convolves the other way, to twice the size: `jax.lax.conv_transpose` with stride 2 and SAME padding.

    Args:
      x: pictures, float.
      kernel: float.
      matrix_products: which form to use; by default the faster one on the default device.

    Returns:
      Pictures of twice the size.
    """
    if not _use(matrix_products):
        return jax.lax.conv_transpose(x, kernel, (STRIDE, STRIDE), "SAME", dimension_numbers=LAYOUT)
    return _conv_transpose_products(x, kernel)


class Conv(nn.Module):
    """`conv` with a kernel and a bias of its own, which have the names and shapes of `flax.linen.Conv`.

    Attributes:
      features: number of output channels.
      dtype: in which to compute; by default that of the input and the parameters, which are float32.
      matrix_products: see `conv`.
    """

    features: int
    dtype: Any = None
    matrix_products: bool | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H/2 W/2 O"]:
        """Convolves and adds the bias."""
        x, kernel, bias = _parameters(self, x)
        return conv(x, kernel, self.matrix_products) + bias


class ConvTranspose(nn.Module):
    """`conv_transpose` with a kernel and a bias, which have the names and shapes of `flax.linen.ConvTranspose`.

    Attributes: those of `Conv`.
    """

    features: int
    dtype: Any = None
    matrix_products: bool | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B 2H 2W O"]:
        """Convolves and adds the bias."""
        x, kernel, bias = _parameters(self, x)
        return conv_transpose(x, kernel, self.matrix_products) + bias


def _parameters(module: Conv | ConvTranspose, x: Array) -> list[Array]:
    shape = (KERNEL, KERNEL, x.shape[-1], module.features)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = module.param("bias", nn.initializers.zeros_init(), (module.features,))
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=module.dtype)
    return [x, kernel, bias.reshape(1, 1, 1, -1)]


def _use(matrix_products: bool | None) -> bool:
    return prefer_matrix_products() if matrix_products is None else matrix_products


def _check_even(size: tuple[int, ...]) -> None:
    if any(side % STRIDE for side in size):
        raise ValueError(f"pictures of {size[0]} x {size[1]} can't be halved: both sides must be even")


def _patches(x: Float[Array, "B H W C"]) -> Float[Array, "B H/2 W/2 9C"]:
    """Lays the 3 x 3 patch under each output side by side. Even and odd rows apart, no tap needs a gather."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    x = jnp.pad(x, ((0, 0), (0, 2), (0, 2), (0, 0))).reshape(batch, rows + 1, 2, columns + 1, 2, channels)
    taps = [
        x[:, i // 2 : rows + i // 2, i % 2, j // 2 : columns + j // 2, j % 2]
        for i in range(KERNEL)
        for j in range(KERNEL)
    ]
    return jnp.concatenate(taps, -1)


def _scatter(patches: Float[Array, "B H W 9C"]) -> Float[Array, "B 2H 2W C"]:
    """Adds patches back where `_patches` took them: its transpose, written as sums of shifted taps."""
    batch, rows, columns, _ = patches.shape
    taps = patches.reshape(batch, rows, columns, KERNEL, KERNEL, -1)

    def tap(i: int, j: int) -> Array:
        """Tap (i, j), moved to the row and column of the 2 x 2 block that it falls into."""
        down, right = i // 2, j // 2
        padded = jnp.pad(taps[:, :, :, i, j], ((0, 0), (down, 0), (right, 0), (0, 0)))
        return padded[:, :rows, :columns]

    top = jnp.stack([tap(0, 0) + tap(2, 0) + tap(0, 2) + tap(2, 2), tap(0, 1) + tap(2, 1)], 3)
    bottom = jnp.stack([tap(1, 0) + tap(1, 2), tap(1, 1)], 3)
    return jnp.stack([top, bottom], 2).reshape(batch, 2 * rows, 2 * columns, -1)


# Gradients by hand, for two reasons. Autodiff would keep the patches, nine times the picture, from the forward to the
# backward pass; making them anew is cheaper than reading them back. And it would transpose `_patches` into nine padded
# additions, which `_scatter` is not.
@jax.custom_vjp
def _conv_products(x: Array, kernel: Array) -> Array:
    return _patches(x) @ kernel.reshape(-1, kernel.shape[-1])


def _conv_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv_products(x, kernel), (x, kernel)


def _conv_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    by_x = _scatter(gradient @ kernel.reshape(-1, kernel.shape[-1]).T)
    return by_x, _sum_of_products(_patches(x), gradient).reshape(kernel.shape)


@jax.custom_vjp
def _conv_transpose_products(x: Array, kernel: Array) -> Array:
    return _scatter(x @ _taps(kernel))


def _conv_transpose_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv_transpose_products(x, kernel), (x, kernel)


def _conv_transpose_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    patches = _patches(gradient)
    by_taps = _sum_of_products(x, patches).reshape(kernel.shape[2], KERNEL, KERNEL, kernel.shape[3])
    return patches @ _taps(kernel).T, by_taps.transpose(1, 2, 0, 3)[::-1, ::-1]


_conv_products.defvjp(_conv_forward, _conv_backward)
_conv_transpose_products.defvjp(_conv_transpose_forward, _conv_transpose_backward)


def _taps(kernel: Float[Array, "3 3 C O"]) -> Float[Array, "C 9O"]:
    """The kernel as the matrix whose product with a pixel is the patch that the pixel adds to the result."""
    return kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _sum_of_products(a: Float[Array, "B H W M"], b: Float[Array, "B H W N"]) -> Float[Array, "M N"]:
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])
