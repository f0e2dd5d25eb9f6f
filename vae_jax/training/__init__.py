"""Training as pure functions: state, step, an epoch as one scan, several devices; and checkpoints."""

from vae_jax.networks import as_float
from vae_jax.training.epoch import epoch_order, train_batches, train_epoch, train_steps
from vae_jax.training.noise import Noise, batch_noise, draw_noise
from vae_jax.training.state import TrainState, create_train_state, stream_key
from vae_jax.training.step import active_latents, binarise, evaluate, train_step, validate
