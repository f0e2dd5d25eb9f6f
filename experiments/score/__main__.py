"""Scores the user's own rows with a saved model: a table in, a table of scores out, of any length."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from experiments import PROGRAM
from experiments.command_line import UsageError, parse, refusal, run
from experiments.runs import stopping
from experiments.runs.progress import WorkProgress, console
from experiments.score.config import ScoreConfig
from experiments.score.reader import Source, Table, open_source, open_table
from experiments.score.scoring import (
    ANOMALY,
    CHUNK,
    DECISION,
    FILE,
    ROW,
    STRONGEST,
    chunks,
    open_model,
    score,
    score_types,
)
from experiments.score.tables import INPUT_SUFFIXES, PIPE, SUFFIXES, Block, Format, InputFormat, format_of
from experiments.score.writer import REJECTS, Rejects, open_writer
from experiments.startup import prepare_jax
from vae_jax.data.errors import DataError
from vae_jax.detector.estimator import new_gaps_notice
from vae_jax.tables.files import check_encoding

COMMAND = f"{PROGRAM} score"


def main(arguments: Sequence[str]) -> None:
    """Runs the command."""
    config = parse(ScoreConfig, COMMAND, arguments)
    if config.engine == "ray":
        return main_on_cluster(config)
    input_format, output_format = check(config)
    pa.enable_signal_handlers(False)  # our own handlers stop the command
    output = console(sys.stderr)
    started = time.monotonic()
    with stopping.immediate(), open_source(config.input) as source, ExitStack() as stack:
        detector, columns = open_model(config)
        reader = detector.features_
        write_broken = None
        if config.rejects is not None:
            rejects_format = format_of("--rejects", config.rejects, None, "", SUFFIXES)
            write_broken = stack.enter_context(open_writer(config.rejects, rejects_format, REJECTS))
        rejects = Rejects(source.name, write_broken)
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
    rejected = None if config.rejects is None else f"{_count(rejects.count, 'broken row')} in {config.rejects}"
    report(counts, gaps, rejected, started)


def main_on_cluster(config: ScoreConfig) -> None:
    """Scores by the workers of a cluster, part by part."""
    check_cluster(config)
    from experiments.score import on_ray

    started = time.monotonic()
    counts: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    with stopping.immediate(), WorkProgress("scoring", "parts", console(sys.stderr)) as progress:
        open_model(config)  # to refuse it here
        config = replace(config, model=os.path.abspath(str(config.model)))  # workers may have another working directory
        source, parts = on_ray.find_parts(config.input, config.input_format)
        output = on_ray.make_folder(config.output)
        progress.show(0, len(parts))
        for done, (of_part, gaps_of_part) in enumerate(on_ray.score_parts(config, source, output, parts), 1):
            counts.update(of_part)
            gaps.update(gaps_of_part)
            progress.show(done, len(parts))
    report(counts, gaps, None, started)


def check_cluster(config: ScoreConfig) -> None:
    """Raises UsageError, naming the option, for one that a cluster can't have."""
    if find_spec("ray") is None:
        raise UsageError("--engine ray: needs the package ray: pip install 'ray[data]'")
    check_common(config)
    if config.workers is not None and config.workers < 1:
        raise refusal("workers", config.workers, "1 or more")
    for option, path in (("--input", config.input), ("--output", config.output)):
        if path == PIPE:
            raise UsageError(f"{option} -: --engine ray takes a file or folder to read, and a folder to write")
    if config.input_format == "xlsx":
        raise UsageError("--input-format xlsx: --engine ray reads no Excel files")
    if config.rejects is not None:
        raise UsageError(f"--rejects {config.rejects}: not with --engine ray; score the file of broken rows without it")


def check(config: ScoreConfig) -> tuple[InputFormat, Format]:
    """Returns the formats of input and output; raises UsageError, naming the option, for an invalid one."""
    if config.workers is not None:
        raise UsageError(f"--workers {config.workers}: only with --engine ray")
    check_common(config)
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
    if config.input == PIPE and sys.stdin is None:
        raise UsageError("--input -: standard input is closed; name a file")
    if config.input == PIPE and sys.stdin.isatty():
        raise UsageError("--input -: expected rows from a pipe, but this is a terminal; name a file")
    if config.input == PIPE and formats[0] == "xlsx":
        raise UsageError("--input -: an Excel file can't be read from a pipe; name the file")
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
    return formats


def check_common(config: ScoreConfig) -> None:
    """Raises UsageError for an invalid option that has nothing to do with where the rows are."""
    if config.model is None:
        raise UsageError(f"--model: expected the folder of a saved model (see {COMMAND} --help)")
    try:
        check_encoding(config.encoding)
    except DataError as error:
        raise UsageError(str(error)) from None
    check_kept(config)


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
    own = {ROW, *score_types(config.explain, reasons=True), STRONGEST} | ({FILE} if config.engine else set())
    for name in config.keep:
        if name in own:
            raise UsageError(f"--keep {name}: the output has a column of this name")
        if config.keep.count(name) > 1:
            raise UsageError(f"--keep {' '.join(config.keep)}: {name} is there twice")


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


def report(counts: Counter[str], gaps: Counter[str], rejected: str | None, started: float) -> None:
    """Tells new gaps, and in one line what was scored."""
    output = console(sys.stderr)
    if gaps:
        output.print(f"notice: {new_gaps_notice(gaps)}", soft_wrap=True)
    anomalies = "anomaly" if counts[ANOMALY] == 1 else "anomalies"
    seconds = f"{time.monotonic() - started:,.1f} s"
    scored = f"{_count(counts.total(), 'row')} scored in {seconds}: {counts[ANOMALY]:,} {anomalies}"
    output.print(scored if rejected is None else f"{scored}; {rejected}", soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
