"""Each boundary against values worked out by hand or by brute force, and against the promise it makes."""

import numpy as np
import pytest

from vae_jax.thresholds import RULES, best_f1, boundary, gpd, mad, mean_sigma, quantile, tukey

# Sorted: 1 2 3 4 5 6 7 8 9 100. Higher is more normal; the long side is the upper one.
SCORES = np.array([5.0, 1.0, 100.0, 3.0, 9.0, 7.0, 2.0, 8.0, 6.0, 4.0])
UNSUPERVISED = [name for name in RULES if name != "best-f1"]


def test_quantile_by_hand():
    # Rank 0.25 * 9 = 2.25 lies a quarter of the way from the third to the fourth score.
    assert quantile(SCORES, 0.25) == 3.25
    assert quantile(np.arange(101.0)) == 1


def test_tukey_by_hand():
    # Quartiles at ranks 2.25 and 6.75: 3.25 and 7.75, so the fence is 3.25 - 1.5 * 4.5.
    assert tukey(SCORES) == -3.5
    assert tukey(SCORES, k=3) == 3.25 - 13.5


def test_mad_by_hand():
    # Median 5.5; distances 0.5 0.5 1.5 1.5 2.5 2.5 3.5 3.5 4.5 94.5, whose median is 2.5.
    assert mad(SCORES) == pytest.approx(5.5 - 3.5 * 1.4826 * 2.5)
    assert mad(SCORES, k=1) == pytest.approx(5.5 - 1.4826 * 2.5)


def test_mean_sigma_by_hand():
    # Mean 5 and population variance (9 + 1 + 1 + 9) / 4 = 5.
    assert mean_sigma(np.array([2.0, 4.0, 6.0, 8.0])) == pytest.approx(5 - 3 * np.sqrt(5))
    assert mean_sigma(np.array([2.0, 4.0, 6.0, 8.0]), k=1) == pytest.approx(5 - np.sqrt(5))


def test_the_bell_shaped_rules_agree_on_a_bell(rng):
    scores = rng.normal(50, 2, size=20_000)
    # Four standard errors of each estimate: 2 / sqrt(n) for the mean, some 1.65 * that for quartiles and their like,
    # times the number of standard deviations that the rule goes out.
    tolerance = 4 * 1.65 * 2 / np.sqrt(20_000) * 4
    assert mean_sigma(scores) == pytest.approx(50 - 3 * 2, abs=tolerance)
    assert mad(scores) == pytest.approx(50 - 3.5 * 2, abs=tolerance)
    # Quartiles of a bell lie 0.6745 sd from its middle.
    assert tukey(scores) == pytest.approx(50 - 4 * 0.6745 * 2, abs=tolerance)


@pytest.mark.parametrize("rule", ["quantile", "gpd"])
@pytest.mark.parametrize("budget", [0.05, 0.01, 0.002])
def test_the_false_alarm_budget_holds_on_fresh_draws(rule, budget):
    rng = np.random.default_rng(1)

    def draw(n):
        # A long lower tail, as log reconstruction probabilities have.
        return -np.abs(rng.standard_t(4, size=n))

    calibration, fresh = 10_000, 100_000
    alarms = np.mean(draw(fresh) < RULES[rule](draw(calibration), budget))
    # Four standard errors of a share, counted once in the calibration rows and once in the fresh ones.
    assert abs(alarms - budget) < 4 * np.sqrt(budget * (1 - budget) * (1 / calibration + 1 / fresh))


def test_gpd_extrapolates_an_exponential_tail_below_one_in_n():
    n, rate = 20_000, 1e-5
    scores = -np.random.default_rng(2).exponential(size=n)
    exact = np.log(rate)
    # The fit sees n / 10 excesses. Its asymptotic covariance at shape 0, scale 1 is [[1, -1], [-1, 2]] / (n / 10)
    # (Smith 1987), and the boundary's slope by the shape is log(r)^2 / 2, by the scale log(r), with r = 0.1 / rate.
    log_r = np.log(0.1 / rate)
    slope = np.array([log_r**2 / 2, log_r])
    error = np.sqrt(slope @ np.array([[1, -1], [-1, 2]]) @ slope / (n / 10))
    assert gpd(scores, rate) == pytest.approx(exact, abs=3 * error)
    # Tight enough to mean something: the lowest score is where the empirical quantile has to stop.
    assert 3 * error < 0.25 * abs(exact)
    assert gpd(scores, rate) < scores.min()


def test_gpd_of_a_heavy_tail_goes_further_than_that_of_an_exponential_one():
    rng = np.random.default_rng(3)
    exponential, heavy = -rng.exponential(size=5_000), -rng.pareto(3, size=5_000)
    ratio = [gpd(scores, 1e-5) / np.quantile(scores, 0.01) for scores in (exponential, heavy)]
    # Exactly: log(1e-5) / log(0.01) = 2.5, and (1e5^(1/3) - 1) / (100^(1/3) - 1) = 12.5.
    assert ratio[0] < 5 < ratio[1]


def test_gpd_is_lower_for_a_smaller_budget():
    scores = -np.random.default_rng(4).exponential(size=2_000)
    boundaries = [gpd(scores, rate) for rate in (1e-6, 1e-4, 1e-2, 0.05, 0.1, 0.5)]
    assert boundaries == sorted(boundaries)


def test_gpd_outside_the_tail_is_the_quantile():
    assert gpd(SCORES, 0.1) == quantile(SCORES, 0.1)
    assert gpd(SCORES, 0.5) == quantile(SCORES, 0.5)


def test_gpd_without_spread_is_the_quantile():
    assert gpd(np.full(100, 7.0)) == 7.0
    # Spread in the bulk, but all that is below the tail's start is one value, or nothing is.
    for ties in (10, 20):
        scores = np.concatenate([np.full(ties, -3.0), np.arange(100.0 - ties)])
        assert gpd(scores) == quantile(scores) == -3


def test_gpd_of_a_tail_smaller_than_the_rate_is_the_quantile():
    scores = np.concatenate([[-5.0, -4.0], np.zeros(98)])  # ties at the tail's start leave two scores below it
    assert gpd(scores, 0.05) == quantile(scores, 0.05) == 0


@pytest.mark.parametrize("n", [1, 2, 5, 12, 15, 20, 30, 50])
def test_gpd_of_few_scores_is_a_number_below_the_bulk(n):
    for seed in range(5):
        scores = np.random.default_rng(seed).normal(size=n)
        for rate in (0.01, 1e-4):
            value = gpd(scores, rate)
            assert np.isfinite(value)
            assert value <= np.quantile(scores, 0.1)


def f1(scores, is_anomaly, value):
    alarm = scores < value
    return 2 * np.sum(alarm & is_anomaly) / (alarm.sum() + is_anomaly.sum())


def best_by_brute_force(scores, is_anomaly):
    cuts = np.append(np.unique(scores), np.inf)
    return max(f1(scores, is_anomaly, cut) for cut in cuts)


def test_best_f1_by_hand():
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    assert best_f1(scores, np.array([True, True, False, False])) == 2.5
    # Alarms up to 3 find both of two with one false alarm, F1 0.8; alarms up to 1 find one of two, F1 0.67.
    assert best_f1(scores, np.array([True, False, True, False])) == 3.5


def test_best_f1_is_what_brute_force_finds():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = rng.integers(2, 30)
        # Whole numbers, so that many scores tie, anomalies with genuine rows too.
        scores = rng.integers(0, rng.integers(1, 20), size=n).astype(float)
        is_anomaly = rng.random(n) < 0.4
        is_anomaly[:2] = [True, False]
        value = best_f1(scores, is_anomaly)
        assert f1(scores, is_anomaly, value) == best_by_brute_force(scores, is_anomaly)
        assert np.isfinite(value)


def test_best_f1_where_everything_should_be_an_alarm():
    # The anomaly has the highest score: the best that can be done is to call all three anomalies.
    scores, is_anomaly = np.array([1.0, 2.0, 3.0]), np.array([False, False, True])
    value = best_f1(scores, is_anomaly)
    assert value > 3
    assert f1(scores, is_anomaly, value) == 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_best_f1_of_neighbouring_floats(dtype):
    # Nothing lies halfway between two neighbouring floats, and the anomaly must still be below the boundary.
    for low in (np.nextafter(dtype(1), dtype(2)), dtype(1)):
        scores, is_anomaly = np.array([low, np.nextafter(low, dtype(2))]), np.array([True, False])
        assert f1(scores, is_anomaly, best_f1(scores, is_anomaly)) == 1


@pytest.mark.parametrize("is_anomaly", [np.zeros(3, bool), np.ones(3, bool)], ids=["no anomaly", "nothing else"])
def test_best_f1_needs_both_kinds(is_anomaly):
    with pytest.raises(ValueError, match="rows of both kinds"):
        best_f1(np.arange(3.0), is_anomaly)
    with pytest.raises(ValueError, match="rows of both kinds"):
        boundary("best-f1", np.arange(3.0), is_anomaly.astype(int))


@pytest.fixture
def labelled(rng):
    """Genuine scores with a long lower tail, and anomalies below most of them."""
    scores = np.concatenate([-rng.exponential(size=900), -10 - rng.exponential(size=100)])
    return scores, np.repeat([0, 1], [900, 100])


@pytest.mark.parametrize("rule", UNSUPERVISED)
def test_all_rules_but_best_f1_ignore_anomalies_and_work_without_any(rule, labelled):
    scores, labels = labelled
    genuine = scores[labels == 0]
    expected = boundary(rule, genuine, np.zeros(900, int))
    assert boundary(rule, scores, labels) == expected == RULES[rule](genuine)
    # Whatever the anomalies score, and in any order of rows.
    moved = np.where(labels == 1, 1e9, scores)
    assert boundary(rule, moved, labels) == expected
    assert boundary(rule, scores[::-1], labels[::-1]) == pytest.approx(expected, rel=1e-6)


def test_boundary_of_best_f1_looks_at_labels(labelled):
    scores, labels = labelled
    assert boundary("best-f1", scores, labels) == best_f1(scores, labels == 1)
    # The two kinds hardly overlap.
    assert f1(scores, labels == 1, boundary("best-f1", scores, labels)) > 0.95


@pytest.mark.parametrize("rule", list(RULES))
def test_a_boundary_lies_below_the_bulk(rule, labelled):
    scores, labels = labelled
    genuine = scores[labels == 0]
    value = boundary(rule, scores, labels)
    assert isinstance(value, float)
    # Scores are higher = more normal: nine in ten genuine rows and more are at or above it, and anomalies below.
    assert np.mean(genuine >= value) > 0.9
    assert np.mean(scores[labels == 1] < value) > 0.9


def test_boundary_hands_the_budget_on(labelled):
    scores, labels = labelled
    genuine = scores[labels == 0]
    for rule in ("quantile", "gpd"):
        assert boundary(rule, scores, labels, 0.03) == RULES[rule](genuine, 0.03) != RULES[rule](genuine)


def test_an_unknown_rule_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown boundary rule 'median'") as error:
        boundary("median", SCORES, np.zeros(10, int))
    for name in RULES:
        assert name in str(error.value)


@pytest.mark.parametrize("rule", ["quantile", "gpd"])
@pytest.mark.parametrize("rate", [-0.1, 1.5, np.nan])
def test_a_rate_that_is_no_share_is_refused(rule, rate):
    with pytest.raises(ValueError, match=rf"^false_alarm_rate={rate}: expected a share"):
        RULES[rule](SCORES, rate)


@pytest.mark.parametrize("rule", list(RULES))
def test_scores_that_are_nan_are_refused(rule):
    with pytest.raises(ValueError, match=r"^1 of 10 scores are NaN"):
        boundary(rule, np.where(SCORES == 5, np.nan, SCORES), np.arange(10) % 2)


@pytest.mark.parametrize("rule", UNSUPERVISED)
def test_no_genuine_rows_are_refused(rule):
    with pytest.raises(ValueError, match="needs genuine rows"):
        boundary(rule, SCORES, np.ones(10, int))


@pytest.mark.parametrize("rule", list(RULES))
def test_lists_are_taken_as_arrays(rule, labelled):
    scores, labels = labelled
    expected = boundary(rule, scores, labels)
    assert boundary(rule, scores.tolist(), labels.tolist()) == boundary(rule, scores, labels.tolist()) == expected
    if rule == "best-f1":
        assert best_f1(scores.tolist(), (labels == 1).tolist()) == expected
    else:
        assert RULES[rule](scores[labels == 0].tolist()) == expected


@pytest.mark.parametrize(("rate", "expected"), [(0.01, -np.inf), (0.095, -np.inf), (0.15, 5.0), (0.5, 40.0)])
def test_the_quantile_of_infinite_scores_is_a_score(rate, expected):
    scores = np.concatenate([np.full(10, -np.inf), np.arange(91.0)])
    assert boundary("quantile", scores, np.zeros(101, int), rate) == expected


def test_a_boundary_that_would_be_nan_is_refused():
    with pytest.raises(ValueError, match=r"^the 'mean-sigma' boundary is NaN, for some scores are infinite"):
        boundary("mean-sigma", np.append(SCORES, -np.inf), np.zeros(11, int))
