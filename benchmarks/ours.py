"""Our sides: the experiments' own compiled steps, scoring, generating and preparing, served like a peer's.

python -m benchmarks.ours '{"what": "train_fraud", ...}'
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from benchmarks.peers.serve import serve, task
from experiments.celeba import gallery
from experiments.celeba import inputs as faces
from experiments.celeba import model as face_training
from experiments.celeba.config import CelebaConfig
from experiments.celeba.face_model import FaceModel
from experiments.fraud import inputs as transactions
from experiments.fraud import models as recipes
from experiments.fraud.config import FraudConfig
from experiments.mnist import inputs as digits
from experiments.mnist import models as digit_models
from experiments.mnist.config import MnistConfig
from experiments.mnist.measures import draw_test_bits
from experiments.runs import loop
from experiments.startup import prepare_jax, use_cores
from vae_jax.generation import LatentMixture
from vae_jax.images.cache import Images, prepare_images
from vae_jax.images.pictures import find_pictures
from vae_jax.importance import log_likelihood
from vae_jax.networks import count_parameters
from vae_jax.training import TrainState

IMAGE_SIZE = 128
INVENTED = 256  # pictures per unit of generating: four of the experiment's chunks

# A side's work, the amount in one unit of it, and the number of parameters of its model.
Side = tuple[Callable[[int], None], float, int | None]


class Model:
    """A model trained with an experiment's steps, as its loop would."""

    def __init__(self, training: loop.Training, state: TrainState):
        self._training, self._state, self._step = training, state, 0

    def train(self, steps: int) -> None:
        """Takes steps, none of its calls crossing the end of an epoch, and waits for them."""
        training, end = self._training, self._step + steps
        info = None
        while self._step < end:
            left = training.steps_per_epoch - self._step % training.steps_per_epoch
            count = min(end - self._step, training.steps_per_call, left)
            self._state, info = training.advance(self._state, self._step, count)
            self._step += count
        jax.block_until_ready((self._state, info))


def repeated(once: Callable[[], object]) -> Callable[[int], None]:
    """Work whose unit is one call."""

    def work(times: int) -> None:
        for _ in range(times):
            once()

    return work


def train_fraud(todo: dict) -> Side:
    """Epochs of a recipe's training; `runs` of them one after another."""
    config = FraudConfig(
        data=todo["data"], label=todo.get("label"), batch_size=todo["batch"], num_models=todo["models"]
    )
    inputs = transactions.prepare(config)
    training, state = recipes.training(todo["recipe"], config, inputs)
    parameters = count_parameters(state.params) // config.num_models
    models = [Model(training, jax.tree.map(jnp.copy, state)) for _ in range(todo["runs"])]

    def work(epochs: int) -> None:
        for model in models:
            for _ in range(epochs):
                model.train(training.steps_per_epoch)

    return work, len(models) * training.examples_per_step * training.steps_per_epoch, parameters


def score_fraud(todo: dict) -> Side:
    """Passes over the rows with the experiment's scorer."""
    config = FraudConfig(data=todo["data"], num_samples=todo["samples"])
    inputs = transactions.prepare(config)
    _, state = recipes.training(todo["recipe"], config, inputs)
    detector, rows = recipes.fitted(todo["recipe"], state, config, inputs), np.load(todo["rows"])
    score = detector.scorer("log_reconstruction_prob")
    return repeated(lambda: score(rows)), len(rows), count_parameters(state.params)


def score_claims(todo: dict) -> Side:
    """Passes over a table of words, as read from its file."""
    config = FraudConfig(data=todo["data"], label=todo["label"], num_samples=todo["samples"])
    inputs = transactions.prepare(config)
    _, state = recipes.training("gaussian", config, inputs)
    detector, rows = recipes.fitted("gaussian", state, config, inputs), inputs.table.features
    return repeated(lambda: detector.score_samples(rows)), len(rows), count_parameters(state.params)


def isolation_forest(todo: dict) -> Side:
    """Fits of scikit-learn's one-hot encoder and Isolation Forest to a table of words, or passes over it."""
    inputs = transactions.prepare(FraudConfig(data=todo["data"], label=todo["label"]))
    table = pd.read_csv(todo["data"])[list(inputs.features.modelled)]
    train = table.iloc[inputs.split.train]
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((words, make_column_selector(dtype_exclude="number")), remainder="passthrough")
    forest = make_pipeline(columns, IsolationForest(random_state=0)).fit(train)
    if todo["step"] == "train":
        return repeated(lambda: forest.fit(train)), len(train), None
    return repeated(lambda: forest.score_samples(table)), len(table), None


def digit_model(objective: str, samples: int, pixels: np.ndarray, batch: int):
    """The experiment's one-layer model for some images, its config and its inputs."""
    config = MnistConfig(objective=(objective,), samples=(samples,), layers=(1,), batch_size=batch)  # pyright: ignore[reportArgumentType]
    (model,) = digit_models.models(config)
    none = pixels[:0]
    return model, config, digits.Inputs(None, pixels, none, none)  # pyright: ignore[reportArgumentType] (training needs no labels)


def train_mnist(todo: dict) -> Side:
    """Epochs of the digits model's training, which draw the images' bits anew."""
    pixels = np.load(todo["pixels"])
    model, config, inputs = digit_model(todo["objective"], todo["samples"], pixels, todo["batch"])
    training, state = digit_models.training(model, config, inputs)
    parameters, trained = count_parameters(state.params), Model(training, state)
    steps = training.steps_per_epoch
    return lambda epochs: trained.train(epochs * steps), steps * model.batch_size, parameters


def log_likelihood_mnist(todo: dict) -> Side:
    """Estimates of log p(x) of all images, copied to the host."""
    pixels = np.load(todo["pixels"])
    state = digit_models.initial_state(*digit_model("vae", 1, pixels, len(pixels)))
    bits = draw_test_bits(pixels, 0)

    @jax.jit
    def estimate(params, bits):
        return log_likelihood(state.vae, params, bits.astype(jnp.float32), state.key, todo["samples"])

    return repeated(lambda: np.asarray(estimate(state.params, bits))), len(pixels), count_parameters(state.params)


def train_celeba(todo: dict) -> Side:
    """Steps of the face model's training; a unit is as many as the experiment compiles into a call."""
    config = CelebaConfig(batch_size=todo["batch"], dtype=todo["dtype"], placement=todo["placement"])
    pixels = np.load(todo["pixels"], mmap_mode="r")
    rows = np.arange(len(pixels))
    images = Images(pixels, {}, rows, None)  # pyright: ignore[reportArgumentType] (training needs no listing)
    inputs = faces.Inputs(images, rows, rows[:1], rows[:1])
    training, state = face_training.training(config, inputs)
    unit = min(training.steps_per_call, training.steps_per_epoch)
    parameters, model = count_parameters(state.params), Model(training, state)
    return lambda count: model.train(count * unit), unit * config.batch_size, parameters


def generate(todo: dict) -> Side:
    """New faces, copied to the host, from the function behind the experiment's sheets."""
    state = face_training.initial_state(CelebaConfig(dtype=todo["dtype"]))
    empty = np.zeros(0)
    model = FaceModel(state.vae, state.params, LatentMixture(empty, empty, empty), empty, empty, ())
    key = jax.random.key(0)
    work = repeated(lambda: gallery.samples(model, "prior", key, INVENTED))
    return work, INVENTED, count_parameters(state.params)


def prepare_pictures(todo: dict) -> Side:
    """Pictures into the cache, made anew each time."""
    pictures = find_pictures(todo["folder"], todo["most"])

    def once() -> None:
        with tempfile.TemporaryDirectory() as cache:
            prepare_images(pictures, IMAGE_SIZE, "none", Path(cache))

    return repeated(once), len(pictures.names), None


def decode_pictures(todo: dict) -> Side:
    """The limit of preparing: Pillow alone, on all cores, keeping nothing."""
    paths = sorted(Path(todo["folder"]).rglob("*.jpg"))[: todo["most"]]

    def decode(path: Path) -> None:
        with Image.open(path) as picture:
            picture.draft("RGB", (3 * IMAGE_SIZE, 3 * IMAGE_SIZE))
            rgb = picture.convert("RGB")
            np.asarray(rgb.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0))

    def work(times: int) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in range(times):
                for _ in pool.map(decode, paths):
                    pass

    return work, len(paths), None


def multiply(todo: dict) -> Side:
    """Products of two square matrices; amounts are operations, two per multiply-add."""
    size = todo["size"]
    matrix = jnp.full((size, size), 1 / size, todo["dtype"])
    product = jax.jit(jnp.matmul)
    return repeated(lambda: product(matrix, matrix).block_until_ready()), 2.0 * size**3, None


def copy(todo: dict) -> Side:
    """Passes over an array that is read and written; amounts are bytes moved."""
    array = jnp.zeros(todo["size"], jnp.float32)
    increment = jax.jit(lambda x: x + 1)
    return repeated(lambda: increment(array).block_until_ready()), 2.0 * array.nbytes, None


SIDES: dict[str, Callable[[dict], Side]] = {
    function.__name__: function
    for function in (
        train_fraud,
        score_fraud,
        score_claims,
        isolation_forest,
        train_mnist,
        log_likelihood_mnist,
        train_celeba,
        generate,
        prepare_pictures,
        decode_pictures,
        multiply,
        copy,
    )
}


# Sides that use XLA's own threads: the limits, the digits experiment, and a function of the library as it is.
OF_XLA = {function.__name__ for function in (multiply, copy, train_mnist, log_likelihood_mnist)}


def main() -> None:
    """Serves the side described on the command line."""
    todo = task(lambda: jax.default_backend() == "gpu")
    prepare_jax(large_arrays=todo["what"] in (train_celeba.__name__, generate.__name__))
    if todo["what"] not in OF_XLA:
        # Scoring uses all cores, as it does with several models.
        models = todo.get("models") if todo["what"] == train_fraud.__name__ else None
        use_cores(models or todo.get("batch", os.cpu_count()))
    work, amount, parameters = SIDES[todo["what"]](todo)
    units = todo.get("warm_up", 2)
    work(units)
    serve(todo["name"], work, amount, f"compilation and the first {units} unit{'s' * (units > 1)} of work", parameters)


if __name__ == "__main__":
    main()
