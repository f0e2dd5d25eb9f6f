"""Scores the user's own rows with a saved model: a table in, a table of scores out, of any length."""

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
import pyarrow as pa

from experiments import PROGRAM
from experiments.command_line import UsageError, parse, run
from experiments.runs import stopping
from experiments.runs.progress import WorkProgress, console
from experiments.score.reader import Source, Table, open_source, open_table
from experiments.score.tables import (
    INPUT_SUFFIXES,
    PIPE,
    SUFFIXES,
    Block,
    BrokenRow,
    Columns,
    Format,
    InputFormat,
    format_of,
    join,
)
from experiments.score.writer import Write, open_writer
from experiments.startup import prepare_jax, use_cores
from vae_jax.data.errors import DataError
from vae_jax.detector import VAEDetector
from vae_jax.detector.estimator import new_gaps_notice
from vae_jax.detector.model_folder import ModelError
from vae_jax.tables.files import check_encoding

COMMAND = f"{PROGRAM} score"
CHUNK = 16_384  # rows scored at once
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
    """Score the rows of a table with a saved model. The table may be of any length.

    Columns of the output, with rows in input order:
    - row: its number, 0 = first row of data
    - log_reconstruction_probability: in nats; higher = more normal
    - decision: anomaly (below the model's boundary) or normal

    Exit codes (output files are written or replaced only with 0):
    - 0: every row was scored or written to --rejects
    - 1: a disk is full, or the output pipe was closed
    - 2: an option, a file or a row is invalid
    - 130, 143: stopped by Ctrl-C, by SIGTERM
    """

    model: str | None = None
    """Folder of the saved model. Required."""
    input: str = PIPE
    """Table to score: .csv (commas, semicolons or tabs), .jsonl or .ndjson, plain or gzip, .parquet, or \
.xlsx; - for a pipe. It must have the model's features, in any order; other columns are ignored."""
    output: str = PIPE
    """Where to write the scores: .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet; - for a pipe. The file appears only \
once it is complete."""
    input_format: InputFormat | None = None
    """Format of the input; by default what its name says, csv for a pipe."""
    encoding: str | None = None
    """Encoding of a text that is neither UTF-8 nor Excel's UTF-16, such as latin-1."""
    format: Format | None = None
    """Format of the output; by default what its name says, csv for a pipe."""
    keep: tuple[str, ...] = ()
    """Input columns to copy to the output, for example ids."""
    explain: int = 0
    """Name this many of each row's most suspicious features, with their shares of the row's negative log probability \
in nats."""
    rejects: str | None = None
    """Where to write invalid rows, with line, row number, reason and text: .csv, .jsonl (also .gz) or .parquet. \
Without it, the first invalid row stops the command."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command."""
    config = parse(ScoreConfig, COMMAND, arguments)
    input_format, output_format = check(config)
    pa.enable_signal_handlers(False)  # our own handlers stop the command
    output = console(sys.stderr)
    started = time.monotonic()
    with stopping.immediate(), open_source(config.input) as source, ExitStack() as stack:
        detector = load(str(config.model))
        reader = detector.features_
        columns = Columns(reader.modelled, config.keep, reader)
        if not 0 <= config.explain <= len(columns.features):
            raise UsageError(f"--explain {config.explain}: expected 0 to {len(columns.features)}, the model's features")
        rejects = Rejects(source.name, config.rejects, stack)
        table = open_table(source, input_format, columns, rejects, config.encoding)
        types = {ROW: pa.int64(), **table.kept_types, **score_types(config.explain, reasons=columns.schema is not None)}
        write = stack.enter_context(open_writer(config.output, output_format, types))
        counts: Counter[str] = Counter()
        gaps: Counter[str] = Counter()
        with WorkProgress("scoring", "rows", output) as progress:
            progress.show(0, table.count)
            read = Counted(table.blocks)
            for block in chunks(read, CHUNK):
                results = score(detector, block, columns, config.explain, nested=output_format == "jsonl")
                write({ROW: block.rows.tolist(), **block.kept, **results})
                counts.update(results[DECISION])
                gaps.update(reader.new_gaps(block.features))
                progress.show(int(block.rows[-1]) + 1, estimated_total(table, source, read.rows))
    if gaps:
        output.print(f"notice: {new_gaps_notice(gaps)}", soft_wrap=True)
    output.print(summary(counts, rejects, time.monotonic() - started), soft_wrap=True)


def check(config: ScoreConfig) -> tuple[InputFormat, Format]:
    """Returns the formats of input and output; raises UsageError, naming the option, for an invalid one."""
    if config.model is None:
        raise UsageError(f"--model: expected the folder of a saved model (see {COMMAND} --help)")
    formats = (
        format_of(
            "--input",
            config.input,
            config.input_format,
            "say --input-format csv, jsonl, parquet or xlsx",
            INPUT_SUFFIXES,
        ),
        format_of("--output", config.output, config.format, "say --format csv, jsonl or parquet", SUFFIXES),
    )
    if config.input == PIPE and sys.stdin.isatty():
        raise UsageError("--input -: expected rows from a pipe, but this is a terminal; name a file")
    if config.input == PIPE and formats[0] == "xlsx":
        raise UsageError("--input -: an Excel file can't be read from a pipe; name the file")
    try:
        check_encoding(config.encoding)
    except DataError as error:
        raise UsageError(str(error)) from None
    if config.rejects == PIPE:
        raise UsageError("--rejects -: expected a file")
    written = {"--output": config.output}
    if config.rejects is not None:
        written["--rejects"] = config.rejects
        format_of("--rejects", config.rejects, None, "name it so", SUFFIXES)
    for option, path in written.items():
        if path != PIPE:
            check_written(option, Path(path))
    check_different({"--input": config.input, **written})
    check_kept(config)
    return formats


def check_written(option: str, path: Path) -> None:
    """Refuses an output path that is a folder, or in a folder that does not exist."""
    if path.is_dir():
        raise UsageError(f"{option} {path}: a folder; expected a file")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")


def check_different(paths: Mapping[str, str]) -> None:
    """Refuses one file for two options: it would be read and written at the same time."""
    seen: dict[str, str] = {}
    for option, path in paths.items():
        other = seen.setdefault(os.path.realpath(path), option)
        if other != option and path != PIPE:
            raise UsageError(f"{option} {path}: the same file as {other}")


def check_kept(config: ScoreConfig) -> None:
    """Refuses columns kept twice, or named like an output column."""
    own = {ROW, *score_types(config.explain, reasons=True), STRONGEST}
    for name in config.keep:
        if name in own:
            raise UsageError(f"--keep {name}: the output has a column of this name")
        if config.keep.count(name) > 1:
            raise UsageError(f"--keep {' '.join(config.keep)}: {name} is there twice")


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


class Rejects:
    """Writes broken rows to a file, or without one raises UsageError; `count` is their number."""

    def __init__(self, source: str, path: str | None, stack: ExitStack):
        self.count, self.path = 0, path
        self._source = source
        self._write: Write | None = None
        if path is not None:
            rejects_format = format_of("--rejects", path, None, "", SUFFIXES)
            self._write = stack.enter_context(open_writer(path, rejects_format, REJECTS))

    def __call__(self, broken: list[BrokenRow]) -> None:
        """Takes broken rows."""
        self.count += len(broken)
        if self._write is not None:
            self._write({name: [getattr(row, name) for row in broken] for name in REJECTS})
            return
        row = broken[0]
        place = f"row {row.row}" + (f" (line {row.line})" if row.line is not None else "")
        raise UsageError(f"{self._source}: {place}: {row.reason}; --rejects FILE sets such rows apart")


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


class Counted:
    """Passes blocks on and counts their rows, including broken ones."""

    def __init__(self, blocks: Iterable[Block]):
        self.rows = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            self.rows = int(block.rows[-1]) + 1
            yield block


def estimated_total(table: Table, source: Source, read: int) -> int | None:
    """Total number of rows: known, estimated from the share of the file read so far, or None for a pipe."""
    share = source.share_read()
    return table.count or (round(read / share) if share else None)


def summary(counts: Counter[str], rejects: Rejects, seconds: float) -> str:
    """A one-line summary."""
    rejected = f"; {_count(rejects.count, 'broken row')} in {rejects.path}" if rejects.path is not None else ""
    anomalies = "anomaly" if counts[ANOMALY] == 1 else "anomalies"
    return f"{_count(counts.total(), 'row')} scored in {seconds:,.1f} s: {counts[ANOMALY]:,} {anomalies}{rejected}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
