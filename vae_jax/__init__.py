"""Variational autoencoders in JAX and Flax: pure functions for training, scoring and generation.

Importing this package needs only jax, flax, optax and numpy. `VAEDetector` (scikit-learn, safetensors) is imported on
first use. Import `vae_jax.training.checkpoints` (Orbax), `vae_jax.tables` (pandas) and `vae_jax.images` (Pillow,
pandas, SciPy, dm-pix) by name.
"""

import importlib
from typing import TYPE_CHECKING

from vae_jax import generation, moved, thresholds
from vae_jax.distributions import kl_standard_normal, log_prob, log_prob_per_dimension, reparameterise, sample
from vae_jax.importance import SampledBound, elbo, iwae, log_likelihood, log_weights
from vae_jax.likelihoods import bernoulli_log_prob, categorical_log_prob, discretised_logistic_log_prob
from vae_jax.networks import (
    VAE,
    Bernoulli,
    ColumnConstants,
    ColumnLayout,
    ColumnObservation,
    ConditionalVAE,
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    Gaussian,
    HierarchicalVAE,
    Observation,
    bound_sd,
    column_likelihood,
    column_vae,
    conv_vae,
    count_parameters,
    decode,
    dense_vae,
    encode,
    fit_column_constants,
    hierarchical_vae,
    with_labels,
)
from vae_jax.objectives import Objective, Terms, bernoulli, gaussian, mse, rmse
from vae_jax.scoring import Scores, measure_residual_sd, reconstruction_probability, score_models, score_row
from vae_jax.training import (
    TrainState,
    active_latents,
    binarise,
    create_train_state,
    epoch_order,
    evaluate,
    stream_key,
    train_batches,
    train_epoch,
    train_step,
    train_steps,
    validate,
)
from vae_jax.training.parallel import compile_parallel, data_mesh, replicate, replicated, sharded
from vae_jax.version import __version__

if TYPE_CHECKING:
    from vae_jax.detector import VAEDetector

__all__ = [
    "VAE",
    "Bernoulli",
    "ColumnConstants",
    "ColumnLayout",
    "ColumnObservation",
    "ConditionalVAE",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "Gaussian",
    "HierarchicalVAE",
    "Objective",
    "Observation",
    "SampledBound",
    "Scores",
    "Terms",
    "TrainState",
    "VAEDetector",
    "__version__",
    "active_latents",
    "bernoulli",
    "bernoulli_log_prob",
    "binarise",
    "bound_sd",
    "categorical_log_prob",
    "column_likelihood",
    "column_vae",
    "compile_parallel",
    "conv_vae",
    "count_parameters",
    "create_train_state",
    "data_mesh",
    "decode",
    "dense_vae",
    "discretised_logistic_log_prob",
    "elbo",
    "encode",
    "epoch_order",
    "evaluate",
    "fit_column_constants",
    "gaussian",
    "generation",
    "hierarchical_vae",
    "iwae",
    "kl_standard_normal",
    "log_likelihood",
    "log_prob",
    "log_prob_per_dimension",
    "log_weights",
    "measure_residual_sd",
    "mse",
    "reconstruction_probability",
    "reparameterise",
    "replicate",
    "replicated",
    "rmse",
    "sample",
    "score_models",
    "score_row",
    "sharded",
    "stream_key",
    "thresholds",
    "train_batches",
    "train_epoch",
    "train_step",
    "train_steps",
    "validate",
    "with_labels",
]


def __getattr__(name: str):
    """Imports `VAEDetector`, which needs more than jax, flax, optax and numpy, and moved modules on first use."""
    if name == "VAEDetector":
        return importlib.import_module("vae_jax.detector").VAEDetector
    if f"vae_jax.{name}" in moved.MOVED:
        return importlib.import_module(f"vae_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
