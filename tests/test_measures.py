import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from experiments import measures
from experiments.measures import Counts, Scored, bootstrap_interval, count, measure
from vae_jax import thresholds


@pytest.fixture
def scored(rng) -> Scored:
    """Frauds score lower by two standard deviations."""

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        labels = (rng.random(rows) < 0.1).astype(int)
        return rng.normal(size=rows) - 2.0 * labels, labels

    return Scored(*draw(300), *draw(500))


def without_frauds(scored: Scored) -> Scored:
    return Scored(scored.validation, scored.validation_labels, scored.test, np.zeros_like(scored.test_labels))


def test_count_by_hand():
    scores = np.array([-3.0, -2.0, -1.0, 0.0, 1.0])
    labels = np.array([1, 0, 1, 1, 0])
    assert count(scores, labels, -1.0) == Counts(1, 1, 1, 2)


@pytest.mark.parametrize("label", [0, 1])
def test_score_exactly_at_the_boundary_is_genuine(label):
    at, below = (count(np.array([score]), np.array([label]), 2.0) for score in (2.0, np.nextafter(2.0, 1.0)))
    assert (at.false_negatives, at.true_negatives) == (label, 1 - label)
    assert (below.true_positives, below.false_positives) == (label, 1 - label)


def test_count_against_a_loop(rng):
    scores, labels = rng.integers(10, size=200).astype(float), rng.integers(2, size=200)
    for boundary in (-1.0, 0.0, 3.0, 4.5, 9.0, 10.0):
        expected = {"tp": 0, "fp": 0, "tn": 0, "fn": 0}
        for score, label in zip(scores, labels, strict=True):
            alarm = score < boundary
            expected[("tp" if label else "fp") if alarm else ("fn" if label else "tn")] += 1
        assert count(scores, labels, boundary) == Counts(*expected.values())


def test_precision_and_recall_by_hand():
    counts = Counts(true_positives=3, false_positives=1, true_negatives=10, false_negatives=9)
    assert counts.precision == 0.75
    assert counts.recall == 0.25


def test_precision_without_an_alarm_and_recall_without_a_fraud_are_none():
    assert Counts(0, 0, 5, 2).precision is None
    assert Counts(0, 0, 5, 2).recall == 0
    assert Counts(0, 3, 5, 0).recall is None
    assert Counts(0, 3, 5, 0).precision == 0


@pytest.mark.parametrize("rule", thresholds.RULES)
def test_measure_against_scikit_learn(scored, rule):
    found = measure(scored, rule, 0.05)
    labels, alarms = scored.test_labels, scored.test < found["threshold"]
    assert found["threshold"] == thresholds.boundary(rule, scored.validation, scored.validation_labels, 0.05)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, -scored.test), rel=1e-12)
    assert found["average_precision"] == pytest.approx(average_precision_score(labels, -scored.test), rel=1e-12)
    assert found["recall"] == pytest.approx(recall_score(labels, alarms), rel=1e-12)
    if alarms.any():
        assert found["precision"] == pytest.approx(precision_score(labels, alarms), rel=1e-12)
    assert found["true_positives"] + found["false_positives"] == alarms.sum()
    assert found["true_positives"] + found["false_negatives"] == labels.sum()


def test_lower_scores_are_frauds():
    separable = Scored(np.arange(10.0), np.zeros(10, int), np.array([-5.0, -4.0, 3.0, 4.0]), np.array([1, 1, 0, 0]))
    found = measure(separable, "quantile", 0.01)
    assert (found["roc_auc"], found["average_precision"], found["precision"], found["recall"]) == (1, 1, 1, 1)


def test_measures_without_frauds_are_none(scored):
    found = measure(without_frauds(scored), "quantile", 0.05)
    assert [found[name] for name in ("roc_auc", "average_precision", "recall")] == [None, None, None]
    assert found["true_positives"] == found["false_negatives"] == 0
    assert found["false_positives"] > 0
    assert found["precision"] == 0


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_average_precision_against_scikit_learn(rng, ties):
    for _ in range(20):
        scores = np.sort(rng.integers(8, size=60).astype(float) if ties else rng.normal(size=60))
        labels = rng.permutation(np.repeat([0, 1], [50, 10]))
        weights = rng.integers(4, size=60)
        weights[np.flatnonzero(labels)[0]] = 1  # at least one fraud has weight
        last_of_tie = np.array([i for i in range(60) if i == 59 or scores[i] != scores[i + 1]])
        found = measures._weighted_average_precision(weights, labels == 1, last_of_tie)
        expected = average_precision_score(labels, -scores, sample_weight=weights)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_interval_is_that_of_resampled_rows(rng, ties):
    labels = rng.permutation(np.repeat([0, 1], [180, 20]))
    scores = rng.normal(size=200) - 1.5 * labels
    if ties:
        scores = np.round(scores)
    resampled = []
    for _ in range(500):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == kind), (labels == kind).sum()) for kind in (0, 1)])
        resampled.append(average_precision_score(labels[rows], -scores[rows]))
    # The standard error of a 2.5 % quantile of 500 and of 1,000 draws is about a tenth of the interval's width.
    width = np.ptp(np.quantile(resampled, [0.025, 0.975]))
    expected = np.quantile(resampled, [0.025, 0.975])
    np.testing.assert_allclose(bootstrap_interval(scores, labels, 0), expected, atol=0.2 * width)


def test_bootstrap_interval_holds_the_point_estimate(scored):
    low, high = bootstrap_interval(scored.test, scored.test_labels, 0)
    assert 0 < low < average_precision_score(scored.test_labels, -scored.test) < high < 1


def test_lower_level_gives_a_narrower_interval(scored):
    low, high = bootstrap_interval(scored.test, scored.test_labels, 0)
    inner_low, inner_high = bootstrap_interval(scored.test, scored.test_labels, 0, level=0.5)
    assert low < inner_low < inner_high < high


def test_bootstrap_interval_follows_the_seed(scored):
    first, again, other = (bootstrap_interval(scored.test, scored.test_labels, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_bootstrap_interval_of_scores_that_separate_the_kinds(rng):
    scores, labels = np.arange(50.0), (np.arange(50) < 5).astype(int)
    order = rng.permutation(50)
    assert bootstrap_interval(scores[order], labels[order], 0) == [1, 1]


@pytest.mark.parametrize("frauds_first", [False, True])
def test_bootstrap_interval_of_equal_scores_is_the_share_of_frauds(frauds_first):
    labels = np.repeat([1, 0] if frauds_first else [0, 1], [10, 30] if frauds_first else [30, 10])
    assert bootstrap_interval(np.zeros(40), labels, 0) == [0.25, 0.25]


def test_bootstrap_interval_leaves_its_arguments_alone(scored):
    scores, labels = scored.test.copy(), scored.test_labels.copy()
    bootstrap_interval(scores, labels, 0)
    np.testing.assert_array_equal(scores, scored.test)
    np.testing.assert_array_equal(labels, scored.test_labels)


def test_bootstrap_interval_without_frauds_is_none(scored):
    assert bootstrap_interval(scored.test, np.zeros_like(scored.test_labels), 0) is None
