"""The rows of the benchmark: each one's sides and limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks import limits
from benchmarks.limits import Cost, Rates
from benchmarks.results import Result
from benchmarks.sides import Command, Race, Side, SideError, median, race
from benchmarks.stand_in import write_words
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import Inputs, prepare
from experiments.fraud.models import settings_of
from experiments.mnist import models as digit_models
from experiments.mnist.config import MnistConfig
from vae_jax.detector import recipes
from vae_jax.images.digits import Digits, find_digits
from vae_jax.images.drawn_faces import draw_face
from vae_jax.networks.columns import expand

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
FRAUD_BATCH, SAMPLES, SCORED_ROWS, MODELS = 128, 100, 16_384, 8
DIGIT_BATCH, DIGIT_SAMPLES = 20, 5_000  # samples of the posterior for log p(x)
DIGITS_MEASURED = {"cpu": 26, "gpu": 500}  # test images at once: our chunk, and the experiment's call
CHUNK = 64  # pictures generated at once, on all sides
MOST_PICTURES = 8_192  # to prepare
DRAWN_PICTURES, DRAWN_SIZE = 512, 200
RATE_ROUNDS = 5
FITTED = ("vae_jax", "isolation_forest", "pyod_vae", "pyod_auto_encoder")  # of peers/fit.py
# Sizes of the measured product and copy: one size would not suit both a GPU and a CPU.
PRODUCT_SIZE = {"cpu": 2_048, "gpu": 8_192}
COPY_SIZE = {"cpu": 2**26, "gpu": 2**28}


@dataclass(frozen=True)
class Bench:
    """What the rows of a run share; files and rates are made when first needed.

    Attributes:
      suite: `cpu` or `gpu`.
      rounds: number of rounds per row.
      seconds: of work per side and round, about.
      peer_python: interpreter of the peers.
      folder: for temporary files of the run.
    """

    suite: str
    rounds: int
    seconds: float
    peer_python: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment of every side. On a GPU no side may take all memory, because the others wait beside it."""
        chosen = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
        if self.suite == "cpu":
            chosen |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        else:
            chosen |= {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]}
            chosen |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return os.environ | chosen

    def ours(self, what: str, name: str = "vae_jax", environment: Mapping[str, str] | None = None, **todo) -> Command:
        """One of our sides, see `ours.py`."""
        words = [sys.executable, "-m", "benchmarks.ours", self._task(what=what, name=name, **todo)]
        return Command(words, self.environment | dict(environment or {}), name)

    def peer(self, script: str, **todo) -> Command:
        """One of the peers."""
        words = [self.peer_python, str(PEERS / script), self._task(**todo)]
        how = todo.get("how", "XLA" if todo.get("jit_compile") else "fit")
        return Command(words, self.environment, f"{script.partition('_')[0]}, {how}")

    def _task(self, **todo) -> str:
        return json.dumps({"device": self.suite, **todo})

    def race(self, commands: Sequence[Command]) -> Race:
        """Lets sides take turns."""
        return race(commands, self.rounds, self.seconds)

    @cached_property
    def fraud_data(self) -> str:
        """The experiment's option --data: the real rows if available, else simulated ones."""
        path = Path(os.environ.get("VAE_JAX_DATA", ""), "creditcard", "creditcard.csv")
        return str(path.absolute()) if path.exists() else "synthetic"

    @cached_property
    def fraud_inputs(self) -> Inputs:
        """The transactions as the experiment sees them."""
        return prepare(FraudConfig(data=self.fraud_data))

    @cached_property
    def train_rows(self) -> str:
        """Path of the standardised training rows."""
        return self.save("train.npy", self.fraud_inputs.x[self.fraud_inputs.split.train])

    @cached_property
    def scored_rows(self) -> str:
        """Path of the rows to score."""
        return self.save("scored.npy", np.resize(self.fraud_inputs.x, (SCORED_ROWS, self.fraud_inputs.x.shape[1])))

    @cached_property
    def digits(self) -> Digits:
        """MNIST if available, else drawn digits."""
        folder = Path(os.environ.get("VAE_JAX_DATA", ""), "mnist")
        return find_digits(str(folder) if folder.exists() else "synthetic")

    @cached_property
    def claims(self) -> dict[str, str]:
        """The experiment's options for a table of words: the real insurance claims if available, else drawn rows."""
        path, label = Path(os.environ.get("VAE_JAX_DATA", ""), "claims", "fraud_oracle.csv"), "FraudFound_P"
        if not path.exists():
            path = self.folder / "words.csv"
            write_words(path, label)
        return {"data": str(path.absolute()), "label": label}

    @cached_property
    def fits(self) -> dict[str, list[dict[str, float]]]:
        """Each detector's seconds of `peers/fit.py`, a dictionary for each round; ours without compiled programs."""
        found: dict[str, list[dict[str, float]]] = {side: [] for side in FITTED}
        for _ in range(self.rounds):
            for side, rounds in found.items():
                python = sys.executable if side in ("vae_jax", "isolation_forest") else self.peer_python
                words = [python, str(PEERS / "fit.py"), side]
                environment = self.environment | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
                done = subprocess.run(words, env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise SideError(f"{side}: {done.stderr.strip().splitlines()[-1]}")
                rounds.append(json.loads(done.stdout.splitlines()[-1]))
        return found

    def pixels(self, count: int) -> str:
        """Path of random pictures; their content does not affect the figures."""
        path = self.folder / f"pixels_{count}.npy"
        if not path.exists():
            self.save(path.name, np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), np.uint8))
        return str(path)

    def save(self, name: str, array: np.ndarray) -> str:
        """Writes an array for the sides to read; returns its path."""
        np.save(self.folder / name, array)
        return str(self.folder / name)

    @cached_property
    def copy_rate(self) -> float:
        """Bytes/s of a large copy."""
        return self._rate(self.ours("copy", size=COPY_SIZE[self.suite]))

    def rates(self, dtype: str = "float32") -> Rates:
        """The device's peak rates: the best round counts, because a limit is not a typical case."""
        if dtype not in self._products:
            self._products[dtype] = self._rate(self.ours("multiply", size=PRODUCT_SIZE[self.suite], dtype=dtype))
        return Rates(self._products[dtype], self.copy_rate)

    @cached_property
    def _products(self) -> dict[str, float]:
        return {}

    def _rate(self, command: Command) -> float:
        ((rates),) = race([command], RATE_ROUNDS, self.seconds).rates.values()
        return max(rates)


def result(bench: Bench, name: str, unit: str, sides: Sequence[Command], cost: Cost, dtype: str = "float32") -> Result:
    """Races sides, and adds the limit."""
    found, rates = bench.race(sides), bench.rates(dtype)
    arithmetic = cost.arithmetic(rates)
    return Result(name, unit, found.rates, cost.limit(rates), arithmetic, found.left_out, found.failed)


def compiled_ways(bench: Bench) -> tuple[str, ...]:
    """The PyTorch peers' modes."""
    return ("eager", "torch.compile") if bench.suite == "cpu" else ("eager", "torch.compile", "CUDA graphs")


def keras_ways(bench: Bench) -> tuple[bool, ...]:
    """Whether Keras uses XLA; on a CPU, XLA was measured to be less than half as fast."""
    return (False,) if bench.suite == "cpu" else (False, True)


def fraud_model(bench: Bench, recipe: str) -> dict:
    """What a peer needs to build a recipe's model: everything that the experiment's own state was built with."""
    config, inputs = FraudConfig(data=bench.fraud_data), bench.fraud_inputs
    train = inputs.x[inputs.split.train]
    state = recipes.initial_state(settings_of(recipe, config), train)  # pyright: ignore[reportArgumentType]
    return {
        "largest_sd": recipes.largest_sd(train).tolist() if recipe == "gaussian" else None,
        "mean_bound": state.vae.encoder.mean_bound,
        "weight": state.objective.weight if recipe == "report" else None,
        "input_noise": state.objective.input_noise,
        "kl_warmup_steps": state.objective.kl_warmup_steps,
        "batch": FRAUD_BATCH,
    }


def our_fraud_training(bench: Bench, recipe: str, name: str = "vae_jax", **changes) -> Command:
    """Our side of the transactions' training; by default one run of one model on the bench's rows."""
    usual = {"recipe": recipe, "data": bench.fraud_data, "batch": FRAUD_BATCH, "models": 1, "runs": 1}
    return bench.ours("train_fraud", name, **{**usual, **changes})


def fraud_train(recipe: str, bench: Bench) -> Result:
    """Training of one model of a recipe."""
    model = {**fraud_model(bench, recipe), "what": "train", "rows": bench.train_rows}
    sides = [
        our_fraud_training(bench, recipe),
        *(bench.peer("torch_fraud.py", **model, how=how) for how in compiled_ways(bench)),
        *(bench.peer("keras_fraud.py", **model, jit_compile=xla) for xla in keras_ways(bench)),
    ]
    cost = limits.fraud_training(bench.fraud_inputs.x.shape[1], recipe == "gaussian")
    return result(bench, f"fraud_train_{recipe}", "rows/s", sides, cost)


def fraud_train_models(bench: Bench) -> Result:
    """Several models in one program, against as many runs one after another."""
    sides = [
        our_fraud_training(bench, "gaussian", f"vae_jax, {MODELS} models in one program", models=MODELS),
        our_fraud_training(bench, "gaussian", f"{MODELS} single runs", runs=MODELS),
    ]
    cost = limits.fraud_training(bench.fraud_inputs.x.shape[1], True)
    return result(bench, "fraud_train_models", "model-rows/s", sides, cost)


def fraud_score(recipe: str, bench: Bench) -> Result:
    """Scoring with one model."""
    todo = {"rows": bench.scored_rows, "samples": SAMPLES}
    model = {**fraud_model(bench, recipe), **todo, "what": "score"}
    sides = [
        bench.ours("score_fraud", recipe=recipe, data=bench.fraud_data, **todo),
        *(bench.peer("torch_fraud.py", **model, how=how) for how in compiled_ways(bench)),
    ]
    cost = limits.fraud_scoring(bench.fraud_inputs.x.shape[1], recipe == "gaussian", SAMPLES)
    return result(bench, f"fraud_score_{recipe}", f"rows/s, {SAMPLES} samples", sides, cost)


def claims(what: str, bench: Bench) -> Result:
    """Training or scoring on a table of words: ours, an Isolation Forest, and a VAE on the one-hot table."""
    inputs = prepare(FraudConfig(**bench.claims))  # pyright: ignore[reportArgumentType]
    assert inputs.schema
    layout = inputs.schema.layout
    rows = inputs.x[inputs.split.train] if what == "train" else inputs.x
    seen = bench.save(f"claims_{what}.npy", np.asarray(expand(layout, rows)))  # pyright: ignore[reportArgumentType]
    model = {
        "what": what,
        "rows": seen,
        "layout": {"numbers": layout.measured, "answers": layout.answers, "levels": layout.levels},
        "mean_bound": recipes.MEAN_BOUND,
        "weight": None,
        "input_noise": 0.0,
        "kl_warmup_steps": 0,
        "batch": FRAUD_BATCH,
        "samples": SAMPLES,
    }
    ours = (
        our_fraud_training(bench, "gaussian", **bench.claims)
        if what == "train"
        else bench.ours("score_claims", samples=SAMPLES, **bench.claims)
    )
    sides = [
        ours,
        bench.ours("isolation_forest", "one-hot and Isolation Forest", step=what, **bench.claims),
        *(bench.peer("torch_columns.py", **model, how=how) for how in compiled_ways(bench)),
    ]
    found = bench.race(sides)
    unit = "rows/s" if what == "train" else f"rows/s, {SAMPLES} samples"
    return Result(f"claims_{what}", unit, found.rates, left_out=found.left_out, failed=found.failed)


def digit_layers(samples: int) -> list[int]:
    """Multiply-adds per image and layer of the digits' network; each sample is decoded."""
    (hidden,), (latent,) = digit_models.NETWORKS[1]
    encoder = [i * o for i, o in pairwise((digit_models.PIXELS, *hidden, 2 * latent))]
    decoder = [samples * i * o for i, o in pairwise((latent, *hidden[::-1], digit_models.PIXELS))]
    return encoder + decoder


def digit_peers(bench: Bench, **todo) -> list[Command]:
    """PyTorch's sides for the digits, in TF32 on a GPU, as JAX multiplies there."""
    tf32 = bench.suite == "gpu"
    return [bench.peer("torch_mnist.py", **todo, how=how, tf32=tf32) for how in compiled_ways(bench)]


def mnist_train(objective: str, samples: int, bench: Bench) -> Result:
    """Training of the one-layer digits model; an epoch has as many steps as the experiment compiles into one call."""
    images = bench.digits.train
    most = digit_models.STEPS_PER_CALL[bench.suite == "gpu"] // samples
    images = images[: min(most, len(images) // DIGIT_BATCH) * DIGIT_BATCH]
    model = {
        "pixels": bench.save(f"digits_{objective}.npy", images),
        "objective": objective,
        "samples": samples,
        "batch": DIGIT_BATCH,
    }
    adam = {"learning_rate": MnistConfig().learning_rate, "epsilon": digit_models.ADAM_EPSILON}
    sides = [bench.ours("train_mnist", **model), *digit_peers(bench, what="train", **model, **adam)]
    cost = Cost(limits.training_operations(digit_layers(samples)), digit_models.PIXELS)  # an image's bits, as bytes
    unit = f"images/s, batch {DIGIT_BATCH}, {samples} sample{'s' * (samples > 1)}"
    return result(bench, f"mnist_train_{objective}", unit, sides, cost)


def mnist_log_likelihood(bench: Bench) -> Result:
    """Log p(x) of test images by importance sampling."""
    pixels = bench.save("digits_test.npy", bench.digits.test[: DIGITS_MEASURED[bench.suite]])
    todo = {"pixels": pixels, "samples": DIGIT_SAMPLES}
    sides = [bench.ours("log_likelihood_mnist", **todo), *digit_peers(bench, what="log_likelihood", **todo)]
    cost = Cost(2 * sum(digit_layers(DIGIT_SAMPLES)), digit_models.PIXELS + limits.FLOAT)
    return result(bench, "mnist_log_likelihood", f"images/s, {DIGIT_SAMPLES:,} samples", sides, cost)


def our_face_training(bench: Bench, batch: int, pictures: int, name: str = "vae_jax", **changes) -> Command:
    """Our side of the faces' training."""
    usual = {"batch": batch, "pixels": bench.pixels(pictures), "dtype": "float32", "placement": "resident"}
    return bench.ours("train_celeba", name, **{**usual, **changes})


def celeba_train(name: str, batch: int, pictures: int, dtype: str, bench: Bench) -> Result:
    """The face model's training, with all data on the device."""
    todo = {"what": "train", "batch": batch, "pixels": bench.pixels(pictures), "dtype": dtype}
    # JAX multiplies float32 in TF32 on a GPU. PyTorch does so only on request, and is measured both ways.
    reduced = (True, False) if bench.suite == "gpu" and dtype == "float32" else (False,)
    ways = [(how, tf32) for tf32 in reduced for how in compiled_ways(bench)]
    sides = [
        our_face_training(bench, batch, pictures, dtype=dtype),
        *(bench.peer("torch_celeba.py", **todo, how=how, tf32=tf32) for how, tf32 in ways),
        *(bench.peer("keras_celeba.py", **todo, jit_compile=xla) for xla in keras_ways(bench)),
    ]
    cost = limits.face_training(batch, 4 if dtype == "float32" else 2)
    return result(bench, name, f"images/s, batch {batch}, {dtype}", sides, cost, dtype)


def celeba_generate(bench: Bench) -> Result:
    """New faces, copied to the host."""
    todo = {"what": "generate", "batch": CHUNK, "dtype": "float32"}
    sides = [
        bench.ours("generate", dtype="float32"),
        *(bench.peer("torch_celeba.py", **todo, how=how, tf32=bench.suite == "gpu") for how in compiled_ways(bench)),
        *(bench.peer("keras_celeba.py", **todo, jit_compile=xla) for xla in keras_ways(bench)),
    ]
    return result(bench, "celeba_generate", f"images/s, chunks of {CHUNK}", sides, limits.face_generating(CHUNK))


def picture_folder(bench: Bench) -> str:
    """The real pictures, or else a folder of drawn ones."""
    from PIL import Image

    real = Path(os.environ.get("VAE_JAX_DATA", ""), "celeba")
    if os.environ.get("VAE_JAX_DATA") and real.exists():
        return str(real)
    folder = bench.folder / "drawn"
    folder.mkdir(exist_ok=True)
    for index in range(DRAWN_PICTURES):
        Image.fromarray(draw_face(0, index, DRAWN_SIZE)[0]).save(folder / f"{index:06}.jpg", quality=90)
    return str(folder)


def prepare_images(bench: Bench) -> Result:
    """JPEG files into the cache of uint8 pictures; the limit is decoding them and keeping nothing."""
    todo = {"folder": picture_folder(bench), "most": MOST_PICTURES}
    limit = "Pillow alone, in threads on all cores, nothing kept"
    sides = [bench.ours("prepare_pictures", warm_up=1, **todo), bench.ours("decode_pictures", limit, warm_up=1, **todo)]
    found = bench.race(sides)
    fastest = median(found.rates.pop(limit))
    return Result("prepare_images", "images/s", found.rates, fastest, limit, found.left_out, found.failed)


def import_time(bench: Bench) -> Result:
    """What `import vae_jax` adds to the imports it needs, each time in a fresh process.

    Measured within the process: the difference of two whole processes would drown in noise.
    """
    needed = "jax, flax, optax"
    clock = "print(time.perf_counter() - started)"
    code = f"import time, {needed}; started = time.perf_counter(); import vae_jax; {clock}"
    added = []
    for _ in range(bench.rounds + 1):
        done = subprocess.run(
            [sys.executable, "-c", code], env=bench.environment, capture_output=True, text=True, check=True
        )
        added.append(float(done.stdout))
    note = f"import {needed}; the first process, which reads files that later ones find cached"
    return Result("import_time", "s", {"vae_jax": added[1:]}, left_out={"vae_jax": note}, lower_is_better=True)


def fit(what: str, bench: Bench) -> Result:
    """Seconds of `peers/fit.py`: a fit in a fresh process, nothing compiled; a second one; a larger one; or scores."""
    values = {side: [seconds[what] for seconds in rounds] for side, rounds in bench.fits.items()}
    return Result(f"fit_{what}", "s", values, left_out=dict.fromkeys(values, "imports"), lower_is_better=True)


def second_start(experiment: str, bench: Bench) -> Result:
    """From the start of a process to the end of its first compiled call, with a full and an empty cache."""

    def seconds(cache: str | Path) -> float:
        # Cache even what compiles quickly: most of a start goes into many small programs.
        cached = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        if experiment == "fraud":
            command = our_fraud_training(bench, "gaussian", environment=cached, warm_up=1)
        else:
            command = our_face_training(bench, 64, 256, environment=cached, warm_up=1)
        with Side(command) as side:
            return side.seconds_to_ready

    warm_cache = bench.folder / f"compiled_{experiment}"
    seconds(warm_cache)
    values = {"warm compilation cache": [], "cold compilation cache": []}
    for _ in range(bench.rounds):
        values["warm compilation cache"].append(seconds(warm_cache))
        with tempfile.TemporaryDirectory() as empty:
            values["cold compilation cache"].append(seconds(empty))
    left_out = {"warm compilation cache": "one start that filled it"}
    return Result(f"second_start_{experiment}", "s", values, left_out=left_out, lower_is_better=True)


@dataclass(frozen=True)
class Row:
    """Where a row belongs, and how it is measured."""

    suites: tuple[str, ...]
    measure: Callable[[Bench], Result]


BOTH = ("cpu", "gpu")
GPU_BATCH = 512
GPU_PICTURES = 50 * GPU_BATCH  # as many steps as the experiment compiles into one call
ROWS: dict[str, Row] = {
    "fraud_train_report": Row(BOTH, partial(fraud_train, "report")),
    "fraud_train_gaussian": Row(BOTH, partial(fraud_train, "gaussian")),
    "fraud_train_models": Row(BOTH, fraud_train_models),
    "fraud_score_report": Row(BOTH, partial(fraud_score, "report")),
    "fraud_score_gaussian": Row(BOTH, partial(fraud_score, "gaussian")),
    "claims_train": Row(BOTH, partial(claims, "train")),
    "claims_score": Row(BOTH, partial(claims, "score")),
    "mnist_train_vae": Row(BOTH, partial(mnist_train, "vae", 1)),
    "mnist_train_iwae": Row(BOTH, partial(mnist_train, "iwae", 50)),
    "mnist_log_likelihood": Row(BOTH, mnist_log_likelihood),
    "celeba_train_cpu": Row(("cpu",), partial(celeba_train, "celeba_train_cpu", 64, 256, "float32")),
    **{
        f"celeba_train_gpu_{dtype}": Row(
            ("gpu",), partial(celeba_train, f"celeba_train_gpu_{dtype}", GPU_BATCH, GPU_PICTURES, dtype)
        )
        for dtype in ("bfloat16", "float32")
    },
    "celeba_generate": Row(BOTH, celeba_generate),
    "prepare_images": Row(("cpu",), prepare_images),
    "import_time": Row(("cpu",), import_time),
    **{f"fit_{what}": Row(("cpu",), partial(fit, what)) for what in ("first", "second", "large", "score")},
    "second_start_fraud": Row(BOTH, partial(second_start, "fraud")),
    "second_start_celeba": Row(BOTH, partial(second_start, "celeba")),
}
