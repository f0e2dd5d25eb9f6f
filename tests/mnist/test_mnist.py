"""The digits experiment: its models, its measures, and whole runs on a few images."""

import dataclasses
import io
import json
import re
import shutil
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console
from run_helpers import assert_bit_for_bit, logged_epochs, refused, resume, start, wait_for

from experiments.mnist import measures
from experiments.mnist.__main__ import main
from experiments.mnist.config import PRESETS, STAGES, MnistConfig
from experiments.mnist.figures import COLOURS, draw_bounds, draw_curves
from experiments.mnist.inputs import MNIST, Inputs
from experiments.mnist.measures import PUBLISHED, active_by_layer, evaluate
from experiments.mnist.models import initial_state, learning_rate, models, steps_per_call, train, training
from experiments.mnist.page import render_page
from experiments.page.charts import GENUINE, draw_training
from experiments.runs import loop
from vae_jax.images.digits import FILES, Digits
from vae_jax.networks import encode
from vae_jax.training import active_latents


def images(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten patterns of blocks with noise, which a small model learns at once."""
    rng = np.random.default_rng(seed)
    patterns = np.kron(np.random.default_rng(0).integers(0, 2, (10, 7, 7)), np.ones((4, 4)))
    labels = rng.integers(0, 10, rows).astype(np.uint8)
    return (patterns[labels] * rng.uniform(0.7, 1.0, (rows, 28, 28)) * 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST's four files with 1,100 and 60 images."""
    place = tmp_path_factory.mktemp("mnist")
    for name, rows, seed in (("train", 1100, 1), ("t10k", 60, 2)):
        for file, array in zip((n for n in FILES if n.startswith(name)), images(rows, seed), strict=True):
            header = np.array([2048 + array.ndim, *array.shape], ">i4").tobytes()
            (place / file).write_bytes(header + array.tobytes())
    return place


def small(folder: Path, *more: str) -> list[str]:
    """A run of some seconds: one epoch from scratch."""
    words = ["--data", folder, "--preset", "short", "--samples", 1, 2, "--epochs", 1, "--plane-epochs", 1]
    words += ["--continued-epochs", 0]
    return [str(word) for word in (*words, "--test-samples", 20, *more)]


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    main(
        small(
            folder,
            "--samples",
            "2",
            "--layers",
            "1",
            "2",
            "--objective",
            "iwae",
            "--optimizer",
            "adam",
            "--run-dir",
            str(run),
        )
    )
    return run


def test_a_run_measures_every_model_and_shows_it(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics["models"]) == ["iwae_2_samples_1_layer", "iwae_2_samples_2_layers"]
    for model in metrics["models"].values():
        assert 0 < model["negative_log_likelihood"] < 784 * np.log(2)
        assert len(model["active_latents"]) == model["layers"]
        assert model["published"] is None  # the paper has no two samples
    page = (finished / "report.html").read_text()
    assert "<dd>60 images, used for −log p(x), latents in use and reconstructions</dd>" in page
    for name in ("curves", "reconstructions", "plane", *(f"samples_{name}" for name in metrics["models"])):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 1000
        assert f'id="{name}"' in page
    assert metrics["command"].startswith("bash run.sh mnist --preset short")


def test_the_page_compares_with_published_figures(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    for model, ahead in zip(metrics["models"].values(), (1.25, -0.5), strict=True):
        model["published"] = model["negative_log_likelihood"] + ahead
    shown = re.sub(" data-title=[^>]*", "", render_page(metrics, {}))
    assert "<td>−1.25</td>" in shown
    assert "<td>+0.50</td>" in shown


@pytest.mark.parametrize(("samples", "told"), [(1, "1 epoch each<"), (2, "1 epoch each; with several samples, 15")])
def test_the_page_counts_the_epochs_of_what_was_trained(samples: int, told: str, finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    for model in metrics["models"].values():
        model["samples"] = samples
    metrics["config"]["continued_epochs"] = 15
    page = render_page(metrics, {})
    assert told in page
    assert f"This run took {1 if samples == 1 else 16}." in page


def test_a_missing_line_of_the_log_is_named(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    log = run / "metrics.jsonl"
    log.write_text("".join(line.replace('"epoch": 1', '"epoch": 0') for line in log.open()))
    line = refused(main, ["--resume", run], capsys, code=1)
    assert line.endswith("metrics.jsonl: the line of epoch 1 of iwae_2_samples_1_layer is missing or damaged")


def test_the_bound_by_latents(folder: Path, tmp_path: Path) -> None:
    words = ["--figure", "aevb", "--latents", "2", "3", "--continued-epochs", "15"]
    main(small(folder, *words, "--run-dir", str(tmp_path / "run")))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["models"]) == ["latents_2", "latents_3"]
    assert (tmp_path / "run" / "figures" / "bounds.svg").exists()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "−log p(x)" not in page
    assert "<dd>100 images, used to choose the best epoch and for held-out bounds</dd>" in page
    assert "<dd>60 images, used for latents in use and reconstructions</dd>" in page
    assert "<dd>1 epoch each; Adagrad, step size 0.02, batches of 100</dd>" in page
    assert "muon" not in page
    for model in metrics["models"].values():
        assert f"<td>−{model['validation_loss']:.2f}</td>" in re.sub(" data-title=[^>]*", "", page)


def test_killed_then_resumed_equals_uninterrupted(folder: Path, tmp_path: Path) -> None:
    options = small(folder, "--objective", "iwae", "--samples", "2", "--epochs", "6", "--plane-epochs", "0")
    whole = start([*options, "--run-dir", tmp_path / "whole"], tmp_path, "mnist")
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    stopped = start([*options, "--run-dir", tmp_path / "stopped"], tmp_path, "mnist")
    wait_for(lambda: logged_epochs(tmp_path / "stopped") >= 2, stopped)
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate()
    resume(tmp_path / "stopped", "mnist")
    assert_bit_for_bit(tmp_path / "whole", tmp_path / "stopped", "iwae_2_samples_1_layer")
    one, other = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("whole", "stopped"))
    name = "negative_log_likelihood"
    assert [m[name] for m in one["models"].values()] == [m[name] for m in other["models"].values()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0"], "--samples 0: expected different numbers above 0"),
        (["--layers", "3"], "--layers 3: expected 1, 2 or both"),
        (["--objective", "iwae", "iwae"], "--objective iwae iwae: expected different objectives"),
        (["--limit", "10"], "--limit 10: expected 1,000 or more"),
        (["--batch-size", "3"], "--batch-size 3: expected a multiple of the 4 devices"),
        (["--batch-size", "4000"], "1,100 training images are too few; 4,100 are needed"),
        (["--figure", "aevb", "--batch-size", "400"], "--batch-size 400: 1,100 training images are too few; 2,100 are"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--objective", "elbo"], "objective"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else None,
)
def test_wrong_options_are_refused_in_one_line(folder: Path, words, message, tmp_path, capsys) -> None:
    line = refused(main, [*small(folder), "--run-dir", tmp_path / "run", *words], capsys)
    assert message in line
    assert not (tmp_path / "run").exists()


def inputs(rows: int = 1000) -> Inputs:
    pixels, labels = images(rows, 0)
    pixels = pixels.reshape(rows, -1)
    return Inputs(Digits(pixels, labels, pixels, labels, "blocks"), pixels, pixels[:100], pixels)


def test_one_sample_is_trained_once_and_the_table_has_all_others() -> None:
    found = models(MnistConfig())
    assert len({model.name for model in found}) == len(found) == 10
    assert {(m.objective, len(m.latent_dims), m.samples) for m in found} == PUBLISHED.keys() - {
        ("iwae", 1, 1),
        ("iwae", 2, 1),
    }


def test_with_one_sample_an_iwae_is_a_vae() -> None:
    found = models(MnistConfig(objective=("iwae",), samples=(1, 50), layers=(1,)))
    assert [(model.objective, model.samples) for model in found] == [("vae", 1), ("iwae", 50)]


def test_models_with_several_samples_continue_from_the_one_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MnistConfig(objective=("iwae",), samples=(5,), layers=(2,), epochs=7, continued_epochs=3)
    single, several = models(config)
    assert (single.samples, single.epochs, single.start) == (1, 7, None)
    assert (several.samples, several.epochs, several.start) == (5, 3, single.name)
    monkeypatch.setattr(loop, "train", lambda run, compiled, state, output: state)  # as it begins
    data = inputs()
    trained = initial_state(single, dataclasses.replace(config, seed=1), data)
    state = train(several, config, data, None, None, {single.name: trained})
    kernels = [s.params["params"]["decoder"]["logits"]["kernel"] for s in (state, trained)]
    np.testing.assert_array_equal(*kernels)
    assert state.objective.num_samples == 5


@pytest.mark.parametrize("optimizer", ["adam", "published", "muon"])
def test_every_optimiser_lowers_the_loss(optimizer: str) -> None:
    # Of so few steps, the paper's schedule has most at a tenth of the learning rate.
    options = {"optimizer": optimizer, "learning_rate": 2e-3, "schedule": "cosine", "epochs": 1, "batch_size": 100}
    config = MnistConfig(samples=(1,), layers=(1,), **options)
    compiled, state = training(models(config)[0], config, inputs(2000))
    before = compiled.validate(state)["loss"]
    state, _ = compiled.advance(state, 0, compiled.steps_per_call)
    assert compiled.validate(state)["loss"] < before - 25


def test_the_published_optimiser_takes_the_steps_of_the_papers_code() -> None:
    config = MnistConfig(samples=(1,), layers=(1,), optimizer="published")
    optimizer = initial_state(models(config)[0], config, inputs()).optimizer
    x, m, v = np.zeros(2), np.zeros(2), np.ones(2)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    for t in range(1, 6):
        grads = np.array([0.3, -0.01]) * t  # means over the batch; the paper's code has sums
        m, v = 0.99 * m + 0.01 * 20 * grads, 0.999 * v + 0.001 * (20 * grads) ** 2
        x = x - 1e-3 * np.sqrt(1 - 0.999**t) / (1 - 0.99**t) * m / (np.sqrt(v) + 1e-4)
        updates, state = optimizer.update(jnp.asarray(grads, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, x, rtol=2e-4)


def test_the_papers_schedule() -> None:
    assert sum(STAGES) == PRESETS["paper"].epochs == 3280
    rate = learning_rate("paper", 1e-3, 3280 * 7)
    for stage in range(8):
        first = 7 * sum(3**i for i in range(stage))
        for step in (first, first + 7 * 3**stage - 1):
            assert float(rate(step)) == pytest.approx(1e-3 * 10 ** (-stage / 7), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 8, 100, 3279])
def test_the_papers_schedule_ends_at_a_tenth_however_short(steps: int) -> None:
    assert float(learning_rate("paper", 1e-3, steps)(steps - 1)) == pytest.approx(1e-4, rel=1e-5)


def test_the_output_starts_at_the_mean_image() -> None:
    config, data = MnistConfig(), inputs()
    state = initial_state(models(config)[0], config, data)
    bias = np.asarray(state.params["params"]["decoder"]["logits"]["bias"])
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), (data.train.mean(0) / 255).clip(1e-3, 1 - 1e-3), rtol=1e-4)


@pytest.mark.parametrize(("epochs", "marked"), [(1, True), (2, False)])
def test_a_single_epoch_is_a_point_that_can_be_seen(epochs: int, marked: bool, tmp_path: Path) -> None:
    log = [{"epoch": 1 + i, "loss": 9.0 - i, "validation_loss": 9.5 - i} for i in range(epochs)]
    draw_curves(tmp_path / "curves.png", {"a": log}, {"a": "A"}, {})
    draw_bounds(tmp_path / "bounds.png", {"a": log}, {"a": "A"}, 100)
    full = [
        {**line, **dict.fromkeys(("kl", "reconstruction", "validation_kl", "validation_reconstruction"), 5.0)}
        for line in log
    ]
    draw_training(tmp_path / "training.png", {"a": full})
    for name, colour in (("curves", COLOURS[0]), ("bounds", COLOURS[0]), ("training", GENUINE)):
        marks = re.findall(f"<use [^>]*fill: {colour}", (tmp_path / f"{name}.svg").read_text(), re.IGNORECASE)
        assert bool(marks) == marked
        fractions = re.findall(r">[01]\.\d+<", (tmp_path / f"{name}.svg").read_text())  # of an epoch
        assert name == "bounds" or not fractions or epochs > 1


def test_a_call_takes_the_steps_that_it_is_asked_for() -> None:
    """They are fewer than a machine's own number where a run goes on that was stopped on one of another kind."""
    config, data = MnistConfig(), inputs(100)
    compiled, state = training(models(config)[0], config, data)
    assert compiled.steps_per_call == 5
    state, info = compiled.advance(state, 0, 2)
    assert (int(state.step), len(info["loss"])) == (2, 2)
    assert int(compiled.advance(state, 2, 3)[0].step) == 5


def test_calls_divide_an_epoch() -> None:
    for model in models(MnistConfig()):
        for steps in (2900, 29, 1):
            assert steps % steps_per_call(model, steps) == 0


def test_the_progress_of_log_likelihoods_has_a_rate() -> None:
    config, data, output = MnistConfig(), inputs(), Console(file=io.StringIO())
    model = models(config)[0]
    evaluate(model, initial_state(model, config, data), np.zeros((60, 784), bool), 2, output)
    printed = output.file.getvalue()
    assert "60/60" in printed
    assert "?" not in printed


def test_active_latents_of_one_layer_are_those_of_the_posterior_means() -> None:
    config, data = MnistConfig(), inputs(100)
    state = initial_state(models(config)[0], config, data)
    params = jax.tree.map(lambda leaf: leaf, state.params)
    kernel = params["params"]["encoder"]["mean"]["kernel"]
    params["params"]["encoder"]["mean"]["kernel"] = kernel.at[:, :20].multiply(3).at[:, 20:].multiply(0.01)
    bits = data.test > 127
    wanted = active_latents(encode(state.vae, params, bits.astype(np.float32)).mean).sum()
    assert active_by_layer(state.replace(params=params), bits, (50,)) == [int(wanted)] == [20]


def test_active_latents_are_counted_over_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also over the last ones, which fill no call: here the others are all alike."""
    config, data = MnistConfig(), inputs(100)
    state = initial_state(models(config)[0], config, data)
    params = jax.tree.map(lambda leaf: leaf, state.params)
    kernel = params["params"]["encoder"]["mean"]["kernel"]
    params["params"]["encoder"]["mean"]["kernel"] = 10 * kernel
    bits = data.test > 127
    bits[:60] = bits[0]
    monkeypatch.setattr(measures, "ROWS", 60)
    assert active_by_layer(state.replace(params=params), bits, (50,)) == [50]


def test_both_presets_are_valid() -> None:
    for config in PRESETS.values():
        assert MNIST.preset(config) == config
