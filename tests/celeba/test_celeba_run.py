"""Whole runs of the faces experiment, as a user starts them, on small pictures."""

import dataclasses
import io
import json
import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from PIL import Image
from run_helpers import assert_bit_for_bit, final_arrays, logged_epochs, refused, resume, start, wait_for, write_config

import experiments.celeba.__main__ as celeba
import experiments.celeba.model as celeba_model
import vae_jax
from experiments.celeba import faces, figures, gallery, outputs, page
from experiments.celeba.card import MEASURES, TAGS, model_card
from experiments.celeba.config import PRESETS, CelebaConfig, settle
from experiments.celeba.face_model import FaceModel
from experiments.celeba.inputs import prepare
from experiments.celeba.model import NAME, Encoded, train
from experiments.command_line import run
from experiments.page.charts import GENUINE
from experiments.runs import loop, run_folder
from experiments.runs.progress import console
from vae_jax.images.drawn_faces import ATTRIBUTES, draw_face
from vae_jax.networks import conv_vae

SMALL = ["--data", "synthetic", "--limit", "160", "--image-size", "32", "--latent-dim", "4", "--batch-size", "16"]
SMALL += ["--learning-rate", "1e-2"]  # decoded pictures differ after some steps
FILTERS = (4, 4, 8, 8)  # the report's have 190,000 parameters at any size of picture, these 2,000
NARROW = f"""
import runpy
from functools import partial
from experiments.celeba import model
model.conv_vae = partial(model.conv_vae, filters={FILTERS})
runpy.run_module("experiments.celeba", run_name="__main__")
"""
NO_PICTURE = "not a JPEG, PNG, WebP, AVIF, BMP, TIFF or HEIC picture"
SHEETS = ["reconstructions_training", "reconstructions_held-out", "samples_prior", "samples_mixture", "interpolations"]


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """All models of these runs are small ones; test_real_photographs.py has the report's."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for place in (celeba_model, vae_jax):
            monkeypatch.setattr(place, "conv_vae", partial(conv_vae, filters=FILTERS))
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures of all these runs are prepared."""
    return tmp_path_factory.mktemp("cache")


def small(cache: Path, *more: str) -> list[str]:
    """The options of a run that ends in seconds."""
    return [*SMALL, "--cache", str(cache), *more]


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, on the four devices of the test session."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert run(celeba.main, small(cache, "--epochs", "6", "--save-every", "2", "--run-dir", str(folder))) == 0
    return folder


@pytest.fixture(scope="module")
def model(finished: Path) -> FaceModel:
    """The model of the finished run."""
    opened = run_folder.Run(finished, None)  # to read alone
    return faces.open_model(opened, run_folder.read_config(opened, CelebaConfig))


@pytest.fixture(scope="module")
def metrics(finished: Path) -> dict:
    """What the finished run measured."""
    return json.loads((finished / "metrics.json").read_text())


def test_a_run_leaves_every_file_behind(finished: Path) -> None:
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    expected = {"README.md", "config.json", "metrics.json", "metrics.jsonl", "report.html", "model/latents.npz"}
    expected |= {f"figures/{name}.png" for name in (*SHEETS, "traversals", "latents", "training")}
    expected |= {f"figures/edits_{name}.png" for name in ATTRIBUTES}
    assert expected <= names
    assert not [name for name in names if name.endswith((".partial", ".pkl", ".pickle"))]


def test_metrics_json_holds_what_is_promised(metrics: dict) -> None:
    evaluation = metrics["evaluation"]
    assert {"rmse", "mse", "psnr", "ssim", "kl", "active_latents"} <= evaluation.keys()
    assert 0 < evaluation["rmse"] < 1
    assert evaluation["mse"] == pytest.approx(evaluation["rmse"] ** 2, rel=0.5)  # of means, not of one picture
    assert 0 <= evaluation["active_latents"] <= 4
    assert 0 <= evaluation["informative_latents"] <= 4
    distances = evaluation["sliced_wasserstein"]
    assert distances.keys() == {"training_pictures", "reconstructions", "prior_samples", "mixture_samples"}
    assert distances["training_pictures"]["mean"] < distances["prior_samples"]["mean"]
    assert evaluation["sliced_wasserstein_protocol"]["pictures"] == metrics["data"]["test"]
    assert evaluation["train_images_per_second"] > 0
    assert evaluation["parameters"] > 0
    assert metrics["data"]["train"] + metrics["data"]["validation"] + metrics["data"]["test"] == 160


def test_the_model_card_says_what_was_measured(finished: Path, metrics: dict) -> None:
    card = (finished / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head == {
        "license": "apache-2.0",
        "library_name": "vae_jax",
        "pipeline_tag": "unconditional-image-generation",
        "tags": TAGS,
        "metrics": list(MEASURES),
    }
    for words in (
        f"- RMSE: {metrics['evaluation']['rmse']:.4g}\n",
        f"- mixture samples: {metrics['evaluation']['sliced_wasserstein']['mixture_samples']['mean']:.1f}\n",
        f"- latents with a KL above 0.1 nats: {metrics['evaluation']['informative_latents']} of 4\n",
        f"training {metrics['data']['train']:,}, ",
        "(DRAWN: no photographs)",
        metrics["command"],
        "## Limits of use",
        "## Licence",
    ):
        assert words in card


def test_the_model_card_of_celeba_names_its_terms(metrics: dict) -> None:
    card = model_card(metrics | {"data": metrics["data"] | {"synthetic": False}}, ("5_o_Clock_Shadow", "Male"))
    head = yaml.safe_load(card.split("---\n")[1])
    assert (head["license"], head["datasets"]) == ("other", ["jessicali9530/celeba-dataset"])
    assert "for non-commercial research only" in card


def test_the_log_has_one_line_an_epoch(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_drawn_faces_are_announced_everywhere(finished: Path, metrics: dict) -> None:
    assert metrics["data"]["synthetic"]
    assert "DRAWN FACES" in metrics["notices"][0]
    assert "DRAWN FACES" in (finished / "report.html").read_text()


def test_the_page_needs_nothing_else(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.count("<figure ") == len(list((finished / "figures").glob("*.png")))
    assert 'src="http' not in page


def test_the_page_names_a_reconstruction_of_ones_own(finished: Path, metrics: dict) -> None:
    config = {**metrics["config"], "reconstruction": "laplace"}  # added as docs/own.md says
    assert "<dd>laplace + KL</dd>" in page.render_page({**metrics, "config": config}, {})


def test_the_page_tells_the_temperature_of_the_prior(finished: Path, metrics: dict) -> None:
    assert "temperature" not in page.verdict(metrics)
    cooler = {**metrics, "config": {**metrics["config"], "temperature": 0.3}}
    shown = page.render_page(cooler, {"samples_prior": finished / "figures" / "samples_prior.png"})
    for words in ("new faces from %s</th>", "new faces from %s and", "<h4>sampled from %s</h4>"):
        assert words % "the prior at temperature 0.3" in shown


def test_a_single_latent_is_a_point_that_can_be_seen(tmp_path: Path) -> None:
    figures.draw_latents(tmp_path / "latents.png", Encoded({}, np.zeros((3, 1)), np.zeros((3, 1))), 0)
    marks = re.findall(f"<use [^>]*fill: {GENUINE}", (tmp_path / "latents.svg").read_text(), re.IGNORECASE)
    assert marks


def test_killed_and_stopped_within_epochs_then_resumed_equals_uninterrupted(
    finished: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While streaming, and saving whenever half a second has passed: neither changes a bit."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")  # as the finished run had
    folder = tmp_path / "run"
    arguments = small(cache, "--epochs", "6", "--save-every-minutes", "0.01", "--placement", "stream")
    process = start([*arguments, "--run-dir", folder], tmp_path, program=NARROW)

    def saved_within_an_epoch() -> bool:
        saved = (folder / "checkpoints" / "vae").glob("*")
        return logged_epochs(folder) >= 1 and any(path.name.isdigit() and int(path.name) % 7 for path in saved)

    wait_for(saved_within_an_epoch, process)
    process.kill()
    process.communicate()

    process = start(["--resume", folder], tmp_path, program=NARROW)
    reached = logged_epochs(folder)
    wait_for(lambda: logged_epochs(folder) > reached, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"bash run.sh celeba --resume {folder}" in errors
    assert logged_epochs(folder) < 6

    resume(folder, program=NARROW)
    assert_bit_for_bit(folder, finished, "vae")
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").open()] for run in (folder, finished)]
    for line, expected in zip(*logs, strict=True):
        # Means over an epoch too, though they were added up in several processes.
        assert {**line, "images_per_second": 0} == {**expected, "images_per_second": 0}
    measured, expected = (
        {**json.loads((run / "metrics.json").read_text())["evaluation"], "train_images_per_second": 0}
        for run in (folder, finished)
    )
    assert measured == expected


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        (["--reconstruction", "mse", "--dtype", "bfloat16"], 10_000),
        (["--reconstruction", "gaussian"], 1),
    ],
)
def test_bfloat16_and_the_other_reconstructions_train(
    options: list[str], weight: float, cache: Path, tmp_path: Path
) -> None:
    config, inputs, opened = celeba.CELEBA.start(
        small(cache, "--epochs", "2", *options, "--run-dir", str(tmp_path / "run"))
    )
    assert config.used_weight == weight
    train(config, inputs, opened, console(io.StringIO()))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert lines[-1]["validation_loss"] < lines[0]["validation_loss"]
    kernel = final_arrays(tmp_path / "run", "vae")["['params']['params']['encoder']['Conv_0']['kernel']"]
    assert kernel.dtype == np.float32


def test_precision_suits_the_machine_and_is_saved(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run which began on a GPU continues in bfloat16 on a CPU."""
    assert json.loads((finished / "config.json").read_text())["dtype"] == "float32"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert settle(CelebaConfig()).dtype == "bfloat16"
    assert settle(CelebaConfig(dtype="float32")).dtype == "float32"


def test_pictures_that_can_not_be_used_are_listed(tmp_path: Path, cache: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(60):
        Image.fromarray(draw_face(0, i, 40)[0]).save(pictures / f"{i:03}.png")
    (pictures / "bad.jpg").write_text("not a picture")
    (pictures / "list_attr_celeba.csv").write_text("image_id,Hat\n" + "".join(f"{i:03}.png,1\n" for i in range(60)))
    arguments = ["--data", str(pictures), "--image-size", "16", "--batch-size", "8", "--cache", str(cache)]
    _, inputs, _ = celeba.CELEBA.start([*arguments, "--run-dir", str(tmp_path / "run")])
    assert inputs.images.left_out == {"bad.jpg": NO_PICTURE}
    assert len(inputs.images.usable) == 60
    notice = f"Pictures left out because they can't be used: 1, e.g. bad.jpg: {NO_PICTURE}."
    unlisted = "list_attr_celeba.csv does not list 1 of the pictures; their attributes are unknown."
    assert celeba.notices(inputs) == [unlisted, notice]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--image-size", "40"], "--image-size 40: expected a multiple of 16"),
        (["--batch-size", "10"], "--batch-size 10: expected a multiple of the 4 devices"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--limit", "3"], "--limit 3: expected 10 or more"),
        (["--weight", "0"], "--weight 0.0: expected more than 0"),
        (["--batch-size", "256"], "--batch-size 256: there are 112 training pictures"),
        (["--crop", "left"], "--crop"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    options: list[str], expected: str, cache: Path, capsys: pytest.CaptureFixture
) -> None:
    assert expected in refused(celeba.main, [*small(cache), *options], capsys)


def test_a_cache_in_a_home_that_is_not_there_is_refused(capsys):
    line = refused(celeba.main, [*small("~no_such_user/images"), "--data", "synthetic"], capsys)
    assert line == "error: --cache ~no_such_user/images: expected a folder; there is no home for ~"


def test_presets_are_defaults_that_options_override(cache: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("report", "smoke"):
        assert celeba.CELEBA.command_line(PRESETS[name]) == f"bash run.sh celeba --preset {name}"
    assert [PRESETS[name].reconstruction for name in ("full", "report", "smoke")] == ["gaussian", "rmse", "gaussian"]
    line = refused(celeba.main, ["--preset", "smoke", "--data", "synthetic", "--epochs", "0"], capsys)
    assert "--epochs 0" in line


def test_a_sheet_shows_every_picture() -> None:
    pictures = np.random.default_rng(0).random((12, 2, 2, 3), np.float32)
    shown = gallery.sheet_of(pictures).pictures
    assert shown.shape == (2, 10, 2, 2, 3)
    np.testing.assert_array_equal(shown.reshape(20, 2, 2, 3)[:12], pictures)
    assert (shown[1, 2:] == 1).all()
    assert gallery.sheet_of(pictures[:3]).pictures.shape == (1, 3, 2, 2, 3)


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 2, 1), (8, 2, 8), (9, 4, 8)])
def test_a_sheet_of_reconstructions_shows_every_picture(model: FaceModel, count: int, rows: int, columns: int) -> None:
    pixels = np.stack([draw_face(1, i, 32)[0] for i in range(count)])
    sheet = gallery.reconstructions(model, pixels)
    assert sheet.pictures.shape == (rows, columns, 32, 32, 3)
    assert len(sheet.row_labels) == rows
    above, below = (sheet.pictures[first::2].reshape(-1, 32, 32, 3) for first in (0, 1))
    np.testing.assert_array_equal(above[:count], gallery.as_pictures(pixels))
    np.testing.assert_array_equal(below[:count], model.decode(model.encode(pixels)))
    assert (sheet.pictures.reshape(rows // 2, 2, columns, 32, 32, 3)[-1, :, count % columns or columns :] == 1).all()


def test_a_sheet_shows_the_first_of_very_many_pictures(model: FaceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "SHOWN", 10)
    monkeypatch.setattr(faces, "PIECE", 5)
    pixels = np.stack([draw_face(1, i, 32)[0] for i in range(12)])
    sheet, singles = faces.sample(faces.SampleConfig(count=12), lambda: pixels, model)
    pictures = np.stack(list(singles))
    assert (sheet.pictures.shape[:2], len(pictures)) == ((1, 10), 12)
    np.testing.assert_array_equal(sheet.pictures[0], pictures[:10])
    sheet, singles = faces.reconstruct(faces.ReconstructConfig(count=12), lambda: pixels, model)
    assert (sheet.pictures.shape[:2], len(list(singles))) == ((4, 8), 12)
    sheet, singles = faces.interpolate(faces.InterpolateConfig(), lambda: pixels[:4], model)
    whole = gallery.interpolations(model, pixels[:3], pixels[1:4]).pictures
    np.testing.assert_array_equal(sheet.pictures, whole[:2])
    np.testing.assert_array_equal(list(singles), whole.reshape(-1, 32, 32, 3))
    config = faces.EditConfig(attribute="Smiling", strengths=(-1.0, 1.0))
    sheet, singles = faces.edit(config, lambda: pixels, model)
    whole = gallery.edits(model, pixels, "Smiling", config.strengths).pictures
    np.testing.assert_array_equal(sheet.pictures, whole[:3])
    np.testing.assert_array_equal(list(singles), whole.reshape(-1, 32, 32, 3))


def test_traversals_are_labelled_with_their_values(model: FaceModel) -> None:
    labels = gallery.traversals(model, draw_face(1, 0, 32)[0]).column_labels
    assert [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels] == np.linspace(-3, 3, 9).tolist()


def test_edits_are_labelled_with_their_strengths(model: FaceModel) -> None:
    strengths = (-2.0, -0.05, 0.25, 1.5)
    labels = gallery.edits(model, draw_face(1, 0, 32)[0][None], "Smiling", strengths).column_labels
    assert [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels[1:]] == list(strengths)


def test_an_attribute_of_all_pictures_has_no_edits(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    with np.load(folder / "model" / "latents.npz") as arrays:
        changed = dict(arrays)
    changed["vectors"][ATTRIBUTES.index("Bald")] = 0  # as `attribute_vectors` gives it
    np.savez(folder / "model" / "latents.npz", **changed)
    line = refused(faces.main, ["edit", "--model", folder, "--attribute", "Bald"], capsys)
    assert line.endswith("--attribute Bald: all training pictures have it or none does; expected another")
    opened = run_folder.Run(folder, None)
    config = run_folder.read_config(opened, CelebaConfig)
    model = faces.open_model(opened, config)
    paths = outputs.draw(tmp_path / "figures", config, prepare(config, console()), model, loop.read_log(opened, NAME))
    edits = {name.removeprefix("edits_") for name in paths if name.startswith("edits_")}
    assert edits == set(ATTRIBUTES) - {"Bald"}


@pytest.mark.parametrize(
    ("action", "singles"), [("sample", 12), ("reconstruct", 12), ("interpolate", 242), ("traverse", 18), ("edit", 120)]
)
def test_faces_makes_pictures_later(action: str, singles: int, finished: Path, tmp_path: Path) -> None:
    options = {
        "traverse": ["--latents", "2"],
        "edit": ["--attribute", "Smiling", "--count", "12"],
    }.get(action, ["--count", "12"])
    arguments = [action, "--model", str(finished), "--output", str(tmp_path / "made"), *options]
    assert run(faces.main, arguments) == 0
    assert (tmp_path / "made" / f"{action}.png").exists()
    made = sorted((tmp_path / "made").glob(f"{action}_*.png"))
    assert len(made) == singles
    assert Image.open(made[0]).size == (32, 32)


def test_traverse_varies_all_latents_of_a_model_that_has_fewer_than_the_default(finished: Path, tmp_path: Path) -> None:
    assert run(faces.main, ["traverse", "--model", str(finished), "--output", str(tmp_path / "made")]) == 0
    assert len(list((tmp_path / "made").glob("traverse_*.png"))) == 4 * gallery.STEPS


def test_faces_counts_a_single_picture(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        run(faces.main, ["sample", "--model", str(finished), "--output", str(tmp_path / "made"), "--count", "1"]) == 0
    )
    assert capsys.readouterr().out.endswith("sample.png, and 1 single picture beside it\n")


def test_the_documentation_loads_a_model(finished: Path, model: FaceModel) -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "api" / "checkpoints.md"
    (code,) = re.findall(r"```py\n(.*?)```", page.read_text(), re.DOTALL)
    names = {}
    exec(code.replace("runs/celeba/latest", str(finished)), names)
    jax.tree.map(np.testing.assert_array_equal, names["params"], model.params)
    assert names["faces"].shape == (10, 32, 32, 3)


def test_faces_writes_into_no_folder_that_holds_anything(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "sample_0000.png").write_bytes(b"mine")
    line = refused(faces.main, ["sample", "--model", finished, "--output", tmp_path, "--count", "1"], capsys)
    assert line.endswith(f"--output {tmp_path}: not empty; name another folder")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"mine"]


def test_attributes_may_have_names_that_no_file_can_have(finished: Path, model: FaceModel, tmp_path: Path) -> None:
    opened = run_folder.Run(finished, None)
    config = run_folder.read_config(opened, CelebaConfig)
    odd = ("Male", "a/b", r"a$\foo$", "/" * 250, "x" * 250)
    model = dataclasses.replace(model, attribute_names=odd, vectors=model.vectors[[0] * len(odd)])
    inputs = prepare(config, console())
    paths = outputs.draw(tmp_path, config, inputs, model, loop.read_log(opened, NAME))
    assert set(tmp_path.glob("*.png")) == set(paths.values()) - {paths["latents"]}  # which conclude draws
    assert len(set(paths.values())) == len(paths)
    assert paths["edits_Male"].name == "edits_Male.png"
    assert {f"edits_{name}" for name in odd} <= paths.keys()  # the page's words take the names from there


def test_faces_reads_a_run_that_another_process_has_open(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    opened = run_folder.reopen("celeba", str(folder))
    monkeypatch.setattr("time.strftime", lambda form: "2025-01-31_12-00-00")
    for _ in range(2):
        assert run(faces.main, ["sample", "--model", str(folder), "--count", "1"]) == 0
    names = sorted(path.name for path in (folder / "made").iterdir())
    assert names == ["2025-01-31_12-00-00_sample", "2025-01-31_12-00-00_sample_2"]
    assert opened.writes


def test_faces_moves_latents_before_they_are_decoded(finished: Path, model: FaceModel, tmp_path: Path) -> None:
    along = gallery.directions(model)
    z = gallery.draw(model, "prior", jax.random.key(3), 1, 0.5)
    expected = model.decode(z + 1.5 * along["pc1"] - along["Smiling"])
    arguments = ["sample", "--model", str(finished), "--output", str(tmp_path), "--count", "1", "--seed", "3"]
    arguments += ["--density", "prior", "--temperature", "0.5", "--shift", "pc1=1.5", "Smiling=-1"]
    assert run(faces.main, arguments) == 0
    made = np.asarray(Image.open(tmp_path / "sample_0000.png"), float) / 255
    np.testing.assert_allclose(made, expected[0], atol=0.5 / 255 + 1e-4)
    assert np.abs(expected - model.decode(z)).max() > 1 / 255


@pytest.mark.parametrize("shift", ["pc1", "pc1=much", "pc1=inf", "pc99=1", "=1"])
def test_faces_names_a_shift_that_can_not_be_used(shift: str, finished: Path, capsys: pytest.CaptureFixture) -> None:
    line = refused(faces.main, ["sample", "--model", finished, "--shift", shift], capsys)
    assert f"--shift {shift}: expected " in line


def test_faces_takes_ones_own_pictures_and_names_those_it_can_not_use(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "bad.jpg").write_text("not a picture")
    (folder / "orders\x1b[2J\u202e.jpg").write_text("not a picture")
    arguments = ["reconstruct", "--model", str(finished), "--output", str(tmp_path / "made"), "--input"]
    none = f"error: --input {folder}: none of the 2 pictures can be used; bad.jpg: {NO_PICTURE}"
    assert refused(faces.main, [*arguments, folder], capsys) == none
    Image.fromarray(draw_face(5, 5, 64)[0]).save(folder / "me.webp")
    shutil.copy(folder / "me.webp", tmp_path / "without an ending")
    for given in (folder, folder / "me.webp", tmp_path / "without an ending"):
        assert run(faces.main, [*arguments, str(given)]) == 0
        assert len(list((tmp_path / "made").glob("reconstruct_*.png"))) == 1
        shutil.rmtree(tmp_path / "made")
    orders = r"orders\x1b[2J\u202e.jpg"
    said = "".join(f"left out: {name}: {NO_PICTURE}\n" for name in ("bad.jpg", orders))
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["paint"], "unknown action 'paint'"),
        (["edit", "--attribute", "Hat"], "--attribute Hat: expected one of Smiling"),
        (["reconstruct", "--input", "nothing.jpg"], "--input nothing.jpg: no such file"),
        (["sample", "--count", "0"], "--count 0: expected 1 or more"),
        (["traverse", "--latents", "9"], "--latents 9: expected 1 to 4"),
        (["sample", "--temperature", "nan"], "--temperature nan: expected more than 0"),
        (["sample", "--temperature", "inf"], "--temperature inf: expected more than 0"),
        (["edit", "--attribute", "Bald", "--strengths", "1", "nan"], "--strengths 1.0 nan: expected at least one"),
        (["interpolate", "--count", "1"], "error: --count 1: interpolation needs at least two pictures"),
        (["reconstruct", "--input", __file__], f"error: --input {__file__}: {NO_PICTURE}"),
    ],
)
def test_faces_refuses_in_one_line(
    arguments: list[str], expected: str, finished: Path, capsys: pytest.CaptureFixture
) -> None:
    model = ["--model", str(finished)] if len(arguments) > 1 else []
    assert expected in refused(faces.main, [*arguments, *model], capsys)


def test_faces_refuses_other_pictures_than_the_runs_own(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    write_config(folder, {**config, "limit": 80})
    line = refused(faces.main, ["reconstruct", "--model", folder], capsys)
    assert "is not what" in line
    assert "use --input PICTURES" in line
    write_config(folder, {**config, "data": "nowhere"})
    line = refused(faces.main, ["reconstruct", "--model", folder], capsys)
    assert line.endswith("run: nowhere: no such file or folder; use --input PICTURES")


def test_faces_refuses_an_unfinished_or_damaged_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    latents = folder / "model" / "latents.npz"
    for content in (b"", latents.read_bytes()[:100]):
        latents.write_bytes(content)
        assert "latents.npz is damaged" in refused(faces.main, ["sample", "--model", folder], capsys)
    latents.unlink()
    assert "not finished" in refused(faces.main, ["sample", "--model", folder], capsys)
