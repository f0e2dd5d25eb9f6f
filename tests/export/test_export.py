"""A detector as one function, and as StableHLO that JAX alone can run."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from exported import (
    MODELS,
    assert_same,
    detector,
    expected,
    export,
    finished_faces,
    first,
    new_rows,
    new_table,
    pictures,
)

from experiments.command_line import run
from experiments.export.__main__ import PLATFORMS, main
from vae_jax.detector.exemplar_function import gaussianised, log_marginals
from vae_jax.detector.function import as_function
from vae_jax.detector.schema_function import numbers_of_cells, parts_of_numbers
from vae_jax.marginals import Marginals
from vae_jax.tables.gaussianise import Gaussianiser

ROOT = Path(__file__).parent.parent.parent
# What docs/export.md shows.
LOADER = """
import sys
import jax, numpy as np
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
with jax.enable_x64(True):
    found = jax.jit(program.call)(np.load(sys.argv[2]))
np.savez(sys.argv[3], **found)
assert not {name for name in sys.modules if name.startswith(("vae_jax", "flax", "experiments"))}
"""


@pytest.mark.parametrize("model", MODELS)
def test_function_agrees_with_the_detector(model):
    rows = new_rows(model)
    with jax.enable_x64(True):
        found = jax.jit(as_function(detector(model)))(rows)
        assert found.score.dtype == found.shares.dtype == np.float64
    assert_same(found._asdict(), expected(model))
    assert 0 < expected(model)["anomaly"].sum() < len(rows)


@pytest.mark.parametrize("model", MODELS)
def test_function_has_gradients_of_rows_with_gaps(model):
    """Of the score, and of its explanation: a gap has none, and takes none from the row's other cells."""
    function, rows = as_function(detector(model)), new_rows(model)
    with jax.enable_x64(True):
        for part in ("score", "shares"):
            gradient = np.asarray(jax.grad(lambda rows, part=part: getattr(function(rows), part).sum())(rows))
            assert np.isfinite(gradient).all()
            assert (gradient[np.isnan(rows)] == 0).all()
            assert (gradient[24:29, 2] != 0).all()


def test_log_marginals_have_a_gradient_where_no_row_was(rng):
    train = np.concatenate([rng.normal(size=50) - 9, rng.normal(size=50) + 9])[:, None].astype(np.float32)
    marginals = Marginals.fit(train, np.full(100, 0.01))
    with jax.enable_x64(True):
        gradient = jax.grad(lambda x: log_marginals(marginals, x).sum())(jax.numpy.array([[1.0], [30.0]]))
    np.testing.assert_allclose(np.asarray(gradient), [[-0.01], [-0.3]], rtol=1e-6)  # of the background, N(0, 10^2)


def test_the_tables_of_columns_have_all_kinds():
    kinds = {"real", "positive", "count", "yes-no", "category", "date", "constant"}
    for model in ("exemplar_of_columns", "gaussian_of_columns"):
        schema = detector(model).schema_
        assert {column.kind for column in schema.columns} == kinds
        assert [part.what for part in schema["when"].parts][:4] == ["hour", "weekday", "month", "elapsed"]


@pytest.mark.parametrize("model", ["exemplar_of_columns", "gaussian_of_columns"])
def test_parts_of_numbers_are_those_of_the_schema(model):
    schema, frame = detector(model).schema_, new_table(True)
    moments = pd.date_range("1899-12-31 23:59:59", "2101-03-01", periods=5_000)  # with and without leap years
    frame = pd.concat([frame, frame.loc[[40] * 5_000].assign(when=moments)], ignore_index=True)
    with jax.enable_x64(True):
        found = jax.jit(parts_of_numbers(schema))(numbers_of_cells(schema, frame))
    np.testing.assert_allclose(np.asarray(found), schema.transform(frame), rtol=1e-6, atol=1e-6)


def test_gaussianised_agrees_with_the_gaussianiser(rng):
    train = np.stack([rng.normal(size=900), np.exp(3 * rng.normal(size=900)).round(1)], 1).astype(np.float32)
    gaussianiser = Gaussianiser.fit(train)
    assert gaussianiser.heavy.tolist() == [False, True]
    ends = gaussianiser.quantiles[[0, -1], 0].astype(np.float32)
    rows = np.concatenate([train[:300], np.stack([np.zeros(6), [*ends, -50, 1e6, np.nan, ends[0] + 1e-6]], 1)])
    rows = rows.astype(np.float32)
    with jax.enable_x64(True):
        found = gaussianised(gaussianiser, jax.numpy.asarray(rows))
    np.testing.assert_allclose(np.asarray(found), gaussianiser.transform(rows), rtol=1e-6, atol=1e-6)


def test_log_marginals_agree_with_the_marginals(rng):
    marginals = Marginals.fit(rng.normal(size=(500, 2)).astype(np.float32), np.full(500, 1 / 500))
    rows = np.array([[0.1, -2.0], [9.0, np.nan], [-1e4, marginals.limit], [3.3, -marginals.limit]], np.float32)
    with jax.enable_x64(True):
        found = log_marginals(marginals, jax.numpy.asarray(rows))
    np.testing.assert_allclose(np.asarray(found), marginals.log_density(rows), rtol=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_stablehlo_gives_the_same_scores_for_any_number_of_rows(model, tmp_path):
    folder = export(model, tmp_path, "stablehlo")
    program = jax.export.deserialize(bytearray((folder / "detector.stablehlo").read_bytes()))
    assert program.platforms == PLATFORMS == ("cpu", "cuda", "tpu")
    rows = new_rows(model)
    for size in (1, 7, len(rows)):
        with jax.enable_x64(True):
            found = jax.jit(program.call)(rows[:size])
        assert_same(found, first(size, expected(model)))


def test_stablehlo_runs_without_this_project(tmp_path):
    folder = export("gaussian", tmp_path, "stablehlo")
    np.save(tmp_path / "rows.npy", new_rows("gaussian"))
    files = [folder / "detector.stablehlo", tmp_path / "rows.npy", tmp_path / "found.npz"]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *map(str, files)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(files[-1]) as found:
        assert_same(dict(found), expected("gaussian"))


def test_faces_become_an_encoder_and_a_decoder(tmp_path):
    model = finished_faces(tmp_path / "run")
    assert run(main, ["--model", str(tmp_path / "run"), "--format", "stablehlo"]) == 0
    folder = tmp_path / "run" / "export" / "stablehlo"
    names = ["decoder.json", "decoder.stablehlo", "encoder.json", "encoder.stablehlo"]
    assert sorted(path.name for path in folder.iterdir()) == names
    encoder, decoder = (
        jax.jit(jax.export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes())).call)
        for name in ("encoder", "decoder")
    )
    for count in (1, 3):
        latents = encoder(np.float32(pictures()[:count] / 255))["mean"]
        np.testing.assert_allclose(np.asarray(latents), model.encode(pictures()[:count]), atol=1e-5)
        np.testing.assert_allclose(
            np.asarray(decoder(latents)["pictures"]), model.decode(np.asarray(latents)), atol=1e-5
        )
    assert json.loads((folder / "encoder.json").read_text())["image_size"] == 16


def test_docs_show_this_loader():
    shown = (ROOT / "docs" / "export.md").read_text()
    for call in (
        "jax.export.deserialize(bytearray(open(",
        "with jax.enable_x64(True):",
        "jax.jit(program.call)(np.load(",
    ):
        assert call in LOADER
        assert call in shown


def test_json_says_what_a_reader_has_to_know(tmp_path):
    folder = export("exemplar", tmp_path, "stablehlo")
    assert sorted(path.name for path in folder.iterdir()) == ["detector.json", "detector.stablehlo"]
    about = json.loads((folder / "detector.json").read_text())
    fitted = detector("exemplar")
    assert about["features"] == ["a", "paid", "time", "always"]
    assert about["boundary"] == fitted.offset_
    assert about["scaling"]["mean"] == fitted.scaler_.mean.tolist()
    assert "higher = more normal" in about["score"]
    assert "270 of its training rows" in about["notice"]  # a tenth of 300 is held out
    assert about["platforms"] == list(PLATFORMS)
    lowest = jax.export.minimum_supported_calling_convention_version
    assert lowest <= about["calling_convention_version"] <= jax.export.maximum_supported_calling_convention_version


def test_json_says_what_a_number_of_each_column_is(tmp_path):
    about = json.loads((export("exemplar_of_columns", tmp_path, "stablehlo") / "detector.json").read_text())
    columns = {column["name"]: column for column in about["columns"]}
    assert list(columns) == about["features"] == list(detector("exemplar_of_columns").schema_.modelled)
    assert sorted(columns["city"].pop("levels")) == ["Lima", "Oslo", "Rome"]
    assert columns["city"] == {
        "name": "city",
        "kind": "category",
        "cell": "the level's place in `levels`, from 0; -1 for any other",
    }
    assert columns["grade"] == {"name": "grade", "kind": "category", "cell": "the number"}
    assert columns["when"]["cell"] == "seconds since 1970-01-01 00:00 UTC"
    assert "scaling" not in about


def test_a_saved_detector_alone_is_exported_too(tmp_path):
    detector("report").save(tmp_path / "mine")
    output = tmp_path / "made"
    assert run(main, ["--model", str(tmp_path / "mine"), "--format", "stablehlo", "--output", str(output)]) == 0
    assert (output / "detector.stablehlo").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "mine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--model": "nowhere"}, ["--model nowhere", "neither a saved detector nor a finished run"]),
        ({"--model": "damaged"}, ["--model damaged", "manifest.json", "damaged"]),
        ({"--model": None}, ["--model", "--help"]),
        ({"--format": "pickle"}, ["pickle"]),
        ({"--format": None}, ["--format", "--help"]),
        ({"--output": "there"}, ["--output there", "exists already"]),
        ({"--output": "there/file/new"}, ["can't write in there/file"]),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    detector("gaussian").save("good")
    Path("damaged").mkdir()
    Path("damaged", "manifest.json").write_text("{")
    Path("there").mkdir()
    Path("there", "file").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    given = {"--model": "good", "--format": "stablehlo", "--output": "made"} | options
    assert run(main, [word for option, value in given.items() if value is not None for word in (option, value)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err
    assert sorted(tmp_path.rglob("*")) == before
