import json

import numpy as np
import pandas as pd
import pytest

from vae_jax.tables.csv_file import LARGEST_CELL
from vae_jax.tables.scaling import LARGEST, Scaler, constant_features


def test_by_hand():
    scaler = Scaler.fit(np.array([[1.0, 10.0], [3.0, 30.0]]), ("a", "b"))
    np.testing.assert_array_equal(scaler.mean, [2, 20])
    np.testing.assert_array_equal(scaler.sd, [1, 10])
    assert scaler.feature_names == ("a", "b")
    np.testing.assert_array_equal(scaler.transform(np.array([[2.0, 0.0], [5.0, 25.0]])), [[0, -2], [3, 0.5]])


def test_fitted_rows_have_mean_0_and_sd_1(rng):
    features = rng.normal([5, -1e4, 3e-5], [2, 1e3, 1e-6], size=(2000, 3))
    x = Scaler.fit(features, ("a", "b", "c")).transform(features)
    assert x.dtype == np.float32
    assert x.shape == features.shape
    # The rounding of 2,000 float32 values of size 1 averages out well below one unit in the last place, 1e-7.
    np.testing.assert_allclose(x.mean(0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0, dtype=np.float64), 1, atol=1e-6)


def test_other_rows_are_scaled_by_the_fitted_ones(rng):
    features = rng.normal(size=(100, 2))
    scaler = Scaler.fit(features[:50], ("a", "b"))
    expected = (features[50:] - features[:50].mean(0)) / features[:50].std(0)
    np.testing.assert_allclose(scaler.transform(features[50:]), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_another_value_in_a_constant_feature_is_cut_at_the_limit_in_every_unit(rng, value, unit):
    features = np.column_stack([rng.normal(size=10), np.full(10, value)]) * unit
    np.testing.assert_array_equal(constant_features(features), [False, True])
    scaler = Scaler.fit(features, ("a", "b"), limit=10.0)
    np.testing.assert_array_equal(scaler.constant, [False, True])
    np.testing.assert_array_equal(scaler.transform(features)[:, 1], 0)
    other = np.array([[0.0, value + 1e-3 * max(abs(value), 1)], [0.0, -value - 1]]) * unit
    np.testing.assert_array_equal(scaler.transform(other)[:, 1], [10, -10 if value >= 0 else 10])


def test_rounding_of_a_constant_to_float32_is_no_other_value():
    features = np.full((3, 1), 0.1)
    assert 0 < features.std() < 1e-15  # the trap: 0.1 + 0.1 + 0.1 is not 3 times 0.1
    scaler = Scaler.fit(features, ("a",))
    assert scaler.constant.all()
    assert 0 < abs(scaler.transform(features.astype(np.float32))[0, 0]) < 0.1


def test_the_remark_on_a_constant_feature_names_its_value():
    scaler = Scaler.fit(np.array([[1.0, 0.1], [3.0, 0.1]]), ("a", "b"))
    assert scaler.remark("b", "7") == "always 0.1 in training"
    assert scaler.remark("a", "7") == "2 ± 1 in training"
    assert scaler.remark("a", pd.NA) == scaler.remark("a", " ? ") == scaler.remark("a", None) == ""


def test_a_feature_that_hardly_varies_is_not_constant():
    features = np.array([[1.0], [np.nextafter(1.0, 2.0)]])
    assert not constant_features(features).any()


def test_json_round_trip_to_the_last_bit(rng):
    features = rng.normal(size=(50, 3)) * [1e-12, 1 / 3, 1e12]
    scaler = Scaler.fit(features, ("V1", "V2", "Amount"))
    again = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))
    assert again.mean.tobytes() == scaler.mean.tobytes()
    assert again.sd.tobytes() == scaler.sd.tobytes()
    assert again.feature_names == scaler.feature_names
    np.testing.assert_array_equal(again.transform(features), scaler.transform(features))


def test_absurd_values_are_cut(rng):
    features = np.column_stack([rng.normal(size=20), np.full(20, 0.1)])
    x = Scaler.fit(features, ("a", "b")).transform(np.array([[1e300, 1e300], [-1e300, -1e300], [1e5, 0.1]]))
    np.testing.assert_array_equal(x[:2], [[LARGEST, LARGEST], [-LARGEST, -LARGEST]])
    assert LARGEST == 1e6
    assert (np.abs(x[2]) < LARGEST).all()


def test_an_absurd_value_among_the_fitted_rows_leaves_a_finite_scaler():
    scaler = Scaler.fit(np.array([[1.0], [2.0], [LARGEST_CELL]]), ("a",))
    assert np.isfinite(scaler.mean).all()
    assert np.isfinite(scaler.sd).all()


def test_values_beyond_the_limit_are_cut_and_the_limit_is_kept_in_json(rng):
    features = rng.normal(size=(50, 1))
    scaler = Scaler.fit(features, ("a",), limit=10.0)
    far = scaler.mean + scaler.sd * np.array([[83.0], [-11.0], [9.0]])
    np.testing.assert_allclose(scaler.transform(far), [[10.0], [-10.0], [9.0]], rtol=1e-6)
    assert Scaler.from_json(json.loads(json.dumps(scaler.to_json()))).limit == 10.0
