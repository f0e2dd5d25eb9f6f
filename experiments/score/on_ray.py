"""`bash run.sh score --engine ray`: the parts of a table, each scored as the command does, by the workers of a cluster.

A part is a file, or row groups of a Parquet file. If a worker dies, Ray starts another and gives it the part: a part
gets its name once it is whole, and has the same bytes whoever wrote it.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset, fs

import experiments
from experiments.command_line import RunError, UsageError
from experiments.score.config import ScoreConfig
from experiments.score.reader import Source, open_table, row_groups
from experiments.score.scoring import CHUNK, DECISION, FILE, ROW, chunks, open_model, score, score_types
from experiments.score.tables import SUFFIXES, InputFormat, format_of
from experiments.score.writer import Rejects, open_part
from experiments.startup import prepare_jax
from vae_jax.data.errors import OneLineError

PART = 1 << 17  # rows of a part at least, as far as a Parquet file's row groups go
DONE = "_SUCCESS"  # an empty file that says, as Spark's does, that a folder is whole
HINT = "say --input-format csv, jsonl or parquet"
ONE_CORE = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "NPROC": "1"}
STORE_ERRORS = (pa.ArrowException, OSError, ValueError)


class Scorer:
    """A worker: it has the model, and scores one part after the other."""

    def __init__(self, config: ScoreConfig, source: fs.FileSystem, store: fs.FileSystem, folder: str):
        prepare_jax()
        self.config, self.source, self.store, self.folder = config, source, store, folder
        self.detector, self.columns = open_model(config)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list]:
        """Scores a batch of one part; returns the rows of each decision, and new gaps by column, as JSON."""
        config, (file,), (groups,), (number,) = self.config, batch["file"], batch["groups"], batch["number"]
        counts: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        rows, output_format = range(*groups) if len(groups) else None, config.format or "parquet"
        with self.source.open_input_file(file) as opened:
            source, kind = Source(file, opened), format_of("--input", file, config.input_format, HINT, SUFFIXES)
            table = open_table(source, kind, self.columns, Rejects(file, None), config.encoding, rows)
            scored = score_types(config.explain, reasons=self.columns.schema is not None)
            types = {FILE: pa.string(), ROW: pa.int64(), **table.kept_types, **scored}
            path = f"{self.folder}/part-{number:06}.{output_format}"
            with open_part(self.store, path, output_format, types) as write:
                for block in chunks(table.blocks, CHUNK):
                    results = score(self.detector, block, self.columns, config.explain, output_format == "jsonl")
                    write({FILE: [file] * len(block), ROW: block.rows.tolist(), **block.kept, **results})
                    counts[0].update(results[DECISION])
                    counts[1].update(self.detector.features_.new_gaps(block.features))
        return {"counts": [json.dumps(counts)]}


def find_parts(path: str, chosen: InputFormat | None) -> tuple[fs.FileSystem, list[dict[str, Any]]]:
    """Returns the store that a file or folder is in, and its parts, in the order of files by name and of rows."""
    parts = []
    try:
        found = dataset.dataset(_address(path), schema=pa.schema([]))  # which opens no file
        for file in sorted(found.files):
            groups: list[Any] = [()]
            if format_of("--input", file, chosen, HINT, SUFFIXES) == "parquet":
                with found.filesystem.open_input_file(file) as opened:
                    groups = row_groups(Source(file, opened), PART)
            parts += [{"file": file, "groups": of, "number": len(parts) + i} for i, of in enumerate(groups)]
    except STORE_ERRORS as error:
        raise UsageError(f"--input {path}: {error}") from None
    if not parts:
        raise UsageError(f"--input {path}: a folder without files")
    return found.filesystem, parts


def make_folder(path: str) -> tuple[fs.FileSystem, str]:
    """Makes the folder of the output; raises UsageError if it can't, or if there are files in it."""
    try:
        store, folder = fs.FileSystem.from_uri(_address(path))
        store.create_dir(folder)
        found = store.get_file_info(fs.FileSelector(folder))
    except STORE_ERRORS as error:
        raise UsageError(f"--output {path}: {error}") from None
    if found:
        raise UsageError(f"--output {path}: not empty; name a new folder")
    return store, folder


def _address(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)  # workers may have another working directory


def score_parts(
    config: ScoreConfig, source: fs.FileSystem, output: tuple[fs.FileSystem, str], parts: list[dict[str, Any]]
) -> Iterator[list[dict[str, int]]]:
    """Scores parts on the cluster that RAY_ADDRESS names or this machine is in, else on this machine's cores.

    Yields for each part, once it is written, the rows of each decision, and new gaps by column. Raises UsageError for a
    broken row, RunError if the store fails.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # pyright: ignore[reportMissingImports]
    from ray.data import ActorPoolStrategy, DataContext  # pyright: ignore[reportMissingImports]

    # Workers find the code in the folder and by the name that it has here, and have one core each.
    variables = {"PYTHONPATH": str(Path(str(experiments.__file__)).parent.parent), **ONE_CORE}
    hook = f"{experiments.__name__}.__main__.name_experiments"
    environment = {"env_vars": variables, "worker_process_setup_hook": hook}
    ray.init(runtime_env=environment, logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.max_consecutive_actor_init_deaths = 10  # a worker may also die as it starts
    context.execution_no_progress_timeout_s = -1  # a large part takes its time
    size = min(len(parts), config.workers or int(ray.cluster_resources()["CPU"]))
    pool = ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1)
    rows = ray.data.from_items(parts, override_num_blocks=len(parts))
    arguments = config, source, *output
    try:
        done = rows.map_batches(Scorer, fn_constructor_args=arguments, batch_size=1, compute=pool, num_cpus=1)
        yield from (json.loads(row["counts"]) for row in done.iter_rows())
        output[0].open_output_stream(f"{output[1]}/{DONE}").close()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, OneLineError):
            raise error.cause from None
        if isinstance(error.cause, OSError):
            raise RunError(f"a file can't be read or written: {error.cause}") from error
        raise
    finally:
        ray.shutdown()
