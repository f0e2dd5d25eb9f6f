import numpy as np
import pytest

from vae_jax.data.errors import DataError
from vae_jax.tables.splits import Split, split_rows
from vae_jax.tables.transactions import Transactions, load_transactions

GENUINE, FRAUDS = 1000, 100
PARTS = ("train", "validation", "test")


@pytest.fixture
def table(rng):
    """1,100 different rows of 3 features, 100 of them frauds, in an order of time unlike that of the file."""
    labels = rng.permutation(np.repeat([0, 1], [GENUINE, FRAUDS]))
    return rng.normal(size=(len(labels), 3)), labels, rng.permutation(len(labels)).astype(float)


@pytest.fixture
def duplicates(rng):
    """2,000 rows of which hardly 216 differ; some values occur both as fraud and as genuine."""
    features = rng.integers(6, size=(2000, 3)).astype(float)
    return features, (rng.random(2000) < 0.02).astype(int), np.arange(2000.0)


@pytest.fixture(scope="module")
def real_table(real_transactions) -> Transactions:
    return load_transactions(str(real_transactions))


def rows_of(split: Split) -> np.ndarray:
    return np.concatenate([getattr(split, name) for name in PARTS])


def part_of_each_row(split: Split, rows: int) -> np.ndarray:
    """0, 1, 2 for the parts; -1 for rows in none of them."""
    part = np.full(rows, -1)
    for number, name in enumerate(PARTS):
        part[getattr(split, name)] = number
    return part


def straddling(features: np.ndarray, split: Split) -> int:
    """How many distinct rows occur in two parts."""
    part = part_of_each_row(split, len(features))
    used = features[part >= 0]
    _, group = np.unique(used, axis=0, return_inverse=True)
    pairs = np.unique(np.stack([group.ravel(), part[part >= 0]], axis=1), axis=0)
    return len(pairs) - len(np.unique(group))


def test_random_shares(table):
    features, labels, time = table
    split = split_rows(features, labels, time, "random", 0)
    assert [int((labels[getattr(split, name)] == 0).sum()) for name in PARTS] == [700, 100, 200]
    assert [int(labels[getattr(split, name)].sum()) for name in PARTS] == [0, 20, 80]


@pytest.mark.parametrize("data", ["table", "duplicates"])
def test_random_parts_are_disjoint_sorted_and_cover_all_rows(data, request):
    features, labels, time = request.getfixturevalue(data)
    split = split_rows(features, labels, time, "random", 0)
    np.testing.assert_array_equal(np.sort(rows_of(split)), np.arange(len(labels)))
    for name in PARTS:
        assert (np.diff(getattr(split, name)) > 0).all()


@pytest.mark.parametrize("how", ["random", "time"])
def test_equal_rows_share_a_part(duplicates, how):
    features, labels, time = duplicates
    split = split_rows(features, labels, time, how, 0)
    assert straddling(features, split) == 0


@pytest.mark.parametrize("how", ["random", "time"])
def test_no_fraud_in_training_nor_a_genuine_row_equal_to_one(duplicates, how):
    features, labels, time = duplicates
    split = split_rows(features, labels, time, how, 0)
    frauds = {tuple(row) for row in features[labels == 1]}
    assert any(tuple(row) in frauds for row in features[labels == 0])
    assert not any(tuple(row) in frauds for row in features[split.train])


def test_shares_hold_for_distinct_rows(duplicates):
    features, labels, time = duplicates
    split = split_rows(features, labels, time, "random", 0)
    frauds = {tuple(row) for row in features[labels == 1]}
    genuine = {tuple(row) for row in features} - frauds
    distinct = [{tuple(row) for row in features[getattr(split, name)]} for name in PARTS]
    assert len(distinct[0]) == round(0.7 * len(genuine))
    assert len(distinct[1] & genuine) == pytest.approx(0.1 * len(genuine), abs=1)
    assert len(distinct[1] & frauds) == round(0.2 * len(frauds))


def test_random_split_follows_the_seed(table):
    first, again, other = (split_rows(*table, "random", seed) for seed in (0, 0, 1))
    for name in PARTS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_random_split_does_not_look_at_time(table):
    features, labels, time = table
    first, other = (split_rows(features, labels, t, "random", 0) for t in (time, -time))
    np.testing.assert_array_equal(first.train, other.train)


def test_time_split_is_chronological(table):
    features, labels, time = table
    split = split_rows(features, labels, time, "time", 0)
    assert time[split.train].max() < time[split.validation].min()
    assert time[split.validation].max() < time[split.test].min()


def test_time_split_takes_shares_of_all_rows_and_drops_early_frauds(table):
    features, labels, time = table
    split = split_rows(features, labels, time, "time", 0)
    early = time < 770  # times are 0..1099
    np.testing.assert_array_equal(split.train, np.flatnonzero(early & (labels == 0)))
    np.testing.assert_array_equal(split.validation, np.flatnonzero((time >= 770) & (time < 880)))
    np.testing.assert_array_equal(split.test, np.flatnonzero(time >= 880))


def test_time_split_refuses_a_row_without_time(table):
    features, labels, time = table
    time = np.where(np.arange(len(time)) == 7, np.nan, time)
    with pytest.raises(DataError, match=r"^--split time: row 7 has no time$"):
        split_rows(features, labels, time, "time", 0)
    split_rows(features, labels, time, "random", 0)


def test_time_split_takes_no_notice_of_the_seed(table):
    first, other = (split_rows(*table, "time", seed) for seed in (0, 1))
    np.testing.assert_array_equal(rows_of(first), rows_of(other))


@pytest.mark.parametrize("how", ["random", "time"])
@pytest.mark.parametrize("genuine", [0, 1, 2, 4])
def test_too_few_genuine_rows(rng, how, genuine):
    labels = np.repeat([0, 1], [genuine, 4])
    with pytest.raises(DataError, match=rf"^{genuine} genuine rows are too few: none is left for the \w+ part$"):
        split_rows(rng.normal(size=(len(labels), 3)), labels, np.arange(len(labels)), how, 0)


def test_one_row_repeated_is_too_few(rng):
    with pytest.raises(DataError, match=r"^100 genuine rows \(1 without duplicates\) are too few"):
        split_rows(np.ones((100, 3)), np.zeros(100, int), np.arange(100.0), "random", 0)


@pytest.mark.parametrize("how", ["random", "time"])
def test_no_frauds(rng, how):
    split = split_rows(rng.normal(size=(10, 3)), np.zeros(10, int), np.arange(10.0), how, 0)
    assert [len(getattr(split, name)) for name in PARTS] == [7, 1, 2]


def test_unknown_kind(table):
    with pytest.raises(ValueError, match="unknown split 'sideways'"):
        split_rows(*table, "sideways", 0)


def test_random_split_of_real_rows(real_table):
    split = split_rows(real_table.features, real_table.labels, real_table.time, "random", 0)
    labels = real_table.labels
    np.testing.assert_array_equal(np.sort(rows_of(split)), np.arange(len(labels)))
    assert straddling(real_table.features, split) == 0
    genuine = [int((labels[getattr(split, name)] == 0).sum()) for name in PARTS]
    np.testing.assert_allclose(np.array(genuine) / 27_102, [0.7, 0.1, 0.2], atol=0.01)
    assert labels[split.train].sum() == 0
    # Some frauds occur more than once.
    assert labels[split.validation].sum() == pytest.approx(0.2 * 492, abs=10)
    assert labels[split.validation].sum() + labels[split.test].sum() == 492


def test_time_split_of_real_rows(real_table):
    split = split_rows(real_table.features, real_table.labels, real_table.time, "time", 0)
    labels = real_table.labels
    assert straddling(real_table.features, split) == 0
    assert labels[split.train].sum() == 0
    unused = np.setdiff1d(np.arange(len(labels)), rows_of(split))
    assert labels[unused].sum() > 0.9 * len(unused)  # the rest are genuine rows equal to a fraud
    # The file is sorted by time; the repeated rows alone may lie a little out of place.
    medians = [np.median(real_table.time[getattr(split, name)]) for name in PARTS]
    assert medians[0] < medians[1] < medians[2]
    shares = np.array([len(getattr(split, name)) for name in PARTS]) / len(labels)
    np.testing.assert_allclose(shares, [0.69, 0.1, 0.2], atol=0.02)
