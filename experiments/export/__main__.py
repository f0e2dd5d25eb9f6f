"""Exports a trained model: as ONNX, for any language and browsers, or as StableHLO, for JAX without this project."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import jax

from experiments import PROGRAM
from experiments.command_line import RunError, UsageError, parse, run
from experiments.export.models import Part, load
from experiments.runs import stopping
from experiments.runs.progress import console
from experiments.runs.run_folder import disk_errors
from experiments.startup import prepare_jax

COMMAND = f"{PROGRAM} export"
PLATFORMS = ("cpu", "cuda", "tpu")
Format = Literal["onnx", "stablehlo"]
NEEDS: dict[str, str] = {"onnx": "onnx", "stablehlo": "flatbuffers"}  # packages, by format


@dataclass(frozen=True)
class ExportConfig:
    """Export a model to be used without this project. docs/export.md shows how.

    A detector becomes one file, from rows to scores, decisions and the explanation by feature; faces become two, an
    encoder and a decoder. Each takes any number of rows at once.
    """

    model: str | None = None
    """Folder of a finished run of fraud or celeba, or of a saved detector. Required."""
    format: Format | None = None
    """onnx: for ONNX Runtime, in any of its languages and in browsers; stablehlo: for JAX alone, on CPUs, NVIDIA GPUs \
and TPUs. Required."""
    output: str | None = None
    """New folder for the files; by default export/<format> in the run's folder, or beside that of a saved detector."""
    shares: bool = True
    """Of a detector: also export each feature's share of the evidence against a row. Without, a model of the exemplar \
recipe scores several times as many rows in a second."""


def main(arguments: Sequence[str]) -> None:
    """Runs the command."""
    config = parse(ExportConfig, COMMAND, arguments)
    for option, value, expected in (
        ("--model", config.model, "the folder of a finished run or a saved detector"),
        ("--format", config.format, " or ".join(get_args(Format))),
    ):
        if value is None:
            raise UsageError(f"{option}: expected {expected} (see {COMMAND} --help)")
    package = NEEDS[str(config.format)]
    if find_spec(package) is None:
        raise UsageError(f"--format {config.format}: needs the package {package} (the extra export has it)")
    with stopping.immediate():
        parts, around = load(str(config.model), config.shares)
        folder = Path(config.output) if config.output else around / "export" / str(config.format)
        if os.path.lexists(folder):
            raise UsageError(f"--output {folder}: exists already; name a new folder")
        names = write(parts, WRITERS[str(config.format)], folder)
    console().print(f"{folder}: {', '.join(names)}", soft_wrap=True)


def write(parts: Sequence[Part], write_part: Callable[[Part, Path], None], folder: Path) -> list[str]:
    """Writes all parts, or nothing; returns the names of the files."""
    with disk_errors(folder.parent, UsageError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary, folder.name)
            made.mkdir()
            for part in parts:
                with jax.enable_x64(part.wide):
                    write_part(part, made)
            names = sorted(path.name for path in made.iterdir())
            os.rename(made, folder)
    return names


def write_onnx(part: Part, folder: Path) -> None:
    """Writes a model whose metadata are what there is to know, each value as JSON."""
    from experiments.export.onnx_graph import NoOnnxError, to_onnx

    about = {name: json.dumps(value, ensure_ascii=False) for name, value in part.about.items()}
    try:
        model = to_onnx(part.function, part.input, part.like, about)
    except NoOnnxError as error:
        raise RunError(f"{part.name}: {error}; --format stablehlo has all") from error
    (folder / f"{part.name}.onnx").write_bytes(model.SerializeToString())


def write_stablehlo(part: Part, folder: Path) -> None:
    """Writes a program of `jax.export`, and beside it a JSON file."""
    program = jax.export.export(jax.jit(part.function), platforms=PLATFORMS)(part.like)
    about = {
        **part.about,
        "platforms": PLATFORMS,
        "jax": jax.__version__,
        "calling_convention_version": program.calling_convention_version,
    }
    (folder / f"{part.name}.stablehlo").write_bytes(program.serialize())
    text = json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / f"{part.name}.json").write_text(text + "\n", encoding="utf-8")


WRITERS: dict[str, Callable[[Part, Path], None]] = {"onnx": write_onnx, "stablehlo": write_stablehlo}


if __name__ == "__main__":
    prepare_jax()
    sys.exit(run(main, sys.argv[1:]))
