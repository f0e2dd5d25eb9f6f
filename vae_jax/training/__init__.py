"""Training as pure functions: state, step, an epoch as one scan, several devices; and checkpoints."""

from vae_jax.training.epoch import epoch_order, train_batches, train_epoch, train_steps
from vae_jax.training.state import TrainState, create_train_state, stream_key
from vae_jax.training.step import (
    Noise,
    active_latents,
    as_float,
    batch_noise,
    binarise,
    draw_noise,
    evaluate,
    train_step,
    validate,
)
