"""Encoders, decoders and VAEs as Flax Linen modules: pure functions of their parameters that draw no random numbers."""

from vae_jax.networks.columns import (
    ColumnConstants,
    ColumnDecoder,
    ColumnEncoder,
    ColumnLayout,
    ColumnObservation,
    column_likelihood,
    column_vae,
    fit_column_constants,
    log_prob_of_parts,
)
from vae_jax.networks.conditional import ConditionalVAE, with_labels
from vae_jax.networks.convolutional import ConvDecoder, ConvEncoder, conv_vae, leaky_relu
from vae_jax.networks.hierarchical import HierarchicalVAE, hierarchical_vae
from vae_jax.networks.mlp import DenseDecoder, DenseEncoder, bound_sd, dense_vae
from vae_jax.networks.outputs import (
    OBSERVATION_LOG_VAR,
    PIXEL_LOG_VAR,
    POSTERIOR_LOG_VAR,
    Bernoulli,
    Gaussian,
    Observation,
    soft_clip,
)
from vae_jax.networks.vae import VAE, as_float, count_parameters, decode, encode
