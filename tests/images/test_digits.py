"""MNIST's files, whole and damaged, and drawn digits."""

import gzip
import struct

import numpy as np
import pytest
from real_data import real_data

from vae_jax.data.errors import DataError
from vae_jax.images.digits import FILES, drawn_digits, find_digits, read_folder


def idx(array, kind=None):
    """An array as an idx file's bytes."""
    kind = 2048 + array.ndim if kind is None else kind
    return struct.pack(f">{1 + array.ndim}i", kind, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, rng):
    images, labels = rng.integers(0, 256, (5, 28, 28)).astype(np.uint8), np.arange(5, dtype=np.uint8)
    for name, array in zip(FILES, (images, labels, images[:3], labels[:3]), strict=True):
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path, images, labels


def test_four_files_plain_gzipped_or_named_as_on_kaggle(folder):
    place, images, labels = folder
    plain = read_folder(place)
    np.testing.assert_array_equal(plain.train, images.reshape(5, -1))
    np.testing.assert_array_equal(plain.test_labels, labels[:3])
    for name in FILES[:2]:
        (place / f"{name}.gz").write_bytes(gzip.compress((place / name).read_bytes()))
        (place / name).unlink()
    for name in FILES[2:]:
        (place / name).rename(place / name.replace("-idx", ".idx"))
    assert read_folder(place).fingerprint == plain.fingerprint


def replaced(file, array=None, content=None):
    return lambda place: (place / FILES[file]).write_bytes(idx(array) if content is None else content)


IMAGES = np.zeros((5, 28, 28), np.uint8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / FILES[1]).unlink(), "lacks train-labels-idx1-ubyte"),
        (replaced(0, content=b""), "train-images-idx3-ubyte: not an idx file of images"),
        (replaced(0, content=b"PK\x03\x04" + bytes(99)), "train-images-idx3-ubyte: not an idx file of images"),
        (replaced(1, IMAGES), "train-labels-idx1-ubyte: not an idx file of labels"),
        (replaced(0, np.zeros((5, 32, 32), np.uint8)), "holds 5 x 32 x 32; 28 x 28 is expected"),
        (replaced(0, content=struct.pack(">4i", 2051, 2**31 - 1, 28, 28)), "holds 2147483647 x 28 x 28"),
        (replaced(0, content=struct.pack(">4i", 2051, -1, 28, 28)), "holds -1 x 28 x 28"),
        (replaced(0, content=idx(IMAGES)[:-1]), "fewer bytes than its header says"),
        (replaced(0, content=idx(IMAGES) + b"x"), "more bytes than its header says"),
        (replaced(0, IMAGES[:4]), "train has 4 images and 5 labels"),
        (replaced(3, np.array([1, 2, 10], np.uint8)), "t10k has the label 10"),
        (replaced(2, content=idx(IMAGES[:0])), "t10k has 0 images and 3 labels"),
    ],
    ids=lambda value: None if callable(value) else value[:40],
)
def test_damage_is_named_in_one_line(folder, damage, message):
    place, _, _ = folder
    damage(place)
    with pytest.raises(DataError) as error:
        read_folder(place)
    assert message in str(error.value)
    assert str(place) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gzipped_file_that_is_cut_off_is_named(folder):
    place, _, _ = folder
    path = place / f"{FILES[0]}.gz"
    path.write_bytes(gzip.compress((place / FILES[0]).read_bytes())[:-40])
    (place / FILES[0]).unlink()
    with pytest.raises(DataError, match=f"{FILES[0]}.gz: "):
        read_folder(place)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_digits(str(tmp_path / "nowhere"))


def test_drawn_digits_are_the_same_every_time_and_of_every_class():
    digits = drawn_digits()
    assert digits.synthetic
    assert digits.fingerprint == drawn_digits().fingerprint
    assert set(digits.train_labels) == set(digits.test_labels) == set(range(10))
    assert 0.05 < (digits.train > 127).mean() < 0.4
    # Each class looks like itself: a test image is nearest to the mean of its own more often than by chance.
    means = np.stack([digits.train[digits.train_labels == label].mean(0) for label in range(10)])
    nearest = ((digits.test[:, None] - means[None]) ** 2).sum(-1).argmin(1)
    assert (nearest == digits.test_labels).mean() > 0.5


def test_mnist_itself():
    digits = find_digits(str(real_data("mnist")))
    assert (digits.train.shape, digits.test.shape) == ((60_000, 784), (10_000, 784))
    assert digits.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert not digits.synthetic
