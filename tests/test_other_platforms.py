"""Programs can be lowered for GPUs and TPUs, in the form that suits them; no such device is needed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vae_jax
from vae_jax import exemplars
from vae_jax.detector import exemplar, passes, recipes
from vae_jax.detector.settings import Settings

ROWS, FEATURES = 256, 29
RECIPES = ("report", "gaussian")
PICTURES = jax.ShapeDtypeStruct((8, 128, 128, 3), jnp.uint8)
KEY = jax.eval_shape(lambda: jax.random.key(0))
Program = tuple[Callable, tuple]


def of_floats(*shape: int) -> jax.ShapeDtypeStruct:
    """An array of float32."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def shapes(function: Callable, *arguments: Any) -> Any:
    """What a function returns, without its numbers."""
    return jax.eval_shape(function, *arguments)


def table_state(recipe: str, models: int) -> vae_jax.TrainState:
    """The state of a recipe's models."""
    settings = Settings(recipe=recipe, num_models=models).resolved(ROWS, FEATURES)
    return recipes.state_shapes(settings, np.zeros((ROWS, FEATURES), np.float32))


def table_epoch(recipe: str, models: int) -> Program:
    """An epoch of all models on one device."""

    def epoch(state, rows):
        return passes.each_model(lambda state: vae_jax.train_epoch(state, rows, 128, None), state)

    return jax.jit(epoch), (table_state(recipe, models), of_floats(ROWS, FEATURES))


def table_scores(recipe: str) -> Program:
    """Reconstruction probabilities by two models."""
    state = table_state(recipe, 2)
    residual_sd = of_floats(2, FEATURES) if recipe == "report" else None
    score = partial(vae_jax.score_models, state.vae, mesh=vae_jax.data_mesh(jax.devices()[:1]), num_samples=100)
    arguments = state.params, of_floats(ROWS, FEATURES), KEY
    return jax.jit(lambda params, x, key, sd: score(params, x, key, residual_sd=sd)), (*arguments, residual_sd)


def exemplar_steps() -> Program:
    """Training steps of one model of the exemplar recipe."""
    state = table_state("exemplar", 1)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.params)
    opt_state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state.opt_state)
    model = exemplar.Model(jax.ShapeDtypeStruct((), jnp.int32), one, opt_state)
    batch, noise = of_floats(16, 128, FEATURES), of_floats(16, 128, state.vae.latent_dim)
    schedule = exemplar.Schedule(of_floats(16), of_floats(16))
    take = jax.jit(partial(exemplar._take, state.vae))
    return take, (model, batch, batch, noise, jax.ShapeDtypeStruct((), jnp.int32), schedule)


def exemplar_densities() -> Program:
    """Densities under near and far kernels."""
    rows = of_floats(512, FEATURES)
    kernels = of_floats(2048, FEATURES), of_floats(2048, FEATURES), of_floats(2048)
    own = jax.ShapeDtypeStruct((512,), jnp.int32)
    return jax.jit(partial(exemplars._log_sums, gaps=False, layout=None)), (rows, kernels, of_floats(2), own)


def exemplar_densities_of_columns() -> Program:
    """The same with answers, categories and gaps."""
    layout = vae_jax.ColumnLayout(numbers=FEATURES, answers=2, levels=(4, 8))
    parts = of_floats(2048, layout.parts)
    kernels = parts, parts, of_floats(2048), of_floats(2048, 4)
    own = jax.ShapeDtypeStruct((512,), jnp.int32)
    program = jax.jit(partial(exemplars._log_sums, gaps=True, layout=layout))
    return program, (of_floats(512, layout.parts), kernels, of_floats(2), own)


def face_state(dtype: Any) -> vae_jax.TrainState:
    """The state of the face model."""
    vae = vae_jax.conv_vae(dtype=dtype)
    create = partial(vae_jax.create_train_state, vae=vae, objective=vae_jax.Objective(), optimizer=optax.adam(1e-3))
    return shapes(partial(create, event_shape=(128, 128, 3)), KEY)


def face_step(dtype: Any) -> Program:
    """A training step of the face model."""
    return jax.jit(vae_jax.train_step), (face_state(dtype), PICTURES, KEY)


def generation() -> Program:
    """New faces."""
    state = face_state(None)
    return jax.jit(partial(vae_jax.decode, state.vae)), (state.params, of_floats(8, state.vae.latent_dim))


PROGRAMS = {
    **{f"{recipe}-{count}": partial(table_epoch, recipe, count) for recipe in RECIPES for count in (1, 8)},
    **{f"{recipe}-scores": partial(table_scores, recipe) for recipe in RECIPES},
    "exemplar": exemplar_steps,
    "exemplar-densities": exemplar_densities,
    "exemplar-densities-columns": exemplar_densities_of_columns,
    "faces-float32": partial(face_step, None),
    "faces-bfloat16": partial(face_step, jnp.bfloat16),
    "generation": generation,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_lowered_for_each_platform_in_its_own_form(name):
    function, arguments = PROGRAMS[name]()
    traced = function.trace(*arguments)  # here, where the default device is a processor
    texts = {platform: traced.lower(lowering_platforms=(platform,)).as_text() for platform in ("cuda", "tpu", "cpu")}
    convolutions = {platform: text.count("stablehlo.convolution") for platform, text in texts.items()}
    of_faces = name in ("faces-float32", "faces-bfloat16", "generation")
    assert convolutions["cpu"] == 0
    assert (convolutions["cuda"] > 0) == (convolutions["tpu"] > 0) == of_faces
    # Outside the face model, whose transposed convolutions need them, barriers are for processors.
    barriers = {platform: text.count("stablehlo.optimization_barrier") for platform, text in texts.items()}
    assert (barriers["cuda"] > 0) == (barriers["tpu"] > 0) == of_faces


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_product_of_scores_is_shortened(recipe):
    function, arguments = table_scores(recipe)
    text = function.trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert products
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products)
