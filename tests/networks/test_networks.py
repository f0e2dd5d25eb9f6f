"""The dense VAE: its size, its layers, and the bounds on its log variances."""

import copy
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from helpers import numpy_decode, numpy_encode, random_params
from scipy import special

from vae_jax.distributions import reparameterise
from vae_jax.networks import (
    OBSERVATION_LOG_VAR,
    POSTERIOR_LOG_VAR,
    VAE,
    ColumnDecoder,
    ColumnEncoder,
    ColumnLayout,
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    HierarchicalVAE,
    bound_sd,
    count_parameters,
    decode,
    dense_vae,
    encode,
    hierarchical_vae,
    soft_clip,
)
from vae_jax.objectives import Objective
from vae_jax.training import create_train_state, train_step

pytestmark = pytest.mark.usefixtures("compiled_well")

# The same everywhere, so that each operation is compiled once.
BATCH = 64
BOUNDS = [POSTERIOR_LOG_VAR, OBSERVATION_LOG_VAR]


def shapes(vae, features=29):
    return jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, features)), jnp.zeros((1, vae.latent_dim)))


@pytest.fixture(scope="module")
def vae():
    """The transactions' VAE with a learned variance."""
    return dense_vae(29, learned_variance=True)


@pytest.fixture(scope="module")
def params(vae):
    return random_params(vae, 29)


def test_parameter_counts(params):
    # Encoder 600 + 210 + 88 + 2 * 18 = 934; decoder 24 + 90 + 220 = 334, and 609 for each head.
    assert count_parameters(params) == 934 + 334 + 2 * 609 == 2486
    assert count_parameters(random_params(dense_vae(29), 29)) == 934 + 334 + 609 == 1877


def test_count_parameters_of_a_tree():
    assert count_parameters({"a": jnp.zeros((2, 3)), "b": [jnp.zeros(()), jnp.zeros(4)]}) == 6 + 1 + 4
    assert count_parameters({}) == 0
    assert count_parameters([jnp.zeros((2, 3)), (jnp.zeros(4),)]) == 6 + 4
    assert count_parameters(jnp.zeros((2, 3))) == 6


def test_layer_shapes_by_name(vae):
    kernels = {
        part: {name: layer["kernel"].shape for name, layer in layers.items()}
        for part, layers in shapes(vae)["params"].items()
    }
    assert kernels == {
        "encoder": {
            "Dense_0": (29, 20),
            "Dense_1": (20, 10),
            "Dense_2": (10, 8),
            "mean": (8, 2),
            "log_var": (8, 2),
        },
        "decoder": {
            "Dense_0": (2, 8),
            "Dense_1": (8, 10),
            "Dense_2": (10, 20),
            "mean": (20, 29),
            "log_var": (20, 29),
        },
    }
    for layers in shapes(vae)["params"].values():
        for layer in layers.values():
            assert layer["bias"].shape == layer["kernel"].shape[1:]


def test_encoder_and_decoder_are_the_float64_reference(vae, params, rng):
    x, z = rng.normal(size=(BATCH, 29)), rng.normal(size=(BATCH, 2))
    # float32 carries 7 digits, and four layers of sums of up to 29 terms lose one of them.
    for actual, expected in zip(encode(vae, params, jnp.asarray(x)), numpy_encode(params, x), strict=True):
        assert actual.shape == (BATCH, 2)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    for actual, expected in zip(decode(vae, params, jnp.asarray(z)), numpy_decode(params, z), strict=True):
        assert actual.shape == (BATCH, 29)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_calling_the_vae_encodes_draws_by_the_noise_and_decodes(vae, params, rng):
    x, noise = jnp.asarray(rng.normal(size=(BATCH, 29))), jnp.asarray(rng.normal(size=(BATCH, 2)))
    posterior, observation = vae.apply(params, x, noise)
    expected = encode(vae, params, x)
    z = reparameterise(noise, *expected)
    for actual, wanted in zip((*posterior, *observation), (*expected, *decode(vae, params, z)), strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_latent_dim_and_hidden_dims_are_free():
    vae = dense_vae(3, hidden_dims=[7], latent_dim=5)
    assert vae.latent_dim == 5
    params = shapes(vae, features=3)
    assert params["params"]["encoder"]["Dense_0"]["kernel"].shape == (3, 7)
    assert jax.eval_shape(partial(encode, vae), params, jnp.zeros((2, 3))).mean.shape == (2, 5)
    assert jax.eval_shape(partial(decode, vae), params, jnp.zeros((2, 5))).mean.shape == (2, 3)


@pytest.mark.parametrize(
    "made",
    [
        lambda widths: VAE(DenseEncoder(widths, 2), DenseDecoder(widths, 3)),
        lambda widths: VAE(ConvEncoder(widths, 2), ConvDecoder(widths, 4, base_channels=2)),
        lambda widths: VAE(ColumnEncoder(ColumnLayout(1), widths, 2), ColumnDecoder(ColumnLayout(1), widths)),
        lambda widths: HierarchicalVAE(
            DenseEncoder(widths, 2), DenseDecoder(widths, 3), [DenseEncoder(widths, 1)], [DenseDecoder(widths, 2)]
        ),
    ],
)
def test_modules_take_lists(made):
    assert made([7]) == made((7,))
    assert hash(made([7])) == hash(made((7,)))


def test_a_vae_made_with_lists_trains():
    vae = VAE(DenseEncoder([7], 2), DenseDecoder([7], 3))
    state = create_train_state(jax.random.key(0), vae, Objective(), optax.sgd(1e-3), (3,))
    state, _ = jax.jit(train_step)(state, jnp.ones((4, 3)), jax.random.key(1))
    assert state.step == 1


def test_decoder_without_learned_variance_gives_none():
    vae = dense_vae(29)
    observation = jax.eval_shape(partial(decode, vae), shapes(vae), jnp.ones((4, 2)))
    assert observation.mean.shape == (4, 29)
    assert observation.log_var is None


# Bounds as close to each other as `largest_sd` can make them, too.
@pytest.mark.parametrize(("low", "high"), [*BOUNDS, (-6.0, 0.0), (-6.0, -5.0)])
def test_soft_clip_stays_inside_its_bounds(low, high):
    x = jnp.concatenate([jnp.linspace(-50.0, 50.0, 2001), jnp.array([-1e30, -1e6, 1e6, 1e30])])
    clipped = np.asarray(soft_clip(x, low, high), np.float64)
    assert clipped.min() >= low - 1e-6
    assert clipped.max() <= high + 1e-6


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_soft_clip_is_the_identity_inside(low, high):
    x = np.linspace(low, high, 401)
    clipped = soft_clip(jnp.asarray(x, jnp.float32), low, high)
    # log(1 + e^-d) < e^-d is what each bound takes from, or adds to, a value at distance d; the rest is rounding.
    tolerance = np.exp(-(high - x)) + np.exp(-(x - low)) + 2e-6
    np.testing.assert_array_less(np.abs(clipped - x), tolerance)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_soft_clip_never_decreases(low, high):
    clipped = soft_clip(jnp.linspace(low - 5, high + 5, 201), low, high)
    assert (jnp.diff(clipped) >= 0).all()


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_soft_clip_gradient_is_positive_outside_and_one_inside(low, high):
    gradient = jax.vmap(jax.grad(lambda x: soft_clip(x, low, high)))
    outside = jnp.array([low - 10, low - 5, low - 1, low, high, high + 1, high + 5, high + 10])
    assert (gradient(outside) > 0).all()
    # In the middle each bound is at least 5 away, and takes at most e^-5 of the slope.
    np.testing.assert_allclose(gradient(jnp.array([(low + high) / 2])), 1, atol=2 * np.exp(-5))


@pytest.mark.parametrize(("low", "high"), [(-20.0, 21.0), (-45.0, 45.0), (-1000.0, 1000.0), (-100.0, 6.0)])
def test_soft_clip_between_bounds_far_apart(low, high):
    x = np.float32([-1e30, 2 * low, low - 3, low, low + 3, 0.0, high - 3, high, high + 3, 2 * high, 1e30])
    exact = x.astype(np.float64)
    expected = np.logaddexp(low, -np.logaddexp(-exact, -high))
    # float32 carries 7 digits.
    np.testing.assert_allclose(soft_clip(jnp.asarray(x), low, high), expected, rtol=2e-7, atol=1e-6)
    gradient = jax.vmap(jax.grad(lambda x: soft_clip(x, low, high)))
    # By exponentials of distances from the bounds, which have the rounding of numbers as large as these.
    tolerance = 1.2e-7 * max(-low, high)
    slope = special.expit(exact - low) - special.expit(exact - high)
    np.testing.assert_allclose(gradient(x), slope, rtol=0, atol=tolerance)


def absurd(size, width):
    # Random signs, so that some units are driven up and others down.
    return jnp.asarray(size * np.random.default_rng(0).choice([-1.0, 1.0], size=(BATCH, width)))


@pytest.mark.parametrize("size", [1e6, -1e6])
def test_log_variances_stay_inside_their_bounds_for_absurd_inputs(vae, params, size):
    posterior, observation = encode(vae, params, absurd(size, 29)), decode(vae, params, absurd(size, 2))
    for log_var, (low, high) in [(posterior.log_var, POSTERIOR_LOG_VAR), (observation.log_var, OBSERVATION_LOG_VAR)]:
        # float32 numbers near 10 are 1e-6 apart.
        assert np.asarray(log_var, np.float64).min() >= low - 1e-6
        assert np.asarray(log_var, np.float64).max() <= high + 1e-6
        # The input is absurd enough for both bounds to be at work.
        assert log_var.min() < low + 0.01
        assert log_var.max() > high - 0.01


def test_an_encoder_that_does_not_tell_of_its_latents_is_named():
    vae = VAE(nn.Dense(4), DenseDecoder(hidden_dims=(), feature_dim=3))
    with pytest.raises(TypeError, match=r"^Dense has no latent_dim"):
        _ = vae.latent_dim


def test_largest_sd_bounds_each_feature_by_itself(params):
    largest_sd = np.repeat([0.1, 0.5, 1.0, 5.0, 50.0], 6)[:29]
    vae = dense_vae(29, learned_variance=True, bounded=True)
    params = bound_sd(params, largest_sd)
    sd = np.exp(np.asarray(decode(vae, params, absurd(1e6, 2)).log_var, np.float64) / 2)
    # float32 carries 7 digits of a logarithm of order 1 to 10, and half as many units of the sd's own.
    assert (sd <= largest_sd * (1 + 1e-6)).all()
    assert (sd >= np.exp(OBSERVATION_LOG_VAR[0] / 2) * (1 - 1e-6)).all()
    # Most bounds are reached (some units are never driven up), and the means are not touched by them.
    assert np.mean(sd.max(0) > 0.99 * largest_sd) > 0.5
    z = jnp.ones((BATCH, 2))
    free = dense_vae(29, learned_variance=True)
    np.testing.assert_array_equal(decode(vae, params, z).mean, decode(free, params, z).mean)


@pytest.mark.parametrize("make", [lambda: dense_vae(3), lambda: hierarchical_vae(9, ((8,), (6,)), (4, 2))])
def test_copies_and_pickles_are_equal_or_jax_would_compile_anew(make):
    vae = make()
    assert copy.deepcopy(vae) == pickle.loads(pickle.dumps(vae)) == vae
    assert hash(copy.deepcopy(vae)) == hash(vae)


def test_bounds_are_no_parameters_and_have_no_gradient():
    vae = dense_vae(3, (4,), learned_variance=True, bounded=True)
    params = vae.init(jax.random.key(0), jnp.zeros((1, 3)), jnp.zeros((1, 2)))
    np.testing.assert_array_equal(params["bounds"]["decoder"]["highest_log_var"], np.full(3, OBSERVATION_LOG_VAR[1]))
    assert count_parameters(params) == count_parameters(params["params"])
    gradient = jax.grad(lambda params: decode(vae, params, jnp.full((1, 2), 100.0)).log_var.sum())(params)
    np.testing.assert_array_equal(gradient["bounds"]["decoder"]["highest_log_var"], np.zeros(3))


def test_an_infinite_largest_sd_is_no_bound(params):
    vae = dense_vae(29, learned_variance=True, bounded=True)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 2)))
    free = decode(vae, bound_sd(params, np.full(29, np.inf)), z).log_var
    assert jnp.isfinite(free).all()
    np.testing.assert_array_equal(free, decode(vae, bound_sd(params, np.full(29, 1e7)), z).log_var)


def test_mean_bound_bounds_the_posterior_means_alone(params, rng):
    vae, free = dense_vae(29, learned_variance=True, mean_bound=4.0), dense_vae(29, learned_variance=True)
    mean = np.asarray(encode(vae, params, absurd(1e6, 29)).mean, np.float64)
    assert np.abs(mean).max() <= 4 + 1e-6
    assert np.abs(mean).max() > 3.99
    x = jnp.asarray(rng.normal(size=(BATCH, 29)))
    bounded, unbounded = encode(vae, params, x), encode(free, params, x)
    np.testing.assert_array_equal(bounded.log_var, unbounded.log_var)
    # As for soft_clip: what is well inside moves by e^-distance from the bounds at most.
    distance = 4 - np.abs(unbounded.mean)
    np.testing.assert_array_less(np.abs(bounded.mean - unbounded.mean), 2 * np.exp(-distance) + 1e-6)
