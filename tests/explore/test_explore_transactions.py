"""A finished run of the transactions, its rows explained, and tables scored; without Gradio."""

import gzip
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_fraud

import experiments.fraud.__main__ as fraud
import experiments.score.__main__ as score
from experiments.command_line import UsageError, run
from experiments.explore import transactions
from experiments.explore.transactions import Recipe, as_text
from experiments.runs.run_folder import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, its data, and a table of twenty rows of which one is broken."""
    folder = tmp_path_factory.mktemp("explored")
    frame = small_fraud.train(folder, "run")
    rows = frame.head(20).drop(columns="Class").astype(object)
    rows.iloc[3, 1] = "broken"
    rows.to_csv(folder / "own.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """The run's only recipe."""
    return transactions.open_recipes(Run(folder / "run", None))["gaussian"]


def test_the_evidence_against_a_test_row_is_that_of_the_detector(folder: Path, recipe: Recipe) -> None:
    place = int(recipe.scored.lowest[0])
    evidence = recipe.explain(place)
    row = pd.read_csv(folder / "small.csv").iloc[[recipe.scored.rows[place]]][evidence.names]
    assert evidence.values == [as_text(cell) for cell in row.iloc[0]]
    shares = recipe.detector.explain(row[list(recipe.detector.features_.modelled)]).iloc[0]
    np.testing.assert_allclose(evidence.shares, shares[evidence.names], rtol=1e-4, atol=1e-4)
    excess = evidence.shares - evidence.usual_shares
    assert (np.diff(excess) <= 0).all()
    assert recipe.strongest[place] == evidence.names[0]


def test_a_run_whose_rows_are_divided_otherwise_now_has_no_explanations(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    scores = pd.read_csv(copy / "scores.csv")
    scores.assign(row=scores["row"].to_numpy()[::-1]).to_csv(copy / "scores.csv", index=False)
    assert transactions.open_recipes(Run(copy, None))["gaussian"].inputs is None


def test_a_run_whose_data_are_gone_has_scores_and_no_explanations(folder: Path, tmp_path: Path) -> None:
    hidden = folder / "small.csv"
    hidden.rename(tmp_path / "small.csv")
    try:
        found = transactions.open_recipes(Run(folder / "run", None))["gaussian"]
    finally:
        (tmp_path / "small.csv").rename(hidden)
    assert found.inputs is None
    assert found.strongest == {}
    assert len(found.scored.scores) > 0


def test_a_run_without_its_checkpoints_has_scores_and_no_explanations(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    found = transactions.open_recipes(Run(copy, None))["gaussian"]
    assert found.inputs is None
    assert len(found.scored.scores) > 0


def test_data_found_by_themselves_are_looked_for_only_where_they_were(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "creditcard").mkdir(parents=True)
    path = tmp_path / "data" / "creditcard" / "creditcard.csv"
    shutil.copy(folder / "small.csv", path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_JAX_DATA", raising=False)
    assert run(fraud.main, [*small_fraud.OPTIONS, "--run-dir", str(tmp_path / "run")]) == 0
    found = Run(tmp_path / "run", None)
    assert transactions.open_recipes(found)["gaussian"].inputs is not None
    path.unlink()
    monkeypatch.setattr("vae_jax.tables.transactions.network_answers", lambda: pytest.fail("asked the network"))
    assert transactions.open_recipes(found)["gaussian"].inputs is None


def test_a_table_is_scored_as_the_command_on_the_page_scores_it(
    folder: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = transactions.score_file(recipe, folder / "own.csv", "my rows.csv")
    shutil.copy(folder / "own.csv", tmp_path / "my rows.csv")
    monkeypatch.chdir(tmp_path)
    assert run(score.main, shlex.split(transactions.score_command(table, "my rows.csv"))[3:]) == 0
    assert table.output == (tmp_path / "my rows_scores.csv").read_bytes()
    assert (table.count, len(table.broken)) == (19, 1)
    assert (np.diff(table.lowest["score"]) >= 0).all()
    i = int(np.flatnonzero(np.isin(table.lowest["row"], recipe.scored.rows))[0])  # a test row of the run, too
    (place,) = np.flatnonzero(recipe.scored.rows == table.lowest["row"].iloc[i])
    evidence, expected = table.explain(i), recipe.explain(int(place))
    assert (evidence.names, evidence.values) == (expected.names, expected.values)
    np.testing.assert_allclose(evidence.shares, expected.shares, rtol=1e-4, atol=1e-4)


def test_a_table_that_can_not_be_scored_is_refused_by_its_name(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"^mine\.csv: none of the model's columns"):
        transactions.score_file(recipe, path, "mine.csv")


def test_a_small_file_that_unpacks_to_too_much_is_refused(folder: Path, recipe: Recipe, tmp_path: Path) -> None:
    header, row = (folder / "own.csv").read_text().splitlines()[:2]
    path = tmp_path / "upload"
    path.write_bytes(gzip.compress(f"{header}\n{row}\n".encode() + b"\n" * 10**8))
    with pytest.raises(
        UsageError, match=r"^mine\.csv\.gz: unpacked, it has more than 100,000,000 bytes; bash run\.sh score"
    ):
        transactions.score_file(recipe, path, "mine.csv.gz")
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UsageError, match=r"^mine\.csv\.gz: gzip within gzip"):
        transactions.score_file(recipe, path, "mine.csv.gz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"^mine\.csv\.gz: "):
        transactions.score_file(recipe, path, "mine.csv.gz")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_table_of_too_many_rows_is_refused(folder: Path, recipe: Recipe, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"many.{suffix}"
    frame = pd.read_csv(folder / "small.csv").head(1)
    frame = frame.loc[frame.index.repeat(100_001)]
    (frame.to_parquet if suffix == "parquet" else frame.to_csv)(path, index=False)
    with pytest.raises(UsageError, match=r"^many\.\S+: more than 100,000 rows; bash run\.sh score"):
        transactions.score_file(recipe, path, path.name)
