"""The options of the score command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from experiments.score.tables import PIPE, Format, InputFormat


@dataclass(frozen=True)
class ScoreConfig:
    """Score the rows of a table with a saved model. The table may be of any length.

    Columns of the output, with rows in input order:
    - row: its number, 0 = first row of data
    - log_reconstruction_probability: in nats; higher = more normal (of an exemplar model, a log density)
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
    """Table to score: .csv (commas, semicolons, tabs or pipes), .jsonl or .ndjson, plain or gzip, .parquet, or \
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
    engine: Literal["ray"] | None = None
    """ray: score on a cluster (docs/cluster.md). Input is then a file or a folder of them, output a new folder, on \
disk or by a URI such as s3://bucket/rows; scores are written as Parquet, or --format, and have a column file."""
    workers: int | None = None
    """Number of workers of --engine ray; by default the cluster's cores."""
