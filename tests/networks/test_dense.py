"""The dense layer with the features first against Flax's own, in value, gradient and parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import assert_close, assert_same

from vae_jax.networks.dense_layer import Dense, features_first, features_last

pytestmark = pytest.mark.usefixtures("compiled_well")


@pytest.mark.parametrize("batch", [1, 7])
def test_dense_is_flax_dense_in_value_and_gradient(rng, batch):
    x = jnp.asarray(rng.normal(size=(batch, 5)), jnp.float32)
    params = nn.Dense(3).init(jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # a bias of 0 would hide that it is missing

    def ours(params, x):
        return jnp.square(features_last(Dense(3).apply(params, features_first(x)), (batch,))).sum()

    def flax(params, x):
        return jnp.square(nn.Dense(3).apply(params, x)).sum()

    assert_close(jax.grad(ours, (0, 1))(params, x), jax.grad(flax, (0, 1))(params, x), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(ours(params, x), flax(params, x), rtol=1e-6)


def test_dense_has_the_parameters_of_flax_dense():
    ours = Dense(3).init(jax.random.key(0), jnp.zeros((5, 1)))
    assert_same(ours, nn.Dense(3).init(jax.random.key(0), jnp.zeros((1, 5))))


@pytest.mark.parametrize(
    ("of_params", "of_x"),
    [("float32", "float16"), ("float32", "bfloat16"), ("float32", "float64"), ("float64", "float32")],
)
def test_gradients_of_mixed_dtypes_are_those_of_flax_dense(rng, of_params, of_x):
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(4, 5)), of_x)
        params = jax.tree.map(lambda leaf: leaf.astype(of_params), nn.Dense(3).init(jax.random.key(0), x))

        def ours(params, x):
            return jnp.square(features_last(Dense(3).apply(params, features_first(x)), (4,))).sum()

        def flax(params, x):
            return jnp.square(nn.Dense(3).apply(params, x)).sum()

        found, expected = (jax.grad(function, (0, 1))(params, x) for function in (ours, flax))
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [leaf.dtype for leaf in jax.tree.leaves(expected)]
    # The last digit of the smaller dtype: both compute in the larger one.
    assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(*(np.asarray(tree[1], np.float64) for tree in (found, expected)), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev, jax.hessian])
def test_derivatives_of_every_mode_are_those_of_flax_dense(rng, derivative):
    x = jnp.asarray(rng.normal(size=(2, 5)), jnp.float32)
    params = nn.Dense(3).init(jax.random.key(0), x)

    def ours(params, x):
        return jnp.tanh(features_last(Dense(3).apply(params, features_first(x)), (2,)))

    def flax(params, x):
        return jnp.tanh(nn.Dense(3).apply(params, x))

    found, expected = (derivative(function, (0, 1))(params, x) for function in (ours, flax))
    assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("batch_shape", [(), (4,), (2, 3)])
def test_features_first_and_last_undo_each_other(rng, batch_shape):
    x = jnp.asarray(rng.normal(size=(*batch_shape, 5)), jnp.float32)
    columns = features_first(x)
    assert columns.shape == (5, int(np.prod(batch_shape)))
    np.testing.assert_array_equal(columns[:, 0], x.reshape(-1, 5)[0])
    np.testing.assert_array_equal(features_last(columns, batch_shape), x)
