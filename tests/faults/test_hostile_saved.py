"""Configurations and models of strangers: loaded as numbers and words, or refused in one line."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments.command_line import UsageError
from experiments.fraud.config import FraudConfig
from experiments.runs import run_folder
from vae_jax import VAEDetector
from vae_jax.data import strict_json
from vae_jax.detector.model_folder import ARRAYS, CARD, DETECTOR, MANIFEST, ModelError

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEEP, "nested too deeply"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is given twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' is given twice"),
        ("NaN", "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("1e400", "1e400 is no finite number"),
        ("9" * 5_000, "Exceeds the limit"),
        ("\ufeff{}", "Expecting value"),
    ],
)
def test_json_that_python_forgives_or_stumbles_over_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        strict_json.loads(text)


def test_json_comes_back():
    record = {"a": [1, 2.5, None, True, "é\ud800"], "b": {"c": -1e300}}
    assert strict_json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("name", [run_folder.CONFIG, run_folder.FORMAT_FILE])
@pytest.mark.parametrize("content", [DEEP, '{"seed": 1, "seed": 2}', '{"limit": NaN}', '{"limit": 1e999}', "\xff"])
def test_a_run_with_such_a_configuration_is_refused(name, content, tmp_path):
    run = run_folder.create("fraud", str(tmp_path / "run"), FraudConfig())
    (run.folder / name).write_text(content, encoding="latin-1")
    with pytest.raises(UsageError, match=rf"{name}: damaged \(") as error:
        run_folder.read_config(run, FraudConfig)
    assert str(error.value).isprintable()


MODELS = ["format_0/detector_gaussian", "columns_2/detector", "exemplars_4/detector_exemplar", "columns_5/detector"]


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    """A small model's folder, of numbers or of any columns, without exemplars or with them."""
    name, _, model = request.param.partition("/")
    with zipfile.ZipFile(Path(__file__).parents[1] / "fixtures" / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / model


def sign(folder):
    """Makes the checksums right again, as a stranger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"] = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in (DETECTOR, ARRAYS, CARD)}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def refusal(folder):
    with pytest.raises(ModelError) as error:
        VAEDetector.load(folder)
    assert str(error.value).isprintable()
    return str(error.value)


def change(record, path, value):
    *parents, last = path
    for name in parents:
        record = record[name]
    record[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("options", "hidden_dims"), [2] * 1_000_000),
        (("options", "hidden_dims"), [10**12]),
        (("options", "hidden_dims"), "ab"),
        (("options", "hidden_dims"), None),
        (("options", "latent_dim"), -1),
        (("options", "latent_dim"), 10**15),
        (("options", "num_models"), 7),
        (("options", "recipe"), "report; import os"),
        (("options", "boundary"), ["quantile"]),
        (("options",), None),
        (("measured",), ["offset_"]),
        (("measured", "offset_"), "0"),
        (("measured", "offset_"), None),
    ],
)
def test_a_model_with_the_right_checksums_and_wrong_entries_is_refused(path, value, folder):
    record = json.loads((folder / DETECTOR).read_text())
    change(record, path, value)
    (folder / DETECTOR).write_text(json.dumps(record))
    sign(folder)
    refusal(folder)


def test_a_model_sets_nothing_but_what_was_measured(folder):
    record = json.loads((folder / DETECTOR).read_text())
    record["measured"]["score_samples"] = "mine"
    (folder / DETECTOR).write_text(json.dumps(record))
    sign(folder)
    assert "score_samples" not in vars(VAEDetector.load(folder))


@pytest.mark.parametrize("key", ["scaler", "schema"])
@pytest.mark.parametrize("value", [None, [], {}, {"mean": [1], "sd": ["x"], "feature_names": ["a"], "limit": 1}, 7])
def test_features_that_are_none_are_refused(key, value, folder):
    record = json.loads((folder / DETECTOR).read_text())
    record.pop("scaler", None), record.pop("schema", None)
    record[key] = value
    (folder / DETECTOR).write_text(json.dumps(record))
    sign(folder)
    refusal(folder)


@pytest.mark.parametrize("content", [DEEP, "{}", "[]", "7", '"x"', "", "\xff", '{"options": {}, "options": {}}'])
def test_a_detector_that_is_other_json_is_refused(content, folder):
    (folder / DETECTOR).write_text(content, encoding="latin-1")
    sign(folder)
    refusal(folder)


def safetensors(header: dict, data: bytes = bytes(16), length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


FOUR = {"dtype": "F32", "shape": [4]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors({"a": {**FOUR, "data_offsets": [0, 2**60]}}),
        safetensors({"a": {**FOUR, "data_offsets": [16, 0]}}),
        safetensors({"a": {**FOUR, "data_offsets": [0, 16]}, "b": {**FOUR, "data_offsets": [0, 16]}}),
        safetensors({"a": {**FOUR, "data_offsets": [0, 16], "shape": [2**62, 4]}}),
        safetensors({"a": {**FOUR, "data_offsets": [0, 16], "dtype": "pickle"}}),
        safetensors({"a": {**FOUR, "data_offsets": [0, 16]}}, length=2**63),
        safetensors({"a": {**FOUR, "data_offsets": [0, 16]}}),
        struct.pack("<Q", 10) + b"[" * 10,
        b"",
    ],
    ids=["beyond", "backwards", "overlapping", "huge", "type", "header", "others", "deep", "empty"],
)
def test_arrays_that_lie_are_refused(content, folder):
    (folder / ARRAYS).write_bytes(content)
    sign(folder)
    refusal(folder)


def test_arrays_of_another_shape_are_refused(folder):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(folder / ARRAYS)
    name = next(name for name in arrays if name.startswith("params") and arrays[name].ndim > 1)
    arrays[name] = np.concatenate([arrays[name], arrays[name]], axis=-1)
    save_file(arrays, folder / ARRAYS)
    sign(folder)
    assert f"{name} is float32" in refusal(folder)


def test_whatever_byte_is_altered_no_other_numbers_are_read(folder, rng):
    for name in (DETECTOR, ARRAYS):
        whole = (folder / name).read_bytes()
        for i in rng.integers(0, len(whole), 20):
            (folder / name).write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
            assert "altered since it was written" in refusal(folder)
        (folder / name).write_bytes(whole)
