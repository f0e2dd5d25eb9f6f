"""Stride-2 3 x 3 convolutions for the face network, with a matrix-product form for CPUs.

XLA's own convolutions suit GPUs and TPUs, but are several times too slow on a CPU (45 times inside a `lax.scan`). There
a convolution is one matrix product, (patches of its input) times (kernel), and a transposed convolution its transpose,
a product that is added back onto the image. The parameter tree is the same, and results agree up to rounding.

Both use TensorFlow's SAME padding: for kernel 3, stride 2 and an even size, one row below and one column to the right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

if TYPE_CHECKING:
    from jaxtyping import Array, Float

KERNEL, STRIDE = 3, 2
LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], matrix_products: bool | None = None
) -> Float[Array, "B H/2 W/2 O"]:
    """Convolves images to half their size, which must be even, with stride 2 and SAME padding; see `Conv`."""
    height, width = x.shape[1:3]
    if height % STRIDE or width % STRIDE:
        raise ValueError(f"pictures of {height} x {width} can't be halved: both sides must be even")
    return _CONV[matrix_products](x, kernel)


def conv_transpose(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C O"], matrix_products: bool | None = None
) -> Float[Array, "B 2H 2W O"]:
    """Convolves images to twice their size, as `jax.lax.conv_transpose` with stride 2 and SAME padding; see `Conv`."""
    return _CONV_TRANSPOSE[matrix_products](x, kernel)


class Conv(nn.Module):
    """`conv` with a kernel and bias named and shaped as in `flax.linen.Conv`.

    Attributes:
      features: number of output channels.
      dtype: computation dtype; None uses that of the input and the float32 parameters.
      matrix_products: whether to use matrix products; None takes them on CPUs alone.
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
    """`conv_transpose` with a kernel and bias named and shaped as in `flax.linen.ConvTranspose`; see `Conv`."""

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
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
    bias = module.param("bias", nn.initializers.zeros_init(), (module.features,), jnp.float32)
    x, kernel, bias = promote_dtype(x, kernel, bias, dtype=module.dtype)
    return [x, kernel, bias.reshape(1, 1, 1, -1)]


def _patches(x: Float[Array, "B H W C"]) -> Float[Array, "B H/2 W/2 9C"]:
    """Stacks the 3 x 3 patch under each output. Splitting even and odd rows makes every tap a slice, not a gather."""
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
    """The transpose of `_patches`: adds patches back where they came from, as sums of shifted taps."""
    batch, rows, columns, _ = patches.shape
    taps = patches.reshape(batch, rows, columns, KERNEL, KERNEL, -1)

    def tap(i: int, j: int) -> Array:
        """Tap (i, j), shifted to the row and column of the 2 x 2 block it falls into."""
        down, right = i // 2, j // 2
        padded = jnp.pad(taps[:, :, :, i, j], ((0, 0), (down, 0), (right, 0), (0, 0)))
        return padded[:, :rows, :columns]

    top = jnp.stack([tap(0, 0) + tap(2, 0) + tap(0, 2) + tap(2, 2), tap(0, 1) + tap(2, 1)], 3)
    bottom = jnp.stack([tap(1, 0) + tap(1, 2), tap(1, 1)], 3)
    return jnp.stack([top, bottom], 2).reshape(batch, 2 * rows, 2 * columns, -1)


def _conv_direct(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (STRIDE, STRIDE), "SAME", dimension_numbers=LAYOUT)


def _conv_direct_backward(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
    _, pull_back = jax.vjp(_conv_direct, x, kernel)
    return pull_back(gradient)


def _conv_products(x: Array, kernel: Array) -> Array:
    return _patches(x) @ kernel.reshape(-1, kernel.shape[-1])


def _conv_products_backward(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
    by_x = _scatter(gradient @ kernel.reshape(-1, kernel.shape[-1]).T)
    return by_x, _sum_of_products(_patches(x), gradient).reshape(kernel.shape)


# A transposed convolution as the transpose of a convolution, not as one of an image with zeros between its pixels: for
# that GPUs have no kernels, so XLA would write the zeros to memory, and compute the gradient of the 3 x 3 kernel as a
# convolution whose kernel is the picture.
def _conv_transpose_direct(x: Array, kernel: Array) -> Array:
    batch, rows, columns, _ = x.shape
    result = jax.ShapeDtypeStruct((batch, STRIDE * rows, STRIDE * columns, kernel.shape[3]), x.dtype)
    (transposed,) = jax.linear_transpose(lambda y: _conv_direct(y, _turned(kernel)), result)(x)
    return transposed


def _conv_transpose_direct_backward(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
    by_x, pull_back = jax.vjp(lambda turned: _conv_direct(gradient, turned), _turned(kernel))
    (by_turned,) = pull_back(x)
    return by_x, _turned(by_turned)


def _turned(kernel: Float[Array, "3 3 C O"]) -> Float[Array, "3 3 O C"]:
    """The kernel of the convolution that is transposed; behind a barrier, or XLA would turn it back."""
    return jax.lax.optimization_barrier(kernel[::-1, ::-1].transpose(0, 1, 3, 2))


def _conv_transpose_products(x: Array, kernel: Array) -> Array:
    return _scatter(x @ _taps(kernel))


def _conv_transpose_products_backward(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
    patches = _patches(gradient)
    by_taps = _sum_of_products(x, patches).reshape(kernel.shape[2], KERNEL, KERNEL, kernel.shape[3])
    return patches @ _taps(kernel).T, by_taps.transpose(1, 2, 0, 3)[::-1, ::-1]


# Custom gradients, for two reasons: autodiff would keep the patches (nine times the image) for the backward pass, where
# recomputing them is cheaper than reading them back, and would transpose `_patches` into nine padded additions.
def _differentiable(forward: Callable, backward: Callable) -> Callable[[Array, Array], Array]:
    function = jax.custom_vjp(forward)
    function.defvjp(lambda x, kernel: (forward(x, kernel), (x, kernel)), lambda saved, g: backward(*saved, g))
    return function


def _forms(
    products: Callable, products_backward: Callable, direct: Callable, direct_backward: Callable
) -> dict[bool | None, Callable]:
    """Functions of images and kernel: by matrix products, directly, or (None) by what suits the platform.

    The platform is that for which a program is lowered, perhaps on another machine.
    """

    def forward(*arrays: Array) -> Array:
        return jax.lax.platform_dependent(*arrays, cpu=products, default=direct)

    def backward(*arrays: Array) -> tuple[Array, Array]:
        return jax.lax.platform_dependent(*arrays, cpu=products_backward, default=direct_backward)

    pairs = {True: (products, products_backward), False: (direct, direct_backward), None: (forward, backward)}
    return {form: _differentiable(*pair) for form, pair in pairs.items()}


def _taps(kernel: Float[Array, "3 3 C O"]) -> Float[Array, "C 9O"]:
    """The kernel as a matrix that maps a pixel to the patch it adds to the result."""
    return kernel[::-1, ::-1].transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1)


def _sum_of_products(a: Float[Array, "B H W M"], b: Float[Array, "B H W N"]) -> Float[Array, "M N"]:
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


_CONV = _forms(_conv_products, _conv_products_backward, _conv_direct, _conv_direct_backward)
_CONV_TRANSPOSE = _forms(
    _conv_transpose_products,
    _conv_transpose_products_backward,
    _conv_transpose_direct,
    _conv_transpose_direct_backward,
)
