"""Samples, reconstructions, paths, attributes and mixtures: each against what it is by definition."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, numpy_decode, numpy_encode, random_params, tiny_data, tiny_state

from vae_jax.generation import (
    LatentMixture,
    attribute_vectors,
    fit_mixture,
    interpolate,
    most_active,
    principal_directions,
    reconstruct,
    sample_mixture,
    sample_prior,
    traverse,
)
from vae_jax.images.drawn_faces import ATTRIBUTES, draw_face
from vae_jax.networks import ConditionalVAE, DenseDecoder, DenseEncoder, conv_vae, decode, encode
from vae_jax.objectives import Objective
from vae_jax.training import as_float, create_train_state, train_epoch

ROWS = 8


@pytest.fixture(scope="module")
def state():
    return tiny_state()


@pytest.fixture(scope="module")
def data():
    return tiny_data(ROWS)


# Samples and reconstructions


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_sample_prior_decodes_draws_of_the_temperature(state, temperature):
    key = jax.random.key(1)
    samples = sample_prior(state.vae, state.params, key, ROWS, temperature)
    expected, _ = numpy_decode(state.params, temperature * np.asarray(jax.random.normal(key, (ROWS, 2))))
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    assert (samples.std(0).max() > 0.01) == (temperature > 0)


def test_sample_prior_follows_its_key(state):
    one, same, other = (sample_prior(state.vae, state.params, jax.random.key(seed), ROWS) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.any(one == other)


def test_sample_prior_of_a_conditional_vae_says_what_to_do():
    vae = ConditionalVAE(DenseEncoder((5,), 2), DenseDecoder((5,), 6), num_labels=3)
    with pytest.raises(ValueError, match="with_labels"):
        sample_prior(vae, random_params(vae, 9), jax.random.key(1), ROWS)


def test_reconstruct_without_a_key_decodes_the_posterior_mean(state, data):
    mean, _ = numpy_encode(state.params, data)
    found = reconstruct(state.vae, state.params, data)
    np.testing.assert_allclose(found, numpy_decode(state.params, mean)[0], atol=1e-5)
    np.testing.assert_array_equal(found, reconstruct(state.vae, state.params, data))


def test_reconstruct_with_a_key_decodes_a_draw(state, data):
    key = jax.random.key(2)
    mean, log_var = numpy_encode(state.params, data)
    z = mean + np.exp(log_var / 2) * np.asarray(jax.random.normal(key, mean.shape))
    found = reconstruct(state.vae, state.params, data, key)
    np.testing.assert_allclose(found, numpy_decode(state.params, z)[0], atol=1e-5)
    for other in (reconstruct(state.vae, state.params, data, jax.random.key(3)), reconstruct(*vae_and(state), data)):
        assert np.abs(found - other).max() > 0.01


def vae_and(state):
    return state.vae, state.params


def test_reconstruct_takes_bytes(state):
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, 4), np.uint8)
    found = reconstruct(*vae_and(state), pixels)
    np.testing.assert_allclose(found, reconstruct(*vae_and(state), jnp.asarray(pixels, jnp.float32) / 255), atol=1e-6)
    assert np.abs(found - reconstruct(*vae_and(state), jnp.asarray(pixels, jnp.float32))).max() > 1


# Paths


def angle_between(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


@pytest.fixture
def ends(rng):
    return tuple(jnp.asarray(rng.normal(size=12), jnp.float32) for _ in range(2))


def test_linear_interpolation(ends):
    start, end = ends
    path = interpolate(start, end, 5)
    assert path.shape == (5, 12)
    np.testing.assert_array_equal(path[0], start)
    np.testing.assert_array_equal(path[-1], end)
    np.testing.assert_allclose(path[2], (start + end) / 2, atol=1e-6)
    np.testing.assert_allclose(path[1], 0.75 * start + 0.25 * end, atol=1e-6)
    np.testing.assert_array_equal(interpolate(start, end, 2), [start, end])


def test_spherical_interpolation_divides_the_angle_and_keeps_the_length(ends):
    start, end = (4 * z / jnp.linalg.norm(z) for z in ends)
    path = interpolate(start, end, 6, spherical=True)
    np.testing.assert_allclose(path[0], start, atol=1e-5)
    np.testing.assert_allclose(path[-1], end, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 4, rtol=1e-5)
    whole = angle_between(start, end)
    assert 0.3 < whole < 2.8
    angles = [angle_between(a, b) for a, b in itertools.pairwise(path)]
    np.testing.assert_allclose(angles, whole / 5, rtol=1e-3)
    # The straight line is shorter in the middle: by the cosine of half the angle.
    middle = np.linalg.norm(interpolate(start, end, 3)[1])
    np.testing.assert_allclose(middle, 4 * np.cos(whole / 2), rtol=1e-5)


def test_spherical_interpolation_changes_the_length_evenly(ends):
    start, end = (length * z / jnp.linalg.norm(z) for length, z in zip((1.0, 3.0), ends, strict=True))
    lengths = np.linalg.norm(interpolate(start, end, 5, spherical=True), axis=1)
    np.testing.assert_allclose(lengths, [1, 1.5, 2, 2.5, 3], rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 2.5, -1.0, -0.5])
def test_spherical_interpolation_along_one_line_is_linear(rng, factor):
    for _ in range(5):
        start = jnp.asarray(rng.normal(size=50), jnp.float32)
        path = interpolate(start, factor * start, 9, spherical=True)
        np.testing.assert_allclose(path, interpolate(start, factor * start, 9), atol=1e-4)


def test_spherical_interpolation_almost_along_one_line_is_finite_and_exact_at_its_ends(rng):
    for sign in (1, -1):
        for size in (1e-2, 1e-3, 1e-4, 1e-6):
            start = rng.normal(size=50)
            ends = [jnp.asarray(z, jnp.float32) for z in (start, sign * start + size * rng.normal(size=50))]
            path = interpolate(*ends, 9, spherical=True)
            np.testing.assert_allclose(path[jnp.array([0, -1])], ends, atol=0.01)
            # Never further out than the longer end, nor further than a step of the circle goes.
            assert np.linalg.norm(path, axis=1).max() < 1.01 * max(np.linalg.norm(z) for z in ends)


def test_spherical_interpolation_from_the_origin_is_linear(ends):
    origin = jnp.zeros_like(ends[0])
    for end in (ends[0], origin):
        np.testing.assert_array_equal(interpolate(origin, end, 5, spherical=True), interpolate(origin, end, 5))


@pytest.mark.parametrize("factors", [(1, 1), (0, 0), (0, 1), (1, -1)])
def test_spherical_interpolation_along_one_line_has_the_gradient_of_the_line(ends, factors):
    start_and_end = [factor * ends[0] for factor in factors]
    pull = jax.vjp(partial(interpolate, num_steps=5, spherical=True), *start_and_end)[1]
    of_start, of_end = pull(jnp.arange(5.0)[:, None] * jnp.ones((1, len(ends[0]))))
    np.testing.assert_allclose(of_start, 2.5, rtol=1e-5)  # sum of i (1 - i / 4) over i = 0, 1, ..., 4
    np.testing.assert_allclose(of_end, 7.5, rtol=1e-5)


def test_traverse_changes_one_latent_alone(rng):
    z, values = jnp.asarray(rng.normal(size=4), jnp.float32), jnp.array([-2.0, 0.0, 2.0])
    path = traverse(z, 1, values)
    np.testing.assert_array_equal(path, [[z[0], value, z[2], z[3]] for value in values])


def test_traverse_keeps_the_digits_of_the_values():
    np.testing.assert_array_equal(traverse(jnp.array([1, 2]), 0, jnp.array([0.5, -0.5])), [[0.5, 2], [-0.5, 2]])
    with jax.enable_x64(True):
        path = traverse(jnp.ones(2, jnp.float32), 1, jnp.array([1 / 3]))
        np.testing.assert_array_equal(path, [[1, 1 / 3]])


@pytest.mark.parametrize("latent", [4, -5, np.int64(4)])
def test_traverse_refuses_a_latent_that_is_not_there(latent):
    with pytest.raises(ValueError, match=f"^latent={latent}: expected a number below 4, the number of latents$"):
        traverse(jnp.zeros(4), latent, jnp.zeros(3))


def test_most_active_is_by_the_variance_of_the_mean(rng):
    sd = np.array([0.1, 2.0, 0.0, 1.0, 0.5])
    means = 100 * np.arange(5) + sd * rng.normal(size=(200, 5))
    np.testing.assert_array_equal(most_active(means, 3), [1, 3, 4])
    np.testing.assert_array_equal(most_active(means, 9), [1, 3, 4, 0, 2])


# Attributes


def test_attribute_vectors_by_hand():
    means = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 10.0], [2.0, 2.0]], np.float32)
    # Known of all; unknown of the third; nobody has it; everybody whom it is known of has it; known of nobody.
    labels = np.array([[1, 1, -1, 1, 0], [1, -1, -1, 1, 0], [-1, 0, -1, 0, 0], [-1, 1, -1, 1, 0]])
    vectors = attribute_vectors(means, labels)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[2 - 1, 2 - 6], [1.5 - 3, 1 - 4], [0, 0], [0, 0], [0, 0]], rtol=1e-6)


def test_adding_an_attributes_vector_moves_the_mean_without_it_to_the_mean_with_it(rng):
    means, has = rng.normal(size=(40, 3)), rng.random(40) < 0.4
    (vector,) = attribute_vectors(means, np.where(has, 1, -1)[:, None])
    np.testing.assert_allclose(means[~has].mean(0) + vector, means[has].mean(0), atol=1e-12)


SIZE, TRAINING_FACES = 32, 256


@pytest.fixture(scope="module")
def faces():
    """Drawn faces and their attributes."""
    pictures, labels = zip(*(draw_face(0, index, SIZE) for index in range(TRAINING_FACES + 64)), strict=True)
    return np.stack(pictures), np.array(labels)


@pytest.fixture(scope="module")
def face_state(faces):
    """A small model of faces after 25 epochs of 8 steps."""
    vae, objective = conv_vae(SIZE, (8, 16, 16), 8), Objective(weight=2000.0)
    create = jax.jit(lambda: create_train_state(jax.random.key(0), vae, objective, optax.adam(3e-3), (SIZE, SIZE, 3)))
    epoch = jax.jit(partial(train_epoch, batch_size=32), donate_argnums=0)
    state, pictures = create(), jnp.asarray(faces[0][:TRAINING_FACES])
    for _ in range(25):
        state, _ = epoch(state, pictures)
    return state


def test_adding_an_attribute_changes_the_faces_as_it_says(face_state, faces):
    pictures, labels = faces
    means = jax.jit(lambda x: encode(*vae_and(face_state), as_float(x)).mean)(pictures)
    vectors = attribute_vectors(np.asarray(means[:TRAINING_FACES]), labels[:TRAINING_FACES])
    blond, smiling = (vectors[ATTRIBUTES.index(name)][None] for name in ("Blond_Hair", "Smiling"))
    has_hair = labels[TRAINING_FACES:, ATTRIBUTES.index("Bald")] == -1
    held_out = means[TRAINING_FACES:][has_hair]
    draw = jax.jit(lambda z: decode(*vae_and(face_state), z).mean)
    # Where the hair is: above the forehead, in the middle of the picture.
    top = slice(2, 7), slice(10, 22)

    def hair(pictures):
        return np.asarray(pictures)[:, *top].mean((1, 2, 3))

    def effect(vector):
        return hair(draw(held_out + 2 * vector)) - hair(draw(held_out - 2 * vector))

    # Measured: 0.50 on average and 0.42 at least; a smile changes it by 0.08 at most.
    assert effect(blond).mean() > 0.3
    assert effect(blond).min() > 0.2
    assert np.abs(effect(smiling)).mean() < 0.1


# Mixtures


def test_fit_mixture_finds_two_gaussians(rng):
    count = 4000
    weights, means = np.array([0.3, 0.7]), np.array([[-4.0, 0.0], [3.0, 2.0]])
    roots = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.7, 0.0], [-0.3, 1.2]]])
    component = (rng.random(count) < weights[1]).astype(int)
    draws = means[component] + np.einsum("nij,nj->ni", roots[component], rng.normal(size=(count, 2)))
    mixture = fit_mixture(draws, num_components=2)
    assert all(part.dtype == np.float32 for part in mixture)
    order = np.argsort(mixture.means[:, 0])
    # Four standard errors: of a share, of the means of 1,200 draws of sd 1.25 at most, and of their variances.
    np.testing.assert_allclose(mixture.weights[order], weights, atol=4 * np.sqrt(0.3 * 0.7 / count))
    np.testing.assert_allclose(mixture.means[order], means, atol=4 * 1.25 / np.sqrt(0.3 * count))
    covariances = mixture.cholesky @ mixture.cholesky.transpose(0, 2, 1)
    expected = roots @ roots.transpose(0, 2, 1)
    np.testing.assert_allclose(covariances[order], expected, atol=4 * 1.5 * np.sqrt(2 / (0.3 * count)))
    np.testing.assert_array_equal(mixture.cholesky, np.tril(mixture.cholesky))


@pytest.mark.parametrize(("draws", "components"), [(5, 1), (39, 1), (40, 2), (79, 3), (400, 4)])
def test_fit_mixture_uses_fewer_components_for_few_draws(rng, draws, components):
    mixture = fit_mixture(rng.normal(size=(draws, 2)), num_components=4)
    assert [part.shape for part in mixture] == [(components,), (components, 2), (components, 2, 2)]
    np.testing.assert_allclose(mixture.weights.sum(), 1, rtol=1e-5)


def test_fit_mixture_is_the_same_for_the_same_seed(rng):
    draws = rng.normal(size=(200, 2))
    for one, other in zip(fit_mixture(draws, 3, seed=1), fit_mixture(draws, 3, seed=1), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def mixture():
    roots = [[[1.0, 0.0], [0.5, 0.5]], [[2.0, 0.0], [-1.0, 0.1]], [[0.3, 0.0], [0.0, 0.3]]]
    parts = ([0.3, 0.7, 0.0], [[-20.0, 1.0], [20.0, -1.0], [1000.0, 0.0]], roots)
    return LatentMixture(*(np.array(part, np.float32) for part in parts))


def test_sample_mixture_has_the_moments_of_each_component(mixture):
    count = 20_000
    samples = np.asarray(sample_mixture(mixture, jax.random.key(0), count), np.float64)
    assert samples.dtype == np.float64
    assert samples.shape == (count, 2)
    # The components are more than ten standard deviations apart, and the third has no weight.
    first = samples[:, 0] < 0
    assert samples.max() < 500
    np.testing.assert_allclose(first.mean(), 0.3, atol=4 * np.sqrt(0.3 * 0.7 / count))
    for number, chosen in enumerate((first, ~first)):
        drawn, covariance = samples[chosen], mixture.cholesky[number] @ mixture.cholesky[number].T
        sd = np.sqrt(np.diag(covariance))
        np.testing.assert_array_less(np.abs(drawn.mean(0) - mixture.means[number]), 4 * sd / np.sqrt(len(drawn)))
        tolerance = 4 * np.outer(sd, sd) * np.sqrt(2 / len(drawn))
        np.testing.assert_array_less(np.abs(np.cov(drawn.T) - covariance), tolerance)


def test_sample_mixture_follows_its_key(mixture):
    one, same, other = (sample_mixture(mixture, jax.random.key(seed), 50) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.any(one == other)
    assert one.dtype == jnp.float32


def test_sample_mixture_at_a_temperature_keeps_components_and_scales_the_distance_from_their_means(mixture):
    draws = {t: np.asarray(sample_mixture(mixture, jax.random.key(0), 50, t)) for t in (0.0, 0.5, 1.0)}
    assert {tuple(draw) for draw in draws[0.0]} == {tuple(mean) for mean in np.float32(mixture.means[:2])}
    np.testing.assert_allclose(draws[0.5] - draws[0.0], 0.5 * (draws[1.0] - draws[0.0]), atol=1e-5)


def test_everything_can_be_compiled(state, data, mixture, ends):
    key, values = jax.random.key(0), jnp.array([-1.0, 1.0])
    calls = {
        "sample_prior": (lambda params, key: sample_prior(state.vae, params, key, ROWS, 0.7), (state.params, key)),
        "reconstruct": (lambda params, x: reconstruct(state.vae, params, x), (state.params, data)),
        "reconstruct, drawn": (lambda *args: reconstruct(state.vae, *args), (state.params, data, key)),
        "interpolate": (lambda a, b: interpolate(a, b, 5), ends),
        "interpolate, spherical": (lambda a, b: interpolate(a, b, 5, spherical=True), ends),
        "traverse": (traverse, (ends[0], 1, values)),
        "sample_mixture": (lambda mixture, key: sample_mixture(mixture, key, ROWS), (mixture, key)),
    }
    for name, (function, arguments) in calls.items():
        compiled, eager = jax.jit(function)(*arguments), function(*arguments)
        assert np.isfinite(eager).all(), name
        assert_close({name: compiled}, {name: eager}, atol=1e-5, rtol=1e-6)


def test_principal_directions_are_those_of_the_covariance():
    means = np.random.default_rng(0).normal(size=(500, 4)) @ np.diag([3.0, 1.0, 0.5, 0.0])
    directions = principal_directions(means, 3)
    variances, vectors = np.linalg.eigh(np.cov(means.T, bias=True))
    for direction, variance, vector in zip(directions, variances[::-1], vectors.T[::-1], strict=False):
        np.testing.assert_allclose(np.linalg.norm(direction), np.sqrt(variance), rtol=1e-9)
        np.testing.assert_allclose(abs(direction @ vector), np.sqrt(variance), rtol=1e-9)
        assert direction[np.abs(direction).argmax()] > 0
