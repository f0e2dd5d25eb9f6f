"""What several test files share: tiny models and data, float64 references, and comparisons of whole trees."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vae_jax.networks import OBSERVATION_LOG_VAR, POSTERIOR_LOG_VAR, VAE, dense_vae
from vae_jax.objectives import Objective, gaussian
from vae_jax.training import TrainState

FEATURES = 4
GAUSSIAN = Objective(gaussian)
ADAM = optax.adam(1e-2)


def tiny_data(rows: int, features: int = FEATURES, seed: int = 0) -> jax.Array:
    """Rows of unit variance that lie near a line, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    x = 0.9 * rng.normal(size=(rows, 1)) + np.sqrt(1 - 0.9**2) * rng.normal(size=(rows, features))
    return jnp.asarray(x, jnp.float32)


def random_params(vae: VAE, feature_dim: int, seed: int = 0) -> Any:
    """Parameters of the module's own shapes, drawn by NumPy: compiling their initialisation would take seconds.

    Unlike the module's own, biases are not 0, so that forgetting one shows.
    """
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, feature_dim)), jnp.zeros((1, vae.latent_dim)))
    # Of the size that keeps each layer's output at the scale of its input.
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[0]), leaf.dtype), shapes
    )


@functools.cache
def tiny_state(
    seed: int = 0,
    objective: Objective = GAUSSIAN,
    optimizer: optax.GradientTransformation = ADAM,
    learned_variance: bool = True,
    hidden: tuple[int, ...] = (5,),
) -> TrainState:
    """A VAE of one hidden layer at step 0, by default with the Gaussian likelihood and Adam."""
    vae = dense_vae(FEATURES, hidden, 2, learned_variance)
    params = random_params(vae, FEATURES, seed)
    key, step = jax.random.key(seed), jnp.zeros((), jnp.int32)
    return TrainState(step, params, optimizer.init(params), key, vae, objective, optimizer)


def stack(*trees: Any) -> Any:
    """Stacks trees along a new first axis, as K models are."""
    return jax.jit(lambda *trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees))(*trees)


_compilations: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: _compilations.append(event) if event.endswith("backend_compile_duration") else None
)


def compilations() -> int:
    """How often XLA has compiled anything so far. A call's own cache also grows when it finds what it looks for."""
    return len(_compilations)


def to_numpy(tree: Any) -> list[tuple[str, np.ndarray]]:
    """Copies all leaves with their names; typed keys as their integers."""
    leaves = [
        (jax.tree_util.keystr(path), jax.random.key_data(leaf) if is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return [(name, np.array(leaf)) for name, leaf in leaves]


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def assert_same(actual: Any, expected: Any) -> None:
    """Two trees are equal in names, dtypes and every bit."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert [name for name, _ in actual] == [name for name, _ in expected]
    for (name, a), (_, e) in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype, name
        np.testing.assert_array_equal(a, e, err_msg=name)


def assert_close(actual: Any, expected: Any, atol: float, rtol: float = 0.0) -> None:
    """Two trees are equal in names, and their numbers within a tolerance."""
    actual, expected = to_numpy(actual), to_numpy(expected)
    assert [name for name, _ in actual] == [name for name, _ in expected]
    for (name, a), (_, e) in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=atol, rtol=rtol, err_msg=name)


def float64(tree: Any) -> Any:
    """The same tree with NumPy float64 leaves."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def numpy_soft_clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """The bounds of log variances in float64."""
    x = high - np.logaddexp(0, high - x)
    return low + np.logaddexp(0, x - low)


def _numpy_dense(layers: dict, x: np.ndarray, bounds: tuple[float, float]) -> tuple[np.ndarray, np.ndarray | None]:
    hidden = sorted(name for name in layers if name.startswith("Dense_"))
    for name in hidden:
        x = np.maximum(x @ layers[name]["kernel"] + layers[name]["bias"], 0)
    mean = x @ layers["mean"]["kernel"] + layers["mean"]["bias"]
    if "log_var" not in layers:
        return mean, None
    return mean, numpy_soft_clip(x @ layers["log_var"]["kernel"] + layers["log_var"]["bias"], *bounds)


def numpy_encode(params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The dense encoder in float64: mean and log variance of q(z|x)."""
    return _numpy_dense(float64(params)["params"]["encoder"], np.asarray(x, np.float64), POSTERIOR_LOG_VAR)


def numpy_decode(params: Any, z: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The dense decoder in float64: mean and, where there is one, log variance of p(x|z)."""
    return _numpy_dense(float64(params)["params"]["decoder"], np.asarray(z, np.float64), OBSERVATION_LOG_VAR)
