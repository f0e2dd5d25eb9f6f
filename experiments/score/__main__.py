"""Scores of one's own rows by a saved model: a table in, a table of scores out, of any length."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from experiments.command_line import UsageError, parse, run
from experiments.runs import stopping
from experiments.runs.progress import WorkProgress, console
from experiments.score.reader import Source, Table, open_source, open_table
from experiments.score.tables import PIPE, Block, BrokenRow, Columns, Format, format_of, join
from experiments.score.writer import Write, open_writer
from experiments.startup import prepare_jax, use_cores
from vae_jax.detector import VAEDetector
from vae_jax.detector.model_folder import ModelError

COMMAND = "bash run.sh score"
CHUNK = 16_384  # rows that are scored at once
ROW, SCORE, DECISION, STRONGEST = "row", "log_reconstruction_probability", "decision", "strongest"
ANOMALY, NORMAL = "anomaly", "normal"
REJECTS: dict[str, pa.DataType] = {
    "line": pa.int64(),
    "row": pa.int64(),
    "reason": pa.string(),
    "text": pa.string(),
}


@dataclass(frozen=True)
class ScoreConfig:
    """Score the rows of a table of any length by a saved model.

    Columns of the output, whose rows are in the input's order:
    - row: its number, 0 = first row of data
    - log_reconstruction_probability: in nats; higher = more normal
    - decision: anomaly (below the model's boundary) or normal

    Exit codes; after anything but 0 no output file is written or replaced:
    - 0: every row is scored or in --rejects
    - 1: a disk is full, or whoever read the output has left
    - 2: an option, a file or a row can't be used
    - 130, 143: stopped by Ctrl-C, by SIGTERM
    """

    model: str | None = None
    """Folder of the saved model. Required."""
    input: str = PIPE
    """The table: .csv (commas, semicolons or tabs), .jsonl or .ndjson, plain or gzip, or .parquet; - for a pipe. It \
has the model's features in any order; other columns are ignored."""
    output: str = PIPE
    """Where the scores go: .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet; - for a pipe. A file appears when it is \
whole."""
    input_format: Format | None = None
    """The input's format, where its name does not say; by default csv for a pipe."""
    format: Format | None = None
    """The output's format, where its name does not say; by default csv for a pipe."""
    keep: tuple[str, ...] = ()
    """Columns to copy from input to output, for example ids."""
    explain: int = 0
    """Name so many of a row's most suspicious features, with their shares of its negative log probability in nats."""
    rejects: str | None = None
    """Where broken rows go, with line, row number, reason and text: .csv, .jsonl (also .gz) or .parquet. Without it, \
the first one stops the command."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command from its command line."""
    config = parse(ScoreConfig, COMMAND, arguments)
    input_format, output_format = check(config)
    pa.enable_signal_handlers(False)  # ours stop the command
    output = console(sys.stderr)
    started = time.monotonic()
    with stopping.immediate(), open_source(config.input) as source, ExitStack() as stack:
        detector = load(str(config.model))
        columns = Columns(tuple(detector.feature_names_in_), config.keep)
        if not 0 <= config.explain <= len(columns.features):
            raise UsageError(f"--explain {config.explain}: expected 0 to {len(columns.features)}, the model's features")
        rejects = Rejects(source.name, config.rejects, stack)
        table = open_table(source, input_format, columns, rejects)
        types = {ROW: pa.int64(), **table.kept_types, **score_types(config.explain)}
        write = stack.enter_context(open_writer(config.output, output_format, types))
        counts: Counter[str] = Counter()
        with WorkProgress("scoring", "rows", output) as progress:
            progress.show(0, table.count)
            read = Counted(table.blocks)
            for block in chunks(read, CHUNK):
                results = score(detector, block, config.explain, nested=output_format == "jsonl")
                write({ROW: block.rows.tolist(), **block.kept, **results})
                counts.update(results[DECISION])
                progress.show(int(block.rows[-1]) + 1, estimated_total(table, source, read.rows))
    output.print(summary(counts, rejects, time.monotonic() - started), soft_wrap=True)


def check(config: ScoreConfig) -> tuple[Format, Format]:
    """Returns the formats of input and output; raises UsageError, naming the option, for what can't be used."""
    if config.model is None:
        raise UsageError(f"--model: expected the folder of a saved model (see {COMMAND} --help)")
    formats = (
        format_of("--input", config.input, config.input_format, "say --input-format csv, jsonl or parquet"),
        format_of("--output", config.output, config.format, "say --format csv, jsonl or parquet"),
    )
    if config.input == PIPE and sys.stdin.isatty():
        raise UsageError("--input -: rows are expected from a pipe, and this is a terminal; name a file")
    if config.rejects == PIPE:
        raise UsageError("--rejects -: expected a file")
    written = {"--output": config.output}
    if config.rejects is not None:
        written["--rejects"] = config.rejects
        format_of("--rejects", config.rejects, None, "name it so")
    for option, path in written.items():
        if path != PIPE:
            check_written(option, Path(path))
    check_different({"--input": config.input, **written})
    check_kept(config)
    return formats


def check_written(option: str, path: Path) -> None:
    """Refuses a file that can't be written where it is to be."""
    if path.is_dir():
        raise UsageError(f"{option} {path}: a folder; expected a file")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")


def check_different(paths: Mapping[str, str]) -> None:
    """Refuses one file for two options: it would be read and written at once."""
    seen: dict[str, str] = {}
    for option, path in paths.items():
        other = seen.setdefault(os.path.realpath(path), option)
        if other != option and path != PIPE:
            raise UsageError(f"{option} {path}: the same file as {other}")


def check_kept(config: ScoreConfig) -> None:
    """Refuses columns that are kept twice, or named like one of the output."""
    own = {ROW, *score_types(config.explain), STRONGEST}
    for name in config.keep:
        if name in own:
            raise UsageError(f"--keep {name}: the output has a column of this name")
        if config.keep.count(name) > 1:
            raise UsageError(f"--keep {' '.join(config.keep)}: {name} is there twice")


def load(folder: str) -> VAEDetector:
    """Loads the model, on as many cores as there are."""
    use_cores(CHUNK)
    try:
        detector = VAEDetector.load(folder)
    except ModelError as error:
        raise UsageError(f"--model {folder}: {str(error).removeprefix(f'{folder}: ')}") from error
    if not hasattr(detector, "feature_names_in_"):
        raise UsageError(f"--model {folder}: its features have no names to find columns by; fit it on a data frame")
    return detector


class Rejects:
    """What is done with broken rows: written to a file, or, without one, refused.

    Attributes:
      count: how many there were.
      path: of the file.
    """

    def __init__(self, source: str, path: str | None, stack: ExitStack):
        self.count, self.path = 0, path
        self._source = source
        self._write: Write | None = None
        if path is not None:
            self._write = stack.enter_context(open_writer(path, format_of("--rejects", path, None, ""), REJECTS))

    def __call__(self, broken: list[BrokenRow]) -> None:
        """Takes broken rows in."""
        self.count += len(broken)
        if self._write is not None:
            self._write({name: [getattr(row, name) for row in broken] for name in REJECTS})
            return
        row = broken[0]
        place = f"row {row.row}" + (f" (line {row.line})" if row.line is not None else "")
        raise UsageError(f"{self._source}: {place}: {row.reason}; --rejects FILE sets such rows apart")


def chunks(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Cuts blocks of any length anew, into blocks of one size and a last one that may be smaller."""
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


def score(detector: VAEDetector, block: Block, strongest: int, nested: bool) -> dict[str, list]:
    """Scores rows.

    Args:
      detector: the model.
      block: the rows.
      strongest: how many features to name for each row.
      nested: whether they are one list of objects for a row, and not two columns each.

    Returns:
      The columns that the scores take.
    """
    rows = pd.DataFrame(block.features, columns=detector.feature_names_in_)
    scores = detector.score_samples(rows)
    decisions = np.where(scores < detector.offset_, ANOMALY, NORMAL).tolist()
    results: dict[str, list] = {SCORE: nine_digits(scores), DECISION: decisions}
    if not strongest:
        return results
    shares = detector.explain(rows).to_numpy()
    order = np.argsort(-shares, axis=1, kind="stable")[:, :strongest]
    names = detector.feature_names_in_[order].astype(object)
    values = np.take_along_axis(shares, order, axis=1)
    columns = [(names[:, i].tolist(), nine_digits(values[:, i])) for i in range(strongest)]
    if nested:
        pairs = [zip(*column, strict=True) for column in columns]
        objects = [[{"feature": name, "share": share} for name, share in row] for row in zip(*pairs, strict=True)]
        return {**results, STRONGEST: objects}
    for i, (features, values) in enumerate(columns, 1):
        results |= {f"feature_{i}": features, f"share_{i}": values}
    return results


def score_types(strongest: int) -> dict[str, pa.DataType]:
    """The columns that the scores take, and their types."""
    types: dict[str, pa.DataType] = {SCORE: pa.float64(), DECISION: pa.string()}
    for i in range(1, strongest + 1):
        types |= {f"feature_{i}": pa.string(), f"share_{i}": pa.float64()}
    return types


def nine_digits(numbers: np.ndarray) -> list[float]:
    """Rounds to what tells two float32 apart, as a run's scores.csv does."""
    return [float(f"{number:.9g}") for number in numbers.tolist()]


class Counted:
    """Blocks as they come, and how many rows have come.

    Attributes:
      rows: how many, broken ones among them.
    """

    def __init__(self, blocks: Iterable[Block]):
        self.rows = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            self.rows = int(block.rows[-1]) + 1
            yield block


def estimated_total(table: Table, source: Source, read: int) -> int | None:
    """How many rows there are: known, judged by the share of the file that they took, or unknown for a pipe."""
    share = source.share_read()
    return table.count or (round(read / share) if share else None)


def summary(counts: Counter[str], rejects: Rejects, seconds: float) -> str:
    """What was done, in a line."""
    rejected = f"; {_count(rejects.count, 'broken row')} in {rejects.path}" if rejects.path is not None else ""
    anomalies = "anomaly" if counts[ANOMALY] == 1 else "anomalies"
    return f"{_count(counts.total(), 'row')} scored in {seconds:,.1f} s: {counts[ANOMALY]:,} {anomalies}{rejected}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
