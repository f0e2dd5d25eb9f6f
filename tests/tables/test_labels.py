import numpy as np
import pandas as pd
import pytest
from real_data import real_data

from vae_jax.data.errors import DataError
from vae_jax.tables.files import read_frame
from vae_jax.tables.labels import to_labels


def cells(*values) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def refusal(column, **options) -> str:
    with pytest.raises(DataError) as caught:
        to_labels("a.csv", "Class", column, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        cells("1", "0", "1"),
        cells("1.0", "0.0", "1"),
        cells("True", "False", "TRUE"),
        cells("yes", "no", "Yes"),
        cells("Y", "N", "y"),
        cells("fraud", "genuine", "Fraudulent"),
        cells("anomaly", "normal", "outlier"),
        cells("Fraud", "Legit", "fraud"),
        cells("outlier", "inlier", "outlier"),
        cells("1", "legitimate", "1"),
        cells(1, 0.0, True),
        np.array([1, 0, 1]),
        np.array([1, 0, 1], np.uint8),
        np.array([1.0, 0.0, 1.0], np.float32),
        np.array([True, False, True]),
        pd.array([1, 0, 1], dtype="Int64"),
    ],
    ids=str,
)
def test_known_labels(column):
    labels = to_labels("a.csv", "Class", column)
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("column", "anomaly", "labels"),
    [
        (cells("ok", "bad", "ok"), "bad", [0, 1, 0]),
        (cells("ok", "bad", "late"), "late", [0, 0, 1]),
        (cells("0", "1", "0"), "0", [1, 0, 1]),
        (np.array([1.0, 2.0, 3.0]), "2", [0, 1, 0]),
        (cells("1.0", "2.0", "2"), "2", [0, 1, 1]),
        (cells("+", "-", "+"), "+", [1, 0, 1]),
        (cells("+", "-", "+"), "-", [0, 1, 0]),
        (cells(None, "x", None), "x", [0, 1, 0]),
        (np.array([np.nan, 1.0, 1.0]), "1", [0, 1, 1]),
        (np.array([True, False, True]), "False", [0, 1, 0]),
        (cells("12345678901234567890", "12345678901234567891"), "12345678901234567891", [0, 1]),
    ],
)
def test_the_anomaly_may_be_named(column, anomaly, labels):
    assert to_labels("a.csv", "Class", column, anomaly).tolist() == labels


@pytest.mark.parametrize("value", ["2", "0.5", "-1"])
def test_numbers_other_than_0_and_1_are_named(value):
    expected = f"a.csv: row 3 (line 5), column Class: {value} is neither 0 (genuine) nor 1 (fraud)"
    expected += "; say which value is the anomaly with --anomaly VALUE"
    assert refusal(cells("0", "1", "0", value)) == expected
    assert refusal(np.array([0, 1, 0, float(value)])) == expected


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            cells("ok", "bad"),
            "column Class has the labels 'ok', 'bad'; say which value is the anomaly with --anomaly VALUE",
        ),
        (
            cells("0", "1", "x"),
            "row 2 (line 4), column Class: unknown label 'x'; say which value is the anomaly with --anomaly VALUE",
        ),
        (cells("1", "0", None), "row 2 (line 4), column Class: blank"),
        (cells("0", None), "row 1 (line 3), column Class: blank"),
        (cells(None, None), "row 0 (line 2), column Class: blank"),
        (cells("1", "0", "?"), "row 2 (line 4), column Class: '?' stands for a missing label"),
        (np.array([1.0, 0.0, np.nan]), "row 2 (line 4), column Class: blank"),
        (pd.array([1, 0, None], dtype="Int64"), "row 2 (line 4), column Class: blank"),
        (cells(None, "x y"), "row 0 (line 2), column Class: blank; if only anomalies are marked, say --anomaly 'x y'"),
    ],
)
def test_other_labels_are_refused(column, message):
    assert refusal(column) == f"a.csv: {message}"


def test_an_anomaly_that_does_not_occur():
    expected = "a.csv: --anomaly baad: no such value in column Class; there are 'ok', 'bad'"
    assert refusal(cells("ok", "bad", "ok"), anomaly="baad") == expected
    assert refusal(cells(*map(str, range(50))), anomaly="x").endswith("'8', '9' and 40 more")
    assert "row 1 (line 3)" in refusal(cells("bad", None, "ok"), anomaly="bad")


@pytest.mark.parametrize(
    ("name", "column", "anomaly", "count"),
    [
        ("creditcard/creditcard.csv", "Class", None, 492),
        ("claims/fraud_oracle.csv", "FraudFound_P", None, None),
        ("adult/adult.csv", "Salary", ">50K", 7_841),
    ],
)
def test_real_labels(name, column, anomaly, count):
    path = real_data(name)
    frame = read_frame(path)[0]
    labels = to_labels(path, column, frame[column].to_numpy(object), anomaly)
    assert labels.sum() == ((frame[column] == "1").sum() if count is None else count)
