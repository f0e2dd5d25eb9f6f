"""What earlier code has saved goes on working: models score as they did, runs continue as they would have.

`fixtures/make.py` made it.
"""

import csv
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

import make  # noqa: E402
from run_helpers import final_arrays  # noqa: E402

TOLERANCE = 1e-5  # relative and absolute; between processors, differences of 6e-8 were seen
UNSEEN = "% of training rows have such a rare or unseen value"  # of 0 % it says by now: not seen in training


@pytest.fixture(params=sorted(FIXTURES.glob("format_*.zip")), ids=lambda path: path.stem)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The saved folders of one format, unpacked."""
    return unpacked(request, tmp_path)


@pytest.fixture(params=sorted(FIXTURES.glob("columns_*.zip")), ids=lambda path: path.stem)
def saved_columns(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A saved detector for columns of other kinds, unpacked."""
    return unpacked(request, tmp_path)


@pytest.fixture(params=sorted(FIXTURES.glob("exemplars_*.zip")), ids=lambda path: path.stem)
def saved_exemplars(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A saved detector with exemplars, unpacked."""
    return unpacked(request, tmp_path)


def unpacked(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The content of the fixture's zip file."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding, in which processors and compilers differ."""
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def numbers(path: Path) -> np.ndarray:
    """The numbers of a file of scores, and its decisions as such."""
    rows = csv.DictReader(path.read_text().splitlines())
    return np.array(
        [[value == "fraud" if "decision" in name else float(value) for name, value in row.items()] for row in rows]
    )


def test_detectors_score_and_train_on_as_when_they_were_saved(saved: Path):
    assert_scores_and_trains_on(saved, *make.RECIPES)


def test_detector_with_exemplars_scores_as_when_it_was_saved(saved_exemplars: Path):
    """Another pass, and what a row's features say, follow a later version of the recipe."""
    assert_scores_and_trains_on(saved_exemplars, "exemplar", changed=("offset", "after_partial_fit", "explained"))


def assert_scores_and_trains_on(folder: Path, *recipes: str, changed: tuple[str, ...] = ()) -> None:
    """Scores and shares are those that were saved beside the detectors; so is what follows from another pass."""
    expected = {recipe: dict(np.load(folder / f"{recipe}_scores.npz")) for recipe in recipes}
    make.finish(make.python(folder, "-c", make.SCORE, *recipes))
    for recipe in recipes:
        with np.load(folder / f"{recipe}_scores.npz") as scored:
            assert scored.keys() == expected[recipe].keys()
            for name in scored.keys() - set(changed):
                assert_same(scored[name], expected[recipe][name])


def test_detector_for_columns_scores_and_explains_as_when_it_was_saved(saved_columns: Path):
    """With exemplars, what a row's cells say follows a later version of the recipe."""
    has_exemplars = '"recipe": "exemplar"' in (saved_columns / "detector" / "detector.json").read_text()
    expected = dict(np.load(saved_columns / "scores.npz"))
    make.finish(make.python(saved_columns, "-c", make.TABLE + make.SCORE_TABLE))
    with np.load(saved_columns / "scores.npz") as scored:
        assert scored.keys() == expected.keys()
        for name in ("scores", "offset", *(() if has_exemplars else ("explained",))):
            assert_same(scored[name], expected[name])
        if has_exemplars:
            assert scored["explained"].shape == expected["explained"].shape
            return
        said = [reasons.replace(f"; 0 {UNSEEN}", "; not seen in training") for reasons in expected["reasons"].tolist()]
        assert scored["reasons"].tolist() == said


def test_run_of_transactions_continues_as_if_never_stopped(saved: Path):
    make.write_rows(saved / "rows.csv")
    shutil.move(saved / "fraud_stopped", saved / "fraud")
    make.finish(make.python(saved, "-m", "experiments.fraud", "--resume", "fraud"))
    assert_same(numbers(saved / "fraud" / "scores.csv"), numbers(saved / "fraud_scores.csv"))


def test_model_of_a_run_scores_as_the_run_did(saved: Path):
    make.write_rows(saved / "rows.csv")
    options = ["--model", "fraud_model", "--input", "rows.csv", "--output", "out.csv"]
    make.finish(make.python(saved, "-m", "experiments.score", *options))
    scored, run = numbers(saved / "out.csv"), numbers(saved / "fraud_scores.csv")
    rows = run[:, 0].astype(int)
    header = (saved / "fraud_scores.csv").read_text().splitlines()[0].split(",")
    assert_same(scored[rows, 1], run[:, header.index("gaussian_log_reconstruction_probability")])


def test_run_of_faces_continues_as_if_never_stopped(saved: Path):
    shutil.move(saved / "faces_stopped", saved / "faces")
    make.finish(make.python(saved, "-c", make.NARROW.format(**make.FACES_MODULES), "--resume", "faces"))
    found = final_arrays(saved / "faces", "vae")
    with np.load(saved / "faces_final.npz") as expected:
        assert found.keys() == set(expected)
        for name, array in found.items():
            assert_same(array, expected[name])


def test_finished_run_of_faces_makes_pictures(saved: Path):
    program = make.NARROW.format(module="experiments.celeba.model", package="experiments.celeba.faces")
    options = ["sample", "--model", "faces_finished", "--count", "4", "--output", "made"]
    printed = make.finish(make.python(saved, "-c", program, *options))
    assert "4 single pictures" in printed
    assert len(list((saved / "made").glob("sample_*.png"))) == 4
