"""A finished run of the transactions to look into: its scores, its detectors and its rows, and tables to score."""

from __future__ import annotations

import gzip
import io
import shlex
import tempfile
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from experiments import PROGRAM
from experiments.command_line import UsageError
from experiments.explore.faces import shown_path
from experiments.explore.rows import Scored
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import Inputs, prepare
from experiments.runs.experiment import INPUTS
from experiments.runs.run_folder import Run, read_config
from experiments.score.reader import Source, Table, open_table
from experiments.score.scoring import CHUNK, DECISION, ROW, SCORE, chunks, load, score, score_types
from experiments.score.tables import INPUT_SUFFIXES, Block, BrokenRow, Columns, InputFormat, OnBroken, format_of, join
from experiments.score.text import GZIP
from experiments.score.writer import open_writer
from vae_jax.data.errors import DataError
from vae_jax.data.unpacking import DAMAGE, MOST_BYTES, read_at_most
from vae_jax.detector import VAEDetector
from vae_jax.tables.cells import as_frame

MOST = 200  # rows in a table
TYPICAL_ROWS = 2_000  # genuine test rows whose mean evidence is what is usual
EXPLAINED = 3  # features in a file of scores
MOST_ROWS = 100_000  # in an uploaded table, whose scores the page gets as a whole
WITHOUT_LIMIT = f"{PROGRAM} score has no such limit"


@dataclass(frozen=True)
class Evidence:
    """Why a row is as normal as it is, a feature a line, most suspicious first.

    Attributes:
      names: of the features, shape (D,).
      values: the row's cells, as text.
      usual: what is usual in training, in words.
      shares: evidence against the row, nats.
      usual_shares: mean evidence against genuine rows, nats.
    """

    names: list[str]
    values: list[str]
    usual: list[str]
    shares: np.ndarray
    usual_shares: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """A trained recipe of a run.

    Attributes:
      folder: of its model.
      scored: the run's test rows.
      inputs: the run's data; None if they are not where they were.
    """

    folder: Path
    detector: VAEDetector
    scored: Scored
    inputs: Inputs | None

    @cached_property
    def usual_shares(self) -> np.ndarray:
        """Mean evidence against genuine rows, nats, shape (D,)."""
        if self.detector.schema_:
            return np.asarray(self.detector.typical_shares_)
        if self.inputs is None:
            return np.zeros(len(self.detector.features_.modelled))
        rows = self.inputs.split.test[self.scored.labels == 0][:TYPICAL_ROWS]
        return self.detector.shares_encoded(self.inputs.x[rows]).mean(0)

    @cached_property
    def strongest(self) -> dict[int, str]:
        """The most suspicious feature of the least normal test rows, by place."""
        if self.inputs is None:
            return {}
        places = self.scored.lowest[:MOST]
        shares = self.detector.shares_encoded(self.inputs.x[self.inputs.split.test[places]]) - self.usual_shares
        names = self.detector.features_.modelled
        return {int(place): names[i] for place, i in zip(places, shares.argmax(1), strict=True)}

    def explain(self, place: int) -> Evidence:
        """Explains a test row."""
        assert self.inputs is not None
        row = self.inputs.split.test[[place]]
        frame = as_frame(self.inputs.take(row), list(self.detector.features_.feature_names))
        return self.evidence(self.inputs.x[row], dict(frame.iloc[0]))

    def evidence(self, encoded: np.ndarray, cells: dict[str, Any]) -> Evidence:
        """Explains one row, given as a model takes it, shape (1, P), and as its cells."""
        features = self.detector.features_
        (shares,) = self.detector.shares_encoded(encoded)
        order = np.argsort(self.usual_shares - shares, kind="stable")
        names = [features.modelled[i] for i in order]
        return Evidence(
            names,
            [as_text(cells[name]) for name in names],
            [features.remark(name, cells[name]) for name in names],
            shares[order],
            self.usual_shares[order],
        )


def open_recipes(run: Run) -> dict[str, Recipe]:
    """Opens a finished run; raises UsageError if it can't be used."""
    metrics = run.read_json("metrics.json")
    inputs = own_data(run, metrics["data"])
    scores = pd.read_csv(run.folder / "scores.csv")
    if inputs and not _are_test_rows(scores["row"].to_numpy(), inputs):
        inputs = None
    found = {}
    for recipe, measures in metrics["recipes"].items():
        folder = run.folder / f"model_{recipe}"
        folder = folder if folder.is_dir() else run.folder / "model"
        scored = Scored(
            scores["row"].to_numpy(),
            scores[f"{recipe}_log_reconstruction_probability"].to_numpy(),
            scores["label"].to_numpy(),
            measures["threshold"],
        )
        found[recipe] = Recipe(folder, load(str(folder)), scored, inputs)
    return found


def _are_test_rows(rows: np.ndarray, inputs: Inputs) -> bool:
    """Whether the data are divided as in the run, which another version of NumPy may do otherwise."""
    test = inputs.split.test
    # Earlier versions numbered rows by their place in the table.
    return np.array_equal(rows, inputs.table.row_numbers[test]) or np.array_equal(rows, test)


def own_data(run: Run, described: dict[str, Any]) -> Inputs | None:
    """The data of a run, described as in `metrics.json`; None if they are not there, or are others."""
    config = read_config(run, FraudConfig)
    if config.data in ("auto", "kaggle"):  # which might now find others, or download them
        source = "synthetic" if described["synthetic"] else described["source"].removeprefix("Kaggle: ")
        config = replace(config, data=source)
    try:
        known = run.read_json(INPUTS)  # which is gone if the checkpoints were removed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            inputs = prepare(config)
    except UsageError:
        return None
    return inputs if inputs.recognise(known) else None


@dataclass(frozen=True)
class ScoredTable:
    """A table that was scored.

    Attributes:
      recipe: which scored it.
      output: what `bash run.sh score` writes for it, CSV.
      count, alarms: its rows, and those below the model's boundary.
      lowest: the least normal rows, at most `MOST`, least normal first, with `row`, `score` and `decision`.
      encoded, cells: those rows as a model takes them and as their cells.
      broken: rows that can't be scored.
    """

    recipe: Recipe
    output: bytes
    count: int
    alarms: int
    lowest: pd.DataFrame
    encoded: np.ndarray
    cells: list[dict[str, Any]]
    broken: list[BrokenRow]

    def explain(self, place: int) -> Evidence:
        """Explains one of the least normal rows."""
        return self.recipe.evidence(self.encoded[[place]], self.cells[place])


def score_file(recipe: Recipe, path: Path, name: str) -> ScoredTable:
    """Scores a file as `bash run.sh score --explain` does; raises UsageError, with its name, if it can't be used."""
    detector = recipe.detector
    columns = Columns(detector.features_.modelled, (), detector.features_)
    broken: list[BrokenRow] = []
    read: list[Block] = []
    results: list[dict[str, list]] = []
    explained = min(EXPLAINED, len(columns.features))
    types = score_types(explained, reasons=columns.schema is not None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "scores.csv"
            table = open_rows(path, format_of("file", name, None, "name it so", INPUT_SUFFIXES), columns, broken.extend)
            with open_writer(str(output), "csv", {ROW: pa.int64(), **types}) as write:
                for block in chunks(table.blocks, CHUNK):
                    results.append(score(detector, block, columns, explained, nested=False))
                    read.append(block)
                    write({ROW: block.rows.tolist(), **results[-1]})
            content = output.read_bytes()
    except UsageError as error:
        raise UsageError(str(error).replace(str(path), name)) from None
    if not read:
        raise UsageError(f"{name}: no row that can be scored" + (f"; the first: {broken[0].reason}" if broken else ""))
    return _summary(recipe, content, join(read), results, broken)


def open_rows(path: Path, file_format: InputFormat, columns: Columns, on_broken: OnBroken) -> Table:
    """Opens a table that is read whole; raises UsageError if it unpacks to too much or has too many rows."""
    content = path.read_bytes()
    if file_format in ("csv", "jsonl") and content.startswith(GZIP):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = read_at_most(file, MOST_BYTES)
        except DataError as error:
            raise UsageError(f"{path}: {error}; {WITHOUT_LIMIT}") from None
        except DAMAGE as error:
            raise UsageError(f"{path}: damaged or truncated gzip ({error})") from None
        if content.startswith(GZIP):  # which would be unpacked without limit
            raise UsageError(f"{path}: gzip within gzip")
    table = open_table(Source(str(path), io.BytesIO(content)), file_format, columns, on_broken)
    rows = max(content.count(b"\n"), content.count(b"\r")) - 1 if table.count is None else table.count
    if rows > MOST_ROWS:
        raise UsageError(f"{path}: more than {MOST_ROWS:,} rows; {WITHOUT_LIMIT}")
    return table


def scores_name(name: str) -> str:
    """What to call the scores of a table."""
    return f"{name.split('.')[0]}_scores.csv"


def score_command(table: ScoredTable, name: str) -> str:
    """The command that scores a table as `score_file` did."""
    words = ["--model", shown_path(table.recipe.folder), "--input", name, "--output", scores_name(name)]
    words += ["--explain", str(EXPLAINED), *(["--rejects", "broken.csv"] if table.broken else [])]
    return shlex.join([*PROGRAM.split(), "score", *words])


def _summary(
    recipe: Recipe, content: bytes, block: Block, results: list[dict[str, list]], broken: list[BrokenRow]
) -> ScoredTable:
    scores = np.concatenate([part[SCORE] for part in results])
    decisions = np.concatenate([part[DECISION] for part in results])
    lowest = np.argsort(scores, kind="stable")[:MOST]
    names = recipe.detector.features_.modelled
    if block.cells is None:
        cells = [dict(zip(names, row, strict=True)) for row in block.features[lowest]]
        encoded = recipe.detector.features_.transform(block.features[lowest])
    else:
        cells = block.cells.iloc[lowest].to_dict("records")
        encoded = block.features[lowest]
    return ScoredTable(
        recipe,
        content,
        len(scores),
        int((scores < recipe.detector.offset_).sum()),
        pd.DataFrame({"row": block.rows[lowest], "score": scores[lowest], "decision": decisions[lowest]}),
        encoded,
        cells,
        broken,
    )


def as_text(cell: Any) -> str:
    """A cell in a few characters."""
    if isinstance(cell, float | np.floating):
        return "" if np.isnan(cell) else f"{cell:.4g}"
    return "" if cell is None or cell is pd.NaT else str(cell)[:40]
