"""The models: losses and scores against closed forms, and one compiled program for data of equal shape."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same, compilations, numpy_decode, numpy_encode, random_params

from experiments.an_cho import models
from experiments.an_cho.config import AnChoConfig
from experiments.command_line import RunError

CONFIG = AnChoConfig(hidden_dims=(6,), latent_dim=2, epochs=3, batch_size=8, learning_rate=1e-2)
ROWS = 32  # of all training data here, so that it shares its programs


def linear_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x @ y.T


def test_kernel_pca_with_a_linear_kernel_is_pca(rng):
    train, rows = rng.normal(size=(30, 5)) * np.arange(1, 6), rng.normal(size=(7, 5))
    kernel = models.Kernel(linear_kernel, lambda x: np.square(x).sum(1))
    for variance in (0.5, 0.8, 0.97):
        score = models.kernel_pca(train, variance, kernel)(rows)
        np.testing.assert_allclose(score, models.pca(train, variance)(rows), rtol=1e-8)


def test_kernel_pca_scores_many_rows_in_chunks(rng, monkeypatch):
    train, rows = rng.normal(size=(10, 3)), rng.normal(size=(9, 3))
    score = models.kernel_pca(train, 0.8, models.gaussian_kernel(train, 1.0))
    whole = score(rows)
    monkeypatch.setattr(models, "KERNEL_CHUNK", 4)
    np.testing.assert_allclose(score(rows), whole, rtol=1e-12)


def test_a_training_row_far_from_the_mean_is_less_normal_than_the_mean_of_all(rng):
    train = rng.normal(size=(50, 2))
    score = models.kernel_pca(train, 0.9, models.gaussian_kernel(train, 1.0))
    near, far = score(np.array([[0.0, 0.0], [8.0, 8.0]]))
    assert far < near <= 0


def test_width_of_the_gaussian_kernel():
    """Three points on a line: squared distances 1, 4 and 9, so 2 s² = 4."""
    points = np.array([[0.0], [1.0], [3.0]])
    kernel = models.gaussian_kernel(points, 1.0)
    expected = np.exp(-np.square(points - points.T) / 4)
    np.testing.assert_allclose(kernel.values(points, points), expected, rtol=1e-12)
    np.testing.assert_allclose(np.diag(expected), kernel.diagonal(points))
    wider = models.gaussian_kernel(points, 2.0)
    np.testing.assert_allclose(wider.values(points, points), np.sqrt(expected), rtol=1e-12)


def test_kernel_of_rows_of_which_most_are_equal():
    points = np.array([[0.0], [0.0], [0.0], [2.0]])
    assert np.isfinite(models.gaussian_kernel(points, 1.0).values(points, points)).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_reconstruction_error_is_that_of_the_posterior_mean(rng, likelihood):
    x = rng.uniform(size=(5, 4)).astype(np.float32)
    vae, _ = models.vae_of(likelihood, 4, CONFIG)
    params = random_params(vae, 4)
    hidden = numpy_encode(params, x)[0]
    if likelihood == "gaussian":
        mean, _ = numpy_decode(params, hidden)
    else:
        decoder = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]["decoder"]
        first = np.maximum(hidden @ decoder["Dense_0"]["kernel"] + decoder["Dense_0"]["bias"], 0)
        mean = 1 / (1 + np.exp(-(first @ decoder["logits"]["kernel"] + decoder["logits"]["bias"])))
    score = models.reconstruction_error(vae, params)(x)
    np.testing.assert_allclose(score, -np.square(x - mean).sum(1), rtol=1e-4)  # float32


def test_pixels_are_scored_as_grey_values_from_0_to_1(rng):
    pixels = rng.integers(0, 256, (5, 4)).astype(np.uint8)
    vae, _ = models.vae_of("bernoulli", 4, CONFIG)
    params = random_params(vae, 4)
    grey = pixels / np.float32(255)
    for score in (
        models.reconstruction_error(vae, params),
        models.reconstruction_probability(vae, params, 3, jax.random.key(0)),
    ):
        np.testing.assert_allclose(score(pixels), score(grey), rtol=1e-6)  # XLA and NumPy divide differently


def test_reconstruction_probability_is_the_mean_log_probability(rng):
    """A decoder that ignores its input: then the mean over latents is a closed form."""
    vae, _ = models.vae_of("bernoulli", 3, CONFIG)
    params = jax.tree.map(jnp.zeros_like, random_params(vae, 3))
    x = rng.uniform(size=(6, 3)).astype(np.float32)
    score = models.reconstruction_probability(vae, params, 4, jax.random.key(0))(x)
    np.testing.assert_allclose(score, 3 * np.log(0.5), rtol=1e-6)


def test_the_autoencoder_sees_neither_noise_nor_kl(rng):
    vae, objective = models.autoencoder_of("gaussian", 4, CONFIG)
    params, x = random_params(vae, 4), jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    terms, posterior, observation = objective.evaluate(vae, params, x, jnp.full((5, 1), 9.0), x)
    expected = np.square(x - numpy_decode(params, numpy_encode(params, x)[0])[0]).sum(1)
    np.testing.assert_allclose(objective.loss(terms), expected, rtol=1e-4)  # float32
    assert not terms.kl.any()
    assert observation.log_var is None
    assert posterior.mean.shape == (5, 2)


def test_training_lowers_the_loss_and_tells_each_epoch(rng):
    x = rng.normal(size=(ROWS, 1)) * np.ones(4) + 0.1 * rng.normal(size=(ROWS, 4))
    records = []
    config = dataclasses.replace(CONFIG, epochs=40)
    for model in (models.vae_of, models.autoencoder_of):
        records.clear()
        models.fit(*model("gaussian", 4, config), x.astype(np.float32), config, jax.random.key(0), records.append)
        assert [record["epoch"] for record in records] == list(range(1, 41))
        assert records[-1]["loss"] < 0.8 * records[0]["loss"]


def test_models_of_one_shape_share_a_program(rng):
    def fit(seed: int):
        x = rng.normal(size=(ROWS, 4)).astype(np.float32)
        vae, objective = models.vae_of("gaussian", 4, CONFIG)
        params = models.fit(vae, objective, x, CONFIG, jax.random.key(seed), lambda record: None)
        models.reconstruction_probability(vae, params, 3, jax.random.key(seed))(x)

    fit(0)
    before = compilations()
    fit(1)
    assert compilations() == before


def test_equal_keys_give_equal_models(rng):
    x = rng.normal(size=(ROWS, 4)).astype(np.float32)
    vae, objective = models.vae_of("gaussian", 4, CONFIG)
    key = models.model_key(0, "mnist", "3", "vae")
    first, second = (models.fit(vae, objective, x, CONFIG, key, lambda record: None) for _ in range(2))
    assert_same(first, second)


def test_every_model_has_a_key_of_its_own():
    named = [(0, "mnist", "3", "vae"), (0, "mnist", "4", "vae"), (1, "mnist", "3", "vae"), (0, "mnist", "3", "score")]
    data = [tuple(jax.random.key_data(models.model_key(*name)).tolist()) for name in named]
    assert len(set(data)) == len(named)


def test_a_loss_that_is_not_finite_names_the_option():
    x = np.full((ROWS, 4), np.nan, np.float32)
    with pytest.raises(RunError, match=r"^--learning-rate 0.01: the loss is nan in epoch 1; use a lower rate$"):
        models.fit(*models.vae_of("gaussian", 4, CONFIG), x, CONFIG, jax.random.key(0), lambda record: None)
