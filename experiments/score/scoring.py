"""Scores of a stream of rows by a saved model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from experiments.command_line import UsageError, refusal
from experiments.score.config import ScoreConfig
from experiments.score.tables import Block, Columns, join
from experiments.startup import use_cores
from vae_jax.detector import VAEDetector
from vae_jax.detector.model_folder import ModelError

CHUNK = 16_384  # rows scored at once
FILE, ROW, SCORE, DECISION, STRONGEST = "file", "row", "log_reconstruction_probability", "decision", "strongest"
ANOMALY, NORMAL = "anomaly", "normal"


def load(folder: str) -> VAEDetector:
    """Loads the model, to be used on all cores."""
    use_cores(CHUNK)
    try:
        detector = VAEDetector.load(folder)
    except ModelError as error:
        raise UsageError(f"--model {folder}: {str(error).removeprefix(f'{folder}: ')}") from error
    if not hasattr(detector, "feature_names_in_"):
        raise UsageError(f"--model {folder}: its features have no names to match columns; fit it on a data frame")
    return detector


def open_model(config: ScoreConfig) -> tuple[VAEDetector, Columns]:
    """Loads the model; raises UsageError if it can't explain as many features as are asked for."""
    detector = load(str(config.model))
    columns = Columns(detector.features_.modelled, config.keep, detector.features_)
    if not 0 <= config.explain <= len(columns.features):
        raise refusal("explain", config.explain, f"0 to {len(columns.features)}, the model's features")
    return detector, columns


def chunks(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Regroups blocks into blocks of one size; the last may be smaller."""
    waiting: list[Block] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= size:
            joined = join(waiting)
            whole = len(joined) - len(joined) % size
            for start in range(0, whole, size):
                yield joined.part(start, start + size)
            waiting = [joined.part(whole, len(joined))] if whole < len(joined) else []
    if waiting:
        yield join(waiting)


def score(detector: VAEDetector, block: Block, columns: Columns, strongest: int, nested: bool) -> dict[str, list]:
    """Scores rows, and names the `strongest` features of each: with `nested` as a list of objects, else in columns."""
    rows = block.features if columns.schema else detector.features_.transform(block.features)
    scores = detector.score_encoded(rows)
    decisions = np.where(scores < detector.offset_, ANOMALY, NORMAL).tolist()
    results: dict[str, list] = {SCORE: nine_digits(scores), DECISION: decisions}
    if not strongest:
        return results
    shares = detector.shares_encoded(rows)
    order = detector.most_suspicious(shares, strongest)
    for i in range(strongest):
        names = np.array(columns.features, dtype=object)[order[:, i]].tolist()
        values = np.take_along_axis(shares, order[:, i : i + 1], axis=1)[:, 0]
        results |= {f"feature_{i + 1}": names, f"share_{i + 1}": nine_digits(values)}
        if block.cells is not None:
            cells = [block.cells[name].iat[j] for j, name in enumerate(names)]
            results[f"reason_{i + 1}"] = [detector.reason(*of) for of in zip(names, cells, values, strict=True)]
    if not nested:
        return results
    keys = [key for key in ("feature", "share", "reason") if f"{key}_1" in results]
    objects = [
        [{key: results[f"{key}_{i}"][j] for key in keys} for i in range(1, strongest + 1)] for j in range(len(block))
    ]
    return {SCORE: results[SCORE], DECISION: decisions, STRONGEST: objects}


def score_types(strongest: int, reasons: bool) -> dict[str, pa.DataType]:
    """The output columns of the scores, and their types; a table of columns of different kinds also has `reasons`."""
    types: dict[str, pa.DataType] = {SCORE: pa.float64(), DECISION: pa.string()}
    for i in range(1, strongest + 1):
        types |= {f"feature_{i}": pa.string(), f"share_{i}": pa.float64()}
        if reasons:
            types[f"reason_{i}"] = pa.string()
    return types


def nine_digits(numbers: np.ndarray) -> list[float]:
    """Rounds to the digits that tell any two float32 values apart, as in a run's scores.csv."""
    return [float(f"{number:.9g}") for number in numbers.tolist()]
