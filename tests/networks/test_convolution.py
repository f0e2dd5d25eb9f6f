"""Convolutions as matrix products against XLA's own, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_close

from vae_jax.networks.conv_layer import Conv, ConvTranspose, conv, conv_transpose

pytestmark = pytest.mark.usefixtures("compiled_well")

CASES = [(2, 8, 8, 3, 5), (1, 2, 6, 4, 2), (3, 16, 4, 1, 1)]


def arrays(rng, batch, height, width, channels, features):
    x = rng.normal(size=(batch, height, width, channels)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(3, 3, channels, features)).astype(np.float32))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("function", [conv, conv_transpose])
def test_matrix_products_equal_lax_in_value_and_gradient(rng, function, case):
    x, kernel = arrays(rng, *case)

    def value_and_gradients(matrix_products):
        def total(x, kernel):
            y = function(x, kernel, matrix_products)
            return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

        (_, y), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(x, kernel)
        return y, gradients

    assert_close(value_and_gradients(True), value_and_gradients(False), atol=1e-5, rtol=1e-5)


def test_conv_by_hand():
    """A kernel of ones sums the 3 x 3 pixels from (2i, 2j) on; SAME adds zeros below and to the right."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    expected = [[45.0, 39.0], [66.0, 50.0]]
    for matrix_products in (True, False):
        np.testing.assert_allclose(conv(x, jnp.ones((3, 3, 1, 1)), matrix_products)[0, :, :, 0], expected)


def test_each_is_the_others_transpose(rng):
    x, kernel = arrays(rng, 2, 8, 8, 3, 5)
    y = jnp.asarray(rng.normal(size=(2, 4, 4, 5)).astype(np.float32))
    # <conv(x), y> = <x, conv_transpose(y)> with the kernel turned round and its channels swapped
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    for form in (True, False):
        left, right = (conv(x, kernel, form) * y).sum(), (x * conv_transpose(y, turned, form)).sum()
        np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize(("ours", "stock"), [(Conv, nn.Conv), (ConvTranspose, nn.ConvTranspose)])
def test_modules_are_those_of_flax(rng, ours, stock):
    x, _ = arrays(rng, 2, 8, 8, 3, 5)
    flax = stock(5, (3, 3), strides=(2, 2), padding="SAME")
    params = flax.init(jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # a bias that is not 0
    for form in (True, False):
        module = ours(5, matrix_products=form)
        assert_close(module.init(jax.random.key(0), x), flax.init(jax.random.key(0), x), atol=0.0)
        assert_close(module.apply(params, x), flax.apply(params, x), atol=1e-5)


def test_odd_sides_are_refused():
    with pytest.raises(ValueError, match="5 x 4 can't be halved"):
        conv(jnp.zeros((1, 5, 4, 1)), jnp.zeros((3, 3, 1, 1)))
