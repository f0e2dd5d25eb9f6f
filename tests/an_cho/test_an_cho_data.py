"""Rows of each model: which train, which are measured, and what is said of data that can't be used."""

import gzip

import numpy as np
import pytest
from an_cho_data import write_connections, write_digits

from experiments.an_cho import kdd99
from experiments.an_cho.inputs import common_rows, split_digits
from vae_jax.data.errors import DataError
from vae_jax.images.digits import read_folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return read_folder(write_digits(tmp_path_factory.mktemp("data") / "mnist", train=1000))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_connections(tmp_path_factory.mktemp("data") / "kdd99")


def test_every_digit_has_equally_many_training_rows_and_none_of_itself(digits):
    for anomaly in range(10):
        rows = split_digits(digits, anomaly, "test", None, seed=0)
        assert len(rows.train) == common_rows(digits.train_labels)
        assert anomaly not in digits.train_labels[rows.train]
        assert len(set(rows.train)) == len(rows.train)
        np.testing.assert_array_equal(rows.measured, np.arange(100))


def test_validation_rows_are_held_out_training_images_of_every_digit(digits):
    rows = split_digits(digits, 3, "validation", 50, seed=0)
    assert len(rows.train) == 50
    assert not rows.of_test
    assert not set(rows.train) & set(rows.measured)
    np.testing.assert_array_equal(np.bincount(digits.train_labels[rows.measured]), [10] * 10)


def test_common_rows_are_nine_tenths_of_what_the_most_frequent_digit_leaves():
    assert common_rows(np.array([0] * 50 + [1] * 30 + [2] * 20, np.uint8)) == 45


def test_seeds_split_differently(digits):
    first, second = (split_digits(digits, 3, "test", None, seed).train for seed in (0, 1))
    assert set(first) != set(second)


def test_classes_of_attack(folder):
    connections = kdd99.read_folder(folder, later=False)
    assert len(connections.normal) == 120
    assert {name: len(rows) for name, rows in connections.attacks.items()} == dict.fromkeys(kdd99.KINDS, 10)
    assert "label" not in connections.normal


def test_later_attacks_beside_the_normal_rows_of_the_first_file(folder):
    connections = kdd99.read_folder(folder, later=True)
    assert len(connections.normal) == 120
    assert list(connections.attacks) == ["Probe"]


def test_the_fingerprint_changes_with_a_cell(folder):
    connections = kdd99.read_folder(folder, later=False)
    before = connections.fingerprint
    assert before == kdd99.read_folder(folder, later=False).fingerprint
    connections.normal.loc[0, "service"] = "telnet"
    assert connections.fingerprint != before


def test_split_of_connections(folder):
    connections = kdd99.read_folder(folder, later=False)
    test, validation = (kdd99.split(connections, on, None, seed=0) for on in ("test", "validation"))
    assert (len(test.train), len(validation.normal), len(test.normal)) == (84, 12, 24)
    parts = [set(rows.index) for rows in (test.train, validation.normal, test.normal)]
    assert set.union(*parts) == set(range(120))
    assert sum(map(len, parts)) == 120
    assert len(validation.attacks["DoS"]) == 2
    assert len(test.attacks["DoS"]) == 8
    assert len(kdd99.split(connections, "test", 30, seed=0).train) == 30


def test_a_class_of_two_rows_has_one_to_validate_and_one_to_test(tmp_path):
    connections = kdd99.read_folder(write_connections(tmp_path / "kdd99", each=2), later=False)
    for on in ("test", "validation"):
        assert len(kdd99.split(connections, on, None, seed=0).attacks["U2R"]) == 1


def test_encoding(folder):
    """Standardised by the training rows, clipped, and one column for each level of all rows."""
    connections = kdd99.read_folder(folder, later=False)
    train = kdd99.split(connections, "test", None, seed=0).train
    levels = kdd99.levels_of(connections)
    assert levels == {"protocol_type": ["tcp"], "service": ["ftp", "http", "smtp"], "flag": ["SF"]}
    encoding = kdd99.Encoding.fit(train, levels)
    x = encoding.encode(train)
    assert x.dtype == np.float32
    assert x.shape == (84, 38 + 5)
    np.testing.assert_allclose(x[:, :38].mean(0), 0, atol=1e-5)  # float32
    np.testing.assert_allclose(x[:, :38].std(0), 1, atol=1e-5)
    np.testing.assert_array_equal(x[:, 39:42].sum(1), 1)
    far = train.iloc[:1].assign(src_bytes=1e12)
    assert encoding.encode(far).max() == kdd99.LIMIT


@pytest.mark.parametrize(
    ("name", "lines", "words"),
    [
        (None, "", "no such file"),
        (kdd99.FIRST, "1,2,3\n", "has 3 columns; 42 are expected"),
        (
            kdd99.FIRST,
            ",".join(["tcp"] * 41 + ["normal."]) + "\n",
            "line 1, column duration: 'tcp' is no finite number",
        ),
        (kdd99.FIRST, ",".join(["0"] * 41 + ["normal."]) + "\n", "no attack"),
        (kdd99.FIRST, ",".join(["0"] * 41 + ["smurf."]) + "\n", "no normal connection"),
        (kdd99.FIRST, "", "No columns to parse"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, lines, words):
    if name:
        (tmp_path / name).write_bytes(gzip.compress(lines.encode()))
    with pytest.raises(DataError, match=words) as caught:
        kdd99.read_folder(tmp_path, later=False)
    assert str(tmp_path) in str(caught.value)


def test_a_file_that_is_cut_off(folder, tmp_path):
    (tmp_path / kdd99.FIRST).write_bytes((folder / kdd99.FIRST).read_bytes()[:-200])
    with pytest.raises(DataError, match=kdd99.FIRST):
        kdd99.read_folder(tmp_path, later=False)


def test_without_a_folder_or_network_there_are_no_connections(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_JAX_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(kdd99, "network_answers", lambda: False)
    assert kdd99.find_connections("auto", later=False) is None
    with pytest.raises(DataError, match="--attacks later"):
        kdd99.find_connections("auto", later=True)


def test_the_folder_of_real_data_comes_first(folder, monkeypatch):
    monkeypatch.setenv("VAE_JAX_DATA", str(folder.parent))
    connections = kdd99.find_connections("auto", later=False)
    assert connections is not None
    assert connections.source == str(folder)
