"""A detector in a folder: the same afterwards, and refused where it is not what was written."""

import copy
import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import yaml
from helpers import assert_same
from run_helpers import refused
from test_detector import FEATURES, SMALL, correlated

import experiments.score.__main__ as score
from experiments.command_line import run
from experiments.score import scoring
from vae_jax import VAEDetector
from vae_jax.detector import model_folder
from vae_jax.detector.model_folder import ModelError


@pytest.fixture(scope="module", params=["gaussian", "report", "exemplar"])
def detector(request) -> VAEDetector:
    return VAEDetector(**{**SMALL, "epochs": 3}, recipe=request.param).fit(correlated(100))


@pytest.fixture
def folder(detector, tmp_path: Path) -> Path:
    detector.save(tmp_path / "model", {"average precision": 0.875})
    return tmp_path / "model"


def test_a_loaded_detector_gives_the_same_and_goes_on_alike(detector, folder):
    loaded, x = VAEDetector.load(folder), correlated(50, seed=1)
    assert loaded.get_params() == detector.get_params()
    assert loaded.offset_ == detector.offset_
    assert list(loaded.feature_names_in_) == FEATURES
    assert_same(loaded.score_samples(x), detector.score_samples(x))
    assert_same(loaded.explain(x).to_numpy(), detector.explain(x).to_numpy())
    assert_same(loaded.state_, detector.state_)
    again = VAEDetector.load(folder).partial_fit(correlated(100, seed=2))
    assert_same(again.score_samples(x), loaded.partial_fit(correlated(100, seed=2)).score_samples(x))


def test_what_was_left_to_the_recipe_is_decided_anew_for_other_rows(tmp_path):
    detector = VAEDetector(hidden_dims=(4,), num_models=1).fit(correlated(2_000))
    detector.save(tmp_path / "model")
    loaded = VAEDetector.load(tmp_path / "model")
    assert (loaded.recipe, loaded.epochs) == (None, None)
    for more in (400, 4_000):  # at the same learning rate as before
        expected = detector.partial_fit(correlated(more, seed=1)).state_
        assert_same(loaded.partial_fit(correlated(more, seed=1)).state_, expected)
    assert loaded.fit(correlated(200)).n_steps_ == 1_000


def test_it_holds_arrays_and_json_alone(detector, folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", "detector.json", "arrays.safetensors", "README.md"}
    assert json.loads((folder / "manifest.json").read_text())["format"] == (4 if detector.exemplars_ else 1)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]  # nothing temporary is left


def test_others_may_read_what_the_umask_lets_them(detector, tmp_path):
    previous = os.umask(0o027)
    try:
        detector.save(tmp_path / "model")
    finally:
        os.umask(previous)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "model").iterdir()} == {"0o640"}


def test_the_card_says_what_was_measured(detector, folder):
    card = (folder / "README.md").read_text()
    for words in ("average precision: 0.875", f"{detector.offset_:.6g} nats", "Limits of use", "| amount |"):
        assert words in card
    assert f"`{detector.recipe}` recipe" in card


def test_the_card_warns_of_unused_latents_where_scores_need_them(detector, tmp_path):
    collapsed = copy.copy(detector)
    collapsed.active_latents_ = 0
    collapsed.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert ("POSTERIOR COLLAPSE" in card) == (detector.settings_.recipe != "exemplar")


def test_the_cards_head_is_yaml_as_model_hubs_want_it(detector, folder):
    detector.save(folder, head={"license": "mit", "datasets": ["mine/rows"], "metrics": []})
    empty, head, text = (folder / "README.md").read_text().split("---\n", 2)
    assert empty == ""
    assert yaml.safe_load(head) == {
        "license": "mit",
        "library_name": "vae_jax",
        "tags": list(model_folder.TAGS),
        "datasets": ["mine/rows"],
    }
    assert text.startswith("\n# Anomaly detector")
    detector.save(folder)
    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert (head["license"], head["license_name"]) == ("other", "see-below")  # it is the owner's to choose


def test_the_card_may_be_edited(detector, folder):
    (folder / "README.md").write_text("# Mine")
    assert VAEDetector.load(folder).offset_ == detector.offset_
    (folder / "README.md").unlink()
    assert VAEDetector.load(folder).offset_ == detector.offset_


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_a_save_that_is_stopped_keeps_the_old_model(stop, detector, folder, monkeypatch):
    replace, before = os.replace, {path.name: path.read_bytes() for path in folder.iterdir()}

    def stopped(source: Path, target: Path) -> None:
        if Path(source).name != "old" and target == folder:
            raise stop
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises((KeyboardInterrupt, ModelError)):
        detector.save(folder, {"average precision": 0.5})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_model_is_replaced_and_anything_else_is_not(detector, folder):
    detector.save(folder)
    assert "0.875" not in (folder / "README.md").read_text()
    other = folder.parent / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(ModelError, match="not a model"):
        detector.save(other)
    (other / "manifest.json").write_text('{"name": "of a web page"}')  # others have files of this name, too
    with pytest.raises(ModelError, match="not a model"):
        detector.save(other)
    (other / "chapter.txt").rename(folder / "chapter.txt")
    with pytest.raises(ModelError, match="not a model"):
        detector.save(folder)
    assert (folder / "chapter.txt").read_text() == "years of work"
    assert VAEDetector.load(folder).offset_ == detector.offset_


def test_what_a_desktop_leaves_in_folders_is_no_obstacle(detector, folder):
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    detector.save(folder)
    assert VAEDetector.load(folder).offset_ == detector.offset_


@pytest.mark.parametrize("name", ["detector.json", "arrays.safetensors"])
def test_a_missing_or_altered_file_is_named(folder, name):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: altered"):
        VAEDetector.load(folder)
    path.unlink()
    with pytest.raises(ModelError, match=f"{name}: missing"):
        VAEDetector.load(folder)


def test_a_newer_format_a_damaged_manifest_and_no_model_are_refused(folder):
    manifest = folder / "manifest.json"
    record = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**record, "format": model_folder.FORMAT + 1, "vae_jax": "9.9"}))
    with pytest.raises(ModelError, match=r"written by vae_jax 9\.9 in format 6; this one reads up to 5"):
        VAEDetector.load(folder)
    for damaged in ("{", "[]", json.dumps({**record, "format": "2"}), json.dumps({**record, "sha256": []})):
        manifest.write_text(damaged)
        with pytest.raises(ModelError, match=r"manifest\.json: damaged"):
            VAEDetector.load(folder)
    with pytest.raises(ModelError, match=r"manifest\.json: a file; expected the folder of a saved model"):
        VAEDetector.load(manifest)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="no model there"):
        VAEDetector.load(folder)


def rewrite(path: Path, content: bytes) -> None:
    """Changes a file of a saved model, and its checksum with it."""
    manifest = path.parent / "manifest.json"
    checks = json.loads(manifest.read_text())
    path.write_bytes(content)
    checks["sha256"][path.name] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(checks))


def rewrite_options(folder: Path, change) -> None:
    record = json.loads((folder / "detector.json").read_text())
    change(record["options"])
    rewrite(folder / "detector.json", json.dumps(record).encode())


def test_arrays_of_64_bits_that_earlier_versions_could_save_are_read(folder, detector):
    arrays = safetensors.numpy.load((folder / "arrays.safetensors").read_bytes())
    wide = {name: array.astype(np.float64) if "params" in name else array for name, array in arrays.items()}
    rewrite(folder / "arrays.safetensors", safetensors.numpy.save(wide))
    assert_same(VAEDetector.load(folder).state_, detector.state_)


def test_an_option_that_the_folder_is_too_old_to_name_has_its_default(folder, detector):
    rewrite_options(folder, lambda options: options.pop("patience"))
    loaded = VAEDetector.load(folder)
    assert loaded.settings_ == dataclasses.replace(detector.settings_, patience=None)


def test_an_option_that_nobody_knows_is_named(folder):
    rewrite_options(folder, lambda options: options.update(momentum=0.9))
    with pytest.raises(ModelError, match=r"detector\.json: unknown option momentum$"):
        VAEDetector.load(folder)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["amount", "hour"], "missing distance"),
        ([*FEATURES, "age"], "unknown age"),
        (FEATURES[::-1], "another order"),
    ],
)
def test_a_model_for_other_features_is_refused(folder, names, expected):
    with pytest.raises(ModelError, match=expected):
        VAEDetector.load(folder, names)
    assert VAEDetector.load(folder, FEATURES).n_features_in_ == 3


def test_a_table_without_names_has_none_afterwards(tmp_path):
    detector = VAEDetector(**{**SMALL, "epochs": 1}).fit(correlated(40).to_numpy())
    detector.save(tmp_path / "model")
    loaded = VAEDetector.load(tmp_path / "model")
    assert not hasattr(loaded, "feature_names_in_")
    np.testing.assert_array_equal(loaded.predict(correlated(5).to_numpy()), detector.predict(correlated(5).to_numpy()))


def test_options_that_are_numpys_are_saved_as_python_has_them(tmp_path):
    options = {**SMALL, "epochs": np.int64(1), "hidden_dims": np.array([6]), "learning_rate": np.float32(0.5)}
    VAEDetector(**options).fit(correlated(40)).save(tmp_path / "model")
    loaded = VAEDetector.load(tmp_path / "model").get_params()
    assert (loaded["epochs"], loaded["hidden_dims"], loaded["learning_rate"]) == (1, (6,), 0.5)


def test_a_folder_that_can_not_be_written_is_an_error_of_one_line(detector, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="can't write in") as refused:
        detector.save(tmp_path / "file" / "model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("chunk", [64, 16])
def test_the_score_command_gives_the_models_own_scores(chunk, detector, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(score, "CHUNK", chunk)
    frame = correlated(50, seed=1)
    frame.iloc[:, ::-1].to_csv(tmp_path / "in.csv", index=False)
    names = {"--model": folder, "--input": tmp_path / "in.csv", "--output": tmp_path / "out.parquet"}
    words = [str(word) for pair in names.items() for word in pair]
    assert run(score.main, [*words, "--explain", "3", "--keep", "hour"]) == 0
    found = pd.read_parquet(tmp_path / "out.parquet")
    scores, shares = detector.score_samples(frame), detector.explain(frame)
    assert found["row"].tolist() == list(range(50))
    assert found["hour"].tolist() == frame["hour"].tolist()
    assert found[scoring.SCORE].tolist() == [float(f"{number:.9g}") for number in scores]
    assert (found["decision"] == "anomaly").tolist() == (detector.predict(frame) == -1).tolist()
    for i, row in found.iterrows():
        assert shares.loc[i, row["feature_1"]] == shares.loc[i].max()
        named = {row[f"feature_{j}"]: row[f"share_{j}"] for j in (1, 2, 3)}
        assert named == {name: float(f"{share:.9g}") for name, share in shares.loc[i].items()}


def test_the_score_command_refuses_a_model_whose_features_have_no_names(detector, capsys, tmp_path):
    unnamed = copy.copy(detector)
    del unnamed.feature_names_in_
    unnamed.save(tmp_path / "model")
    (tmp_path / "in.csv").write_bytes(b"amount,hour,distance\n1,2,3\n")
    arguments = ["--model", tmp_path / "model", "--input", tmp_path / "in.csv"]
    assert "its features have no names" in refused(score.main, arguments, capsys)
