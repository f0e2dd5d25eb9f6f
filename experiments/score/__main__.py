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

import pyarrow as pa

from experiments import PROGRAM
from experiments.command_line import UsageError, parse, run
from experiments.runs import stopping
from experiments.runs.progress import WorkProgress, console
from experiments.score.reader import Source, Table, open_source, open_table
from experiments.score.scoring import (
    ANOMALY,
    CHUNK,
    DECISION,
    ROW,
    STRONGEST,
    chunks,
    load,
    score,
    score_types,
)
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
)
from experiments.score.writer import Write, open_writer
from experiments.startup import prepare_jax
from vae_jax.data.errors import DataError
from vae_jax.detector.estimator import new_gaps_notice
from vae_jax.tables.files import check_encoding

COMMAND = f"{PROGRAM} score"
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
