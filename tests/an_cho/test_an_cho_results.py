"""Measures and sentences against tables made by hand."""

import numpy as np
import pytest

from experiments.an_cho import page, results
from experiments.an_cho.pieces import measure
from experiments.an_cho.published import TONNAER_ROC_AUC, figures


def test_measures_of_scores_by_hand():
    """From least to most normal: anomaly, normal, anomaly, normal, normal."""
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = measure(scores, np.array([True, False, True, False, False]))
    assert found["roc_auc"] == pytest.approx(5 / 6)  # pairs in the right order
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["f1"] == pytest.approx(0.8)  # alarm for three rows: precision 2/3, recall 1


def test_measures_of_a_perfect_and_of_a_reversed_score():
    is_anomaly = np.array([True, True, False, False, False])
    assert measure(np.arange(5.0), is_anomaly) == {"roc_auc": 1.0, "average_precision": 1.0, "f1": 1.0}
    assert measure(-np.arange(5.0), is_anomaly)["roc_auc"] == 0.0


def record(task: str, seed: int, values: dict[str, dict[str, float]]) -> dict:
    """The results of a piece, with one number for all measures."""
    of = {
        anomaly: {method: dict.fromkeys(results.MEASURES, value) for method, value in methods.items()}
        for anomaly, methods in values.items()
    }
    return {"task": task, "seed": seed, "measures": of}


def test_summary_over_seeds_and_classes():
    records = [
        record("mnist", 0, {"3": {"pca": 0.5}}),
        record("mnist", 0, {"4": {"pca": 0.9}}),
        record("mnist", 1, {"3": {"pca": 0.7}}),
        record("mnist", 1, {"4": {"pca": 0.9}}),
    ]
    summary = results.summarise(records)
    cell = summary["mnist"]["3"]["pca"]["roc_auc"]
    assert cell == {"mean": pytest.approx(0.6), "sd": pytest.approx(0.1), "values": [0.5, 0.7]}
    assert results.over_classes(summary["mnist"])["pca"]["f1"] == pytest.approx(0.75)


def mnist(values: dict[str, tuple[float, float]]) -> dict:
    """A summary with (reconstruction probability, PCA) of each digit."""
    of = {digit: {"reconstruction_probability": ours, "pca": other} for digit, (ours, other) in values.items()}
    return results.summarise([record("mnist", 0, of)])


def test_ahead_and_hardest():
    classes = mnist({"0": (0.9, 0.8), "1": (0.3, 0.4), "7": (0.5, 0.5)})["mnist"]
    assert results.ahead(classes, "reconstruction_probability", "pca") == ["0"]
    assert results.hardest(results.roc_aucs(classes, "reconstruction_probability")) == ["1", "7", "0"]
    assert results.hardest(results.roc_aucs(classes, "pca"), 1) == ["1"]


def test_verdict_names_the_numbers():
    published = TONNAER_ROC_AUC[32]
    summary = mnist({str(digit): (value, 0.5) for digit, value in enumerate(published)})
    told = page.verdict({"results": summary, "published": figures()})
    assert "ahead of PCA for 9 of 10 digits (mean ROC AUC 0.718 against 0.500)" in told
    assert "Its hardest digits are 1 (0.090), 7 (0.510) and 9 (0.580)." in told
    assert "The same three as in the published repetition: 1 (0.09), 7 (0.51) and 9 (0.58)." in told


def test_verdict_says_when_the_hard_digits_differ():
    summary = mnist({str(digit): (0.5 + digit / 20, 0.5) for digit in range(10)})
    assert "Not the same three" in page.verdict({"results": summary, "published": figures()})


def test_verdict_on_drawn_digits_compares_with_nothing_published():
    summary = mnist({str(digit): (0.5, 0.6) for digit in range(10)})
    assert page.verdict({"results": summary, "published": {}}).endswith("(mean ROC AUC 0.500 against 0.600).")


def test_verdict_on_some_digits_compares_with_pca_alone():
    told = page.verdict({"results": mnist({"3": (0.5, 0.6)}), "published": figures()})
    assert told.endswith("(mean ROC AUC 0.500 against 0.600).")


def test_verdict_on_attacks():
    values = {"reconstruction_probability": 0.9, "pca": 0.8, "columns": 0.7}
    summary = results.summarise([record("kdd99", 0, {"DoS": values, "Probe": values | {"pca": 0.95}})])
    told = page.verdict({"results": summary, "published": {}})
    assert told.startswith("KDD99: by reconstruction probability the VAE is ahead of PCA for 1 of 2 classes")
    assert "it reaches 0.700" in told


def test_lists_in_words():
    assert results.listed(["1"]) == "1"
    assert results.listed(["1", "7", "9"]) == "1, 7 and 9"
