"""A detector as ONNX. `.venv-export`, which `bash run.sh export` makes, has what these tests need."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
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

WHY = "onnxruntime is not installed: .venv-export/bin/python -m pytest tests/export, after bash run.sh export --help"
onnxruntime = pytest.importorskip("onnxruntime", reason=WHY)

from experiments.command_line import run  # noqa: E402
from experiments.export.__main__ import main  # noqa: E402
from experiments.export.onnx_graph import NoOnnxError, to_onnx  # noqa: E402
from vae_jax import VAEDetector  # noqa: E402


def run_model(model: bytes | str, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """Runs a model on one input."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: array}), strict=True))


def converted(function, like: np.ndarray) -> bytes:
    """A function of rows as a model."""
    (rows,) = jax.export.symbolic_shape("rows")
    spec = jax.ShapeDtypeStruct((rows, *like.shape[1:]), like.dtype)
    with jax.enable_x64(like.dtype == np.float64):
        return to_onnx(lambda x: {"y": function(x)}, "x", spec, {}).SerializeToString()


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_the_same_for_any_number_of_rows(model, tmp_path):
    path = str(export(model, tmp_path, "onnx") / "detector.onnx")
    rows, wanted = new_rows(model), expected(model)
    for size in (1, 7, len(rows)):
        assert_same(run_model(path, "rows", rows[:size]), first(size, wanted))
    many = np.tile(rows, (200, 1))
    assert_same(run_model(path, "rows", many), {name: np.concatenate([of] * 200) for name, of in wanted.items()})


def test_the_documentation_makes_numbers_of_words_and_dates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    code = next(part.split("```")[0] for part in shown.split("```py\n") if "get_indexer" in part)
    path = str(export("exemplar_of_columns", tmp_path, "onnx") / "detector.onnx")
    session = onnxruntime.InferenceSession(path)
    about = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    names = {"about": about, "np": np}
    new_table(True).to_csv("today.csv", index=False)
    exec(code, names)
    np.testing.assert_allclose(names["rows"], new_rows("exemplar_of_columns"), rtol=1e-12)


def test_metadata_say_what_a_reader_has_to_know(tmp_path):
    folder = export("gaussian", tmp_path, "onnx")
    assert [path.name for path in folder.iterdir()] == ["detector.onnx"]
    session = onnxruntime.InferenceSession(str(folder / "detector.onnx"))
    about = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert about["features"] == ["a", "paid", "time", "always"]
    assert about["boundary"] == detector("gaussian").offset_
    assert "higher = more normal" in about["score"]
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("rows", "tensor(double)", ["rows", 4])
    shapes = {output.name: (output.type, output.shape) for output in session.get_outputs()}
    assert shapes == {
        "score": ("tensor(double)", ["rows"]),
        "anomaly": ("tensor(bool)", ["rows"]),
        "shares": ("tensor(double)", ["rows", 4]),
    }


def test_shares_can_be_left_out(tmp_path):
    folder = export("exemplar", tmp_path, "onnx", "--no-shares")
    session = onnxruntime.InferenceSession(str(folder / "detector.onnx"))
    assert {output.name for output in session.get_outputs()} == {"score", "anomaly"}
    assert "shares" not in session.get_modelmeta().custom_metadata_map
    with_shares = onnxruntime.InferenceSession(str(export("exemplar", tmp_path / "all", "onnx") / "detector.onnx"))
    for name in ("score", "anomaly"):
        found = (of.run([name], {"rows": new_rows("exemplar")})[0] for of in (session, with_shares))
        np.testing.assert_array_equal(*found)


def test_faces_become_an_encoder_and_a_decoder(tmp_path):
    model = finished_faces(tmp_path / "run")
    assert run(main, ["--model", str(tmp_path / "run"), "--format", "onnx"]) == 0
    encoder, decoder = (str(tmp_path / "run" / "export" / "onnx" / f"{name}.onnx") for name in ("encoder", "decoder"))
    for count in (1, 3):
        latents = run_model(encoder, "pictures", np.float32(pictures()[:count] / 255))["mean"]
        np.testing.assert_allclose(latents, model.encode(pictures()[:count]), atol=1e-5)
        found = run_model(decoder, "latents", latents)["pictures"]
        np.testing.assert_allclose(found, model.decode(latents), atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.log1p(x * 1e-7),
        lambda x: jnp.expm1(x * jnp.array([1e-7, 0.3, 100.0, 0.0])[None]) + jnp.floor(x),
        lambda x: jax.nn.logsumexp(x, axis=1),
        lambda x: jnp.pad(x, ((0, 0), (1, 2))),
        lambda x: x[:, 1:2] * x[:, 2][:, None],
        lambda x: jnp.clip(x, -0.5, 0.5) ** 3 + jnp.where(jnp.isnan(x), 0.0, x) ** 2,
        lambda x: jnp.repeat(x, 3, axis=0).reshape(-1, 3, 4).sum(1),
        lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], 2, 4)).transpose(1, 0, 2).max(0),
        lambda x: jnp.concatenate([x, jnp.zeros((x.shape[0], 1))], axis=1) @ np.ones((5, 2), np.float32),
        lambda x: jnp.polyval(jnp.array([1.0, -2.0, 0.5]), x),
        lambda x: jnp.take(np.arange(10.0, dtype=np.float32), (jnp.abs(x) * 2).astype(jnp.int32), mode="clip"),
        lambda x: jnp.isfinite(x / (x - x)).astype(jnp.float32) + jax.nn.sigmoid(x),
    ],
)
def test_operations_agree_with_jax(function, rng):
    x = rng.normal(size=(5, 4)).astype(np.float32)
    found = run_model(converted(function, x), "x", x)["y"]
    np.testing.assert_allclose(found, np.asarray(function(jnp.asarray(x))), rtol=1e-5, atol=1e-6)


def test_an_operation_without_onnx_form_is_named(rng):
    with pytest.raises(NoOnnxError, match="sort"):
        converted(lambda x: jnp.sort(x, axis=1), np.zeros((5, 4), np.float32))


def test_real_transactions(real_transactions, tmp_path):
    frame = pd.read_csv(real_transactions, nrows=12_000)
    genuine = frame.pop("Class") == 0
    frame = frame.drop(columns="Time")
    fitted = VAEDetector(epochs=1, num_models=1).fit(frame[genuine].iloc[:2_000])
    fitted.save(tmp_path / "model")
    assert run(main, ["--model", str(tmp_path / "model"), "--format", "onnx", "--output", str(tmp_path / "made")]) == 0
    rows = frame.iloc[2_000:].to_numpy(np.float64)
    score = fitted.score_samples(frame.iloc[2_000:])
    for size in (1, 7, len(rows)):
        found = run_model(str(tmp_path / "made" / "detector.onnx"), "rows", rows[:size])
        np.testing.assert_allclose(found["score"], score[:size], rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(found["anomaly"], score[:size] < fitted.offset_)
