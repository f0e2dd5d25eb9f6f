"""Errors of reconstructions against NumPy and SciPy, and the sliced Wasserstein distance by its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from vae_jax.images.measures import PATCH, _patches, _project, _pyramid, reconstruction_errors, sliced_wasserstein

pytestmark = pytest.mark.usefixtures("compiled_well")

compiled_errors = jax.jit(reconstruction_errors)


@pytest.fixture(scope="module")
def pictures():
    """Soft patterns, so that a picture has a structure to lose; and the same with more and more noise."""
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.random((3, 24, 32, 3)), (0, 2, 2, 0))
    x = (x - x.min()) / (x.max() - x.min())
    noise = rng.normal(size=x.shape)
    return x, [np.clip(x + sd * noise, 0, 1) for sd in (0.02, 0.1, 0.3)]


def errors(x, y):
    return compiled_errors(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))


def numpy_ssim(x, y):
    """Wang et al. 2004: Gaussian windows of 11 pixels and sd 1.5, only those that lie inside the picture."""

    def window(image):
        blurred = ndimage.gaussian_filter(image, (0, 1.5, 1.5, 0), radius=(0, 5, 5, 0))
        return blurred[:, 5:-5, 5:-5]

    mean_x, mean_y = window(x), window(y)
    var_x, var_y = window(x * x) - mean_x**2, window(y * y) - mean_y**2
    covariance = window(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean((1, 2, 3))


def test_errors_are_those_of_numpy(pictures):
    x, noisy = pictures
    for y in noisy:
        found = errors(x, y)
        mse = [np.mean((a - b) ** 2) for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(found.mse, mse, rtol=1e-4)
        np.testing.assert_allclose(found.rmse, np.sqrt(mse), rtol=1e-4)
        np.testing.assert_allclose(found.psnr, -10 * np.log10(mse), rtol=1e-4)
        # A variance as a difference of two squares loses digits in float32.
        np.testing.assert_allclose(found.ssim, numpy_ssim(x, y), atol=1e-3)
        assert all(value.shape == (3,) for value in found)


def test_known_errors():
    found = errors(np.full((2, 16, 16, 3), 0.5), np.stack([np.full((16, 16, 3), 0.6), np.full((16, 16, 3), 0.49)]))
    np.testing.assert_allclose(found.rmse, [0.1, 0.01], rtol=1e-4)
    np.testing.assert_allclose(found.psnr, [20, 40], rtol=1e-4)


def test_equal_pictures_have_no_error(pictures):
    found = errors(pictures[0], pictures[0])
    np.testing.assert_array_equal(found.rmse, 0)
    np.testing.assert_array_equal(found.mse, 0)
    np.testing.assert_array_equal(found.psnr, np.inf)
    np.testing.assert_allclose(found.ssim, 1, rtol=1e-5)


def test_more_noise_is_worse_by_every_measure(pictures):
    x, noisy = pictures
    rmse, mse, psnr, ssim = (np.stack(values) for values in zip(*(errors(x, y) for y in [x, *noisy]), strict=True))
    for worse in (rmse, mse, -psnr, -ssim):
        assert (worse[1:] > worse[:-1]).all()


# The Laplacian pyramid

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def numpy_blur(x):
    return ndimage.convolve(np.asarray(x, np.float64), KERNEL[None, :, :, None], mode="mirror")


def test_pyramid_adds_up_to_the_picture(rng):
    x = rng.random((2, 64, 64, 3), np.float32)
    levels = _pyramid(x)
    assert [level.shape for level in levels] == [(2, side, side, 3) for side in (64, 32, 16)]
    picture = levels[-1]
    for level in levels[-2::-1]:
        raised = np.zeros_like(level)
        raised[:, ::2, ::2] = picture
        picture = level + 4 * numpy_blur(raised)
    np.testing.assert_allclose(picture, x, atol=1e-5)
    # The last level is the picture, blurred and halved as often.
    np.testing.assert_allclose(levels[-1], numpy_blur(numpy_blur(x)[:, ::2, ::2])[:, ::2, ::2], atol=1e-5)


def test_a_flat_picture_is_in_the_last_level_alone():
    *details, last = _pyramid(np.full((1, 128, 128, 3), 0.7, np.float32))
    assert len(details) == 3
    for level in details:
        np.testing.assert_allclose(level, 0, atol=1e-6)
    np.testing.assert_allclose(last, 0.7, rtol=1e-5)


@pytest.mark.parametrize(("size", "sides"), [(16, [16]), (48, [48, 24]), (80, [80, 40, 20])])
def test_no_level_is_smaller_than_16(size, sides):
    assert [level.shape[1] for level in _pyramid(np.zeros((1, size, size, 1)))] == sides


# Patches and their projections


def test_patches_are_cut_where_they_should_and_standardised(rng):
    x = (rng.random((2, 16, 16, 3)) * [1, 2, 3] + [5, 0, -5]).astype(np.float32)
    top, left = rng.integers(16 - PATCH + 1, size=(2, 2, 4))
    cut = np.stack(
        [x[i, top[i, j] : top[i, j] + PATCH, left[i, j] : left[i, j] + PATCH] for i in range(2) for j in range(4)]
    )
    expected = (cut - cut.mean((0, 1, 2))) / cut.std((0, 1, 2))
    np.testing.assert_allclose(_patches(x, top, left), expected.reshape(8, -1), atol=1e-4)


def test_patches_of_many_pictures_are_standardised_too(rng):
    """Ten million numbers: added up one by one in float32, the variance comes out 1 % too small."""
    x = 0.3 + 0.4 * rng.random((600, 16, 16, 3), np.float32)
    patches = _patches(x, *rng.integers(16 - PATCH + 1, size=(2, 600, 128))).reshape(-1, 3)
    np.testing.assert_allclose(patches.mean(0, dtype=np.float64), 0, atol=1e-4)
    np.testing.assert_allclose(patches.std(0, dtype=np.float64), 1, atol=1e-4)


def test_a_flat_set_has_patches_of_zeros():
    np.testing.assert_array_equal(_patches(np.full((1, 16, 16, 3), 0.5, np.float32), *np.zeros((2, 1, 4), int)), 0)


def test_sorted_projections_give_the_distance_in_one_dimension(rng):
    directions = rng.normal(size=(6, 5))
    a, b = rng.normal(size=(50, 6)), 2 * rng.normal(size=(50, 6)) + 0.5
    found = np.abs(_project(a, directions) - _project(b, directions)).mean(1)
    expected = [stats.wasserstein_distance(a @ direction, b @ direction) for direction in directions.T]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# The distance


def textures(seed, count=24, size=64):
    """Noise with structure at several scales."""
    rng = np.random.default_rng(seed)
    scales = [ndimage.gaussian_filter(rng.normal(size=(count, size, size, 3)), (0, s, s, 0)) for s in (0.7, 2, 6)]
    return np.clip(0.5 + sum(0.12 * x / x.std() for x in scales), 0, 1).astype(np.float32)


def distance(a, b, seed=0):
    return sliced_wasserstein(a, b, seed, patches_per_image=32, projections=64)


@pytest.fixture(scope="module")
def a():
    return textures(0)


@pytest.fixture(scope="module")
def b():
    """Other pictures of the same texture."""
    return textures(1)


def test_levels_are_named_from_fine_to_coarse(a, b):
    found = distance(a, b)
    assert list(found) == ["64", "32", "16", "mean"]
    np.testing.assert_allclose(found["mean"], np.mean([found[name] for name in ("64", "32", "16")]))
    assert list(distance(a[:, :16, :16], b[:, :16, :16])) == ["16", "mean"]


def test_equal_sets_are_at_distance_zero(a):
    assert set(distance(a, a.copy()).values()) == {0.0}


def test_the_distance_is_symmetric_and_the_same_at_every_call(a, b):
    found = distance(a, b)
    assert min(found.values()) > 0
    assert distance(b, a) == pytest.approx(found)
    assert distance(a, b) == found
    assert distance(a, b, seed=1) != found


def test_blurred_pictures_are_further_away_than_fresh_ones(a, b):
    fresh, blurred = distance(a, b), distance(a, ndimage.gaussian_filter(b, (0, 1.5, 1.5, 0)))
    # What a blur of 1.5 pixels takes is in the finest level; the measured ratios are 1.74 there and 1.24 in the mean.
    assert blurred["64"] > 1.5 * fresh["64"]
    assert blurred["mean"] > 1.15 * fresh["mean"]
    assert blurred["16"] < 1.1 * fresh["16"]


def test_the_distance_is_the_mean_over_places_and_directions(a, b):
    """All places and other directions give the same, up to what is left to chance."""
    x, y = (set_[:1, :16, :16, :1] for set_ in (a, b))
    found = sliced_wasserstein(x, y, patches_per_image=4000, projections=2000)["16"]
    # All places, instead of draws.
    places = np.indices((10, 10)).reshape(2, 1, -1)
    directions = np.random.default_rng(9).normal(size=(PATCH * PATCH, 2000))
    directions /= np.linalg.norm(directions, axis=0)
    projected = [_project(_patches(z, *places), directions) for z in (x, y)]
    expected = 1e3 * np.abs(projected[0] - projected[1]).mean()
    np.testing.assert_allclose(found, expected, rtol=0.1)


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (3, 16, 32, 3), (3, 32, 32, 1)])
def test_sets_of_different_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"different shapes: \(3, 32, 32, 3\) and \("):
        sliced_wasserstein(np.zeros((3, 32, 32, 3)), np.zeros(shape))


def test_pictures_that_are_not_square(a, b):
    """Every part of a picture counts, whichever side is the longer one."""
    wide, other = a[:, :16, :48], a[:, :16, :48].copy()
    other[:, :, 24:] = b[:, :16, 24:48]
    for turn in (lambda x: x, lambda x: x.transpose(0, 2, 1, 3)):
        found = distance(turn(wide), turn(other))
        assert len(found) == 2  # a single level, and the mean
        assert found["mean"] > 1
        assert set(distance(turn(wide), turn(wide)).values()) == {0.0}
