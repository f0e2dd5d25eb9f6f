import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis, skew
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from vae_jax.tables.synthetic import simulate_transactions
from vae_jax.tables.transactions import COLUMNS, FEATURES, read_csv

V = list(FEATURES[:-1])


@pytest.fixture(scope="module")
def frame():
    return simulate_transactions(0)


@pytest.fixture(scope="module")
def genuine(frame):
    return frame[frame["Class"] == 0]


def test_schema(frame):
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == 50_000
    assert np.isfinite(frame.to_numpy()).all()
    assert set(frame["Class"]) == {0, 1}


def test_number_of_rows():
    assert len(simulate_transactions(0, rows=7)) == 7


def test_the_reader_takes_it(tmp_path):
    frame = simulate_transactions(3, rows=200)
    frame.to_csv(tmp_path / "simulated.csv", index=False)
    np.testing.assert_allclose(read_csv(tmp_path / "simulated.csv"), frame, rtol=1e-14)


def test_share_of_frauds(frame):
    # 100 expected of 50,000; Poisson, so 10 is one standard deviation.
    assert 60 <= frame["Class"].sum() <= 140


def test_two_days_in_order(frame):
    time = frame["Time"]
    assert time.is_monotonic_increasing
    assert 0 <= time.iloc[0] < 100
    assert 172_700 < time.iloc[-1] <= 172_800
    assert (time == time.round()).all()


def test_follows_the_seed(frame):
    pd.testing.assert_frame_equal(frame, simulate_transactions(0))
    assert (simulate_transactions(1)[V].to_numpy() != frame[V].to_numpy()).all()


def test_amounts_are_positive_and_skewed(frame):
    amount = frame["Amount"]
    assert (amount >= 0).all()
    assert skew(amount) > 5
    assert amount.mean() > 2 * amount.median()
    np.testing.assert_allclose(amount, amount.round(2), rtol=1e-12)


def test_tails_are_heavier_than_a_gaussian(genuine):
    # The excess kurtosis of a t distribution with 8 degrees of freedom is 1.5.
    excess = kurtosis(genuine[V])
    assert (excess > 0.8).all()
    assert np.median(excess) == pytest.approx(1.5, abs=0.4)


def test_features_are_correlated(genuine):
    correlation = np.abs(np.corrcoef(genuine[V].T))
    assert np.sort(correlation, axis=1)[:, -2].min() > 0.3  # of each feature with the one nearest to it


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frauds_can_be_found(seed):
    frame = simulate_transactions(seed)
    labels, values = frame["Class"].to_numpy(), frame[V].to_numpy()
    distance = EmpiricalCovariance().fit(values[labels == 0]).mahalanobis(values)
    assert roc_auc_score(labels, distance) > 0.95
