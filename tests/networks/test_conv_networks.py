"""The convolutional VAE: its size, its layers against loops in float64, and what its settings change."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import float64
from scipy import special, stats

from vae_jax.networks import (
    PIXEL_LOG_VAR,
    POSTERIOR_LOG_VAR,
    conv_vae,
    count_parameters,
    decode,
    encode,
    leaky_relu,
    soft_clip,
)
from vae_jax.objectives import Objective, gaussian, mse, rmse

pytestmark = pytest.mark.usefixtures("compiled_well")

BATCH, SIZE, FILTERS, LATENTS = 3, 16, (3, 4, 5, 6), 2
small_vae = partial(conv_vae, SIZE, FILTERS, LATENTS)


def shapes(vae, size):
    return jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, size, size, 3)), jnp.zeros((1, vae.latent_dim)))


def zeros(vae, size):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(vae, size))


def random_params(vae, size=SIZE, seed=0):
    """Parameters of the module's own shapes, drawn by NumPy; unlike the module's own, biases are not 0."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        sd = 2 / np.sqrt(np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.2
        return jnp.asarray(sd * rng.normal(size=leaf.shape), jnp.float32)

    return jax.tree.map(draw, shapes(vae, size))


@pytest.fixture(scope="module")
def params():
    return random_params(small_vae())


@pytest.fixture(scope="module")
def pictures():
    return jnp.asarray(np.random.default_rng(1).random((BATCH, SIZE, SIZE, 3), np.float32))


@pytest.fixture(scope="module")
def latents():
    return jnp.asarray(np.random.default_rng(2).normal(size=(BATCH, LATENTS)), jnp.float32)


# Compiled once for each network.
@functools.cache
def forward(**settings):
    return jax.jit(small_vae(**settings).apply)


@functools.cache
def compiled_decode(**settings):
    return jax.jit(partial(decode, small_vae(**settings)))


@pytest.fixture(scope="module")
def loss_and_gradient(params, pictures, latents):
    """The loss of a network and its gradient, by the network's settings."""
    objective = Objective(rmse, weight=100.0)

    @functools.cache
    def compute(**settings):
        def loss(params):
            return objective.loss(objective.terms(pictures, *forward(**settings)(params, pictures, latents))).mean()

        return jax.jit(jax.value_and_grad(loss))(params)

    return compute


# Layers


def test_layer_shapes_and_counts_by_name():
    layers = zeros(conv_vae(), 128)["params"]
    found = {
        part: {name: (layer["kernel"].shape, count_parameters(layer)) for name, layer in layers[part].items()}
        for part in layers
    }
    assert found == {
        "encoder": {
            "Conv_0": ((3, 3, 3, 32), 896),
            "Conv_1": ((3, 3, 32, 64), 18_496),
            "Conv_2": ((3, 3, 64, 64), 36_928),
            "Conv_3": ((3, 3, 64, 64), 36_928),
            "mean": ((8 * 8 * 64, 200), 819_400),
            "log_var": ((8 * 8 * 64, 200), 819_400),
        },
        "decoder": {
            "Dense_0": ((200, 8 * 8 * 64), 823_296),
            "ConvTranspose_0": ((3, 3, 64, 64), 36_928),
            "ConvTranspose_1": ((3, 3, 64, 64), 36_928),
            "ConvTranspose_2": ((3, 3, 64, 32), 18_464),
            "ConvTranspose_3": ((3, 3, 32, 3), 867),
        },
    }
    for part in layers.values():
        for layer in part.values():
            assert set(layer) == {"kernel", "bias"}
            assert layer["bias"].shape == layer["kernel"].shape[-1:]


def test_parameter_counts():
    params = zeros(conv_vae(), 128)["params"]
    assert count_parameters(params["encoder"]) == 1_732_048
    assert count_parameters(params["decoder"]) == 916_483
    assert count_parameters(params) == 2_648_531


@pytest.mark.parametrize(
    ("size", "filters", "latent_dim"), [(128, (32, 64, 64, 64), 200), (64, (4, 8), 7), (6, (2,), 1)]
)
def test_output_shapes(size, filters, latent_dim):
    vae = conv_vae(size, filters, latent_dim)
    assert vae.latent_dim == latent_dim
    params, x = shapes(vae, size), jnp.zeros((5, size, size, 3))
    posterior, observation = jax.eval_shape(vae.apply, params, x, jnp.zeros((5, latent_dim)))
    assert posterior.mean.shape == posterior.log_var.shape == (5, latent_dim)
    assert observation.mean.shape == x.shape
    assert observation.log_var is None


def test_no_filters_are_refused():
    with pytest.raises(ValueError, match=r"filters \(\): expected at least one"):
        conv_vae(filters=())


@pytest.mark.parametrize("size", [0, -16, 8, 24, 100])
def test_an_image_size_that_cannot_be_halved_four_times_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size {size}: expected a multiple of 16"):
        conv_vae(size)


def test_leaky_relu_has_the_slope_of_the_report():
    np.testing.assert_allclose(leaky_relu(jnp.array([-2.0, -0.5, 0.0, 0.5, 2.0])), [-0.6, -0.15, 0, 0.5, 2], rtol=1e-6)


# Values


def numpy_leaky_relu(x):
    return np.where(x > 0, x, 0.3 * x)


def numpy_conv(layer, x):
    """Stride 2: the output at (i, j) sees the 3 x 3 pixels from (2i, 2j) on, and zeros beyond the edge."""
    batch, height, width, _ = x.shape
    y = np.tile(layer["bias"], (batch, height // 2, width // 2, 1))
    for i, j, a, b in np.ndindex(height // 2, width // 2, 3, 3):
        if 2 * i + a < height and 2 * j + b < width:
            y[:, i, j] += x[:, 2 * i + a, 2 * j + b] @ layer["kernel"][a, b]
    return y


def numpy_conv_transpose(layer, x):
    """Stride 2: the pixel at (i, j) adds to the 3 x 3 pixels from (2i, 2j) on, the kernel's last tap first."""
    batch, height, width, _ = x.shape
    y = np.tile(layer["bias"], (batch, 2 * height, 2 * width, 1))
    for i, j, a, b in np.ndindex(height, width, 3, 3):
        if 2 * i + 2 - a < 2 * height and 2 * j + 2 - b < 2 * width:
            y[:, 2 * i + 2 - a, 2 * j + 2 - b] += x[:, i, j] @ layer["kernel"][a, b]
    return y


def numpy_dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def numpy_encode(params, x):
    layers, x = float64(params)["params"]["encoder"], float64(x)
    for number in range(len(FILTERS)):
        x = numpy_leaky_relu(numpy_conv(layers[f"Conv_{number}"], x))
    x = x.reshape(len(x), -1)
    low, high = POSTERIOR_LOG_VAR
    return numpy_dense(layers["mean"], x), np.clip(numpy_dense(layers["log_var"], x), low, high)


def numpy_decode(params, z):
    layers, z = float64(params)["params"]["decoder"], float64(z)
    side = SIZE // 2 ** len(FILTERS)
    x = numpy_dense(layers["Dense_0"], z).reshape(len(z), side, side, FILTERS[-1])
    for number in range(len(FILTERS) - 1):
        x = numpy_leaky_relu(numpy_conv_transpose(layers[f"ConvTranspose_{number}"], x))
    return special.expit(numpy_conv_transpose(layers[f"ConvTranspose_{len(FILTERS) - 1}"], x))


@pytest.mark.parametrize("matrix_products", [True, False])
def test_encoder_and_decoder_are_the_float64_reference(params, pictures, latents, matrix_products):
    vae = small_vae(matrix_products=matrix_products)
    mean, log_var = jax.jit(partial(encode, vae))(params, pictures)
    expected_mean, expected_log_var = numpy_encode(params, pictures)
    # The pictures differ by far more than float32, which carries 7 digits, loses in five layers.
    assert expected_mean.std(0).min() > 0.05
    np.testing.assert_allclose(mean, expected_mean, atol=1e-5)
    # Far from its bounds the soft clip is the identity up to e^-distance.
    assert np.abs(expected_log_var).max() < 3
    np.testing.assert_allclose(log_var, expected_log_var, atol=2 * np.exp(-7))
    np.testing.assert_allclose(
        log_var, float64(soft_clip(jnp.asarray(expected_log_var, jnp.float32), *POSTERIOR_LOG_VAR)), atol=1e-5
    )
    decoded = compiled_decode(matrix_products=matrix_products)(params, latents)
    assert decoded.log_var is None
    expected = numpy_decode(params, latents)
    assert expected.std() > 0.05
    np.testing.assert_allclose(decoded.mean, expected, atol=1e-5)


def test_means_are_colours(params, latents):
    mean = compiled_decode()(params, 3 * latents).mean
    assert mean.min() > 0
    assert mean.max() < 1
    assert mean.max() - mean.min() > 0.5


def test_matrix_products_are_another_form_of_the_same_network(loss_and_gradient):
    (loss, gradient), (expected_loss, expected) = (loss_and_gradient(matrix_products=form) for form in (True, False))
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    for (path, leaf), (_, wanted) in zip(
        *(jax.tree_util.tree_leaves_with_path(tree) for tree in (gradient, expected)), strict=True
    ):
        scale = np.abs(wanted).max()
        assert scale > 1e-4, path
        np.testing.assert_allclose(leaf, wanted, atol=1e-5 * scale, rtol=0, err_msg=str(path))


# A learned variance


def test_a_learned_variance_is_one_parameter_more(params):
    plain, learned = (shapes(small_vae(learned_variance=value), SIZE)["params"] for value in (False, True))
    assert learned["decoder"].pop("log_var").shape == ()
    assert jax.tree.map(jnp.shape, learned) == jax.tree.map(jnp.shape, plain)
    assert "log_var" not in plain["decoder"]


def with_log_var(params, value):
    decoder = {**params["params"]["decoder"], "log_var": jnp.float32(value)}
    return {"params": {**params["params"], "decoder": decoder}}


@pytest.mark.parametrize(("value", "expected"), [(-1e6, -10), (-5.0, -5.0), (1e6, 0)])
def test_the_learned_variance_is_that_of_every_pixel_and_bounded(params, latents, value, expected):
    observation = compiled_decode(learned_variance=True)(with_log_var(params, value), latents)
    assert observation.log_var.shape == observation.mean.shape == (BATCH, SIZE, SIZE, 3)
    assert observation.log_var.min() == observation.log_var.max()
    assert PIXEL_LOG_VAR[0] - 1e-6 <= observation.log_var.min() <= PIXEL_LOG_VAR[1] + 1e-6
    # In the middle each bound is 5 away, and moves the value by e^-5 at most.
    np.testing.assert_allclose(observation.log_var[0, 0, 0, 0], expected, atol=np.exp(-5))
    np.testing.assert_allclose(observation.mean, compiled_decode()(params, latents).mean, atol=1e-6)


def test_the_gaussian_objective_with_the_learned_variance(params, pictures, latents):
    objective = Objective(gaussian)

    def total(value):
        outputs = forward(learned_variance=True)(with_log_var(params, value), pictures, latents)
        terms = objective.terms(pictures, *outputs)
        return terms.reconstruction.sum(), (terms, outputs[1])

    (_, (terms, observation)), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.float32(-5.0))
    x, mean, log_var = float64((pictures, observation.mean, observation.log_var))
    density = stats.norm.logpdf(x, mean, np.exp(log_var / 2))
    np.testing.assert_allclose(terms.reconstruction, -density.sum((1, 2, 3)), rtol=1e-5)
    # Half of 1 - (squared error / variance) for each pixel; the soft clip takes at most e^-5 of it from either side.
    np.testing.assert_allclose(slope, 0.5 * (1 - np.square(x - mean) / np.exp(log_var)).sum(), rtol=2 * np.exp(-5))


def test_the_gaussian_objective_needs_the_learned_variance(params, pictures, latents):
    with pytest.raises(ValueError, match="learned_variance=True"):
        gaussian(pictures, compiled_decode()(params, latents))


def test_the_learned_variance_starts_at_about_that_of_a_pixel():
    vae = conv_vae(2, (1,), 1, learned_variance=True)
    params = jax.jit(vae.init)(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 1)))
    assert params["params"]["decoder"]["log_var"] == -3


# bfloat16


def test_bfloat16_computes_in_it_and_keeps_everything_else_in_float32(params, pictures, latents):
    half = {"dtype": jnp.bfloat16, "learned_variance": True}
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(small_vae(**half), SIZE))} == {jnp.dtype(jnp.float32)}
    params = with_log_var(params, -3.0)
    outputs, expected = (
        jax.tree.leaves(forward(**settings)(params, pictures, latents))
        for settings in (half, {"learned_variance": True})
    )
    names = ("posterior mean", "posterior log_var", "mean", "log_var")
    for name, actual, wanted in zip(names, outputs, expected, strict=True):
        assert actual.dtype == jnp.float32, name
        if name == "log_var":  # a parameter, not the result of a computation
            np.testing.assert_array_equal(actual, wanted)
        else:
            # bfloat16 carries 8 bits, 0.4 %, of what is of order 1, and five layers lose some of them.
            difference = np.abs(actual - wanted).max()
            assert 1e-4 < difference < 0.1, name


def test_parameters_and_outputs_are_float32_in_64_bits_too():
    vae = small_vae(learned_variance=True)
    with jax.enable_x64(True):
        pictures, noise = jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, vae.latent_dim))
        found = jax.eval_shape(vae.init_with_output, jax.random.key(0), pictures, noise)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}


def test_the_gradient_in_bfloat16_points_the_same_way(loss_and_gradient):
    loss, gradient = loss_and_gradient(dtype=jnp.bfloat16, matrix_products=True)
    expected_loss, expected = loss_and_gradient(matrix_products=True)
    # Measured: 0.08 % of the loss, and a cosine of 0.9996.
    assert loss != expected_loss
    np.testing.assert_allclose(loss, expected_loss, rtol=0.01)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g)]) for g in (gradient, expected))
    assert one @ other / (np.linalg.norm(one) * np.linalg.norm(other)) > 0.99


# Objectives on pictures


@pytest.mark.parametrize("objective", [mse, rmse])
def test_errors_of_pictures_are_over_all_pixels_and_colours(params, pictures, latents, objective):
    observation = compiled_decode()(params, latents)
    found = objective(pictures, observation)
    expected = [np.mean((x - mean) ** 2) for x, mean in zip(*float64((pictures, observation.mean)), strict=True)]
    assert found.shape == (BATCH,)
    assert np.ptp(expected) > 1e-4  # each picture has its own
    np.testing.assert_allclose(found, expected if objective is mse else np.sqrt(expected), rtol=1e-5)
