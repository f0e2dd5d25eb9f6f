"""What the Keras peers share: backend, bounds, sampling and KL."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from keras import ops

NAME = f"Keras {keras.__version__} on TensorFlow {tf.__version__}"


def sees_gpu():
    """Whether TensorFlow has found a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def soft_clip(x, low, high):
    """Bounds x smoothly."""
    x = high - ops.softplus(high - x)
    return low + ops.softplus(x - low) * ((high - low) / ops.softplus(high - low))


def draw(mean, log_var):
    """A sample of the posterior."""
    return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean))


def kl(mean, log_var):
    """KL of each example, in nats."""
    return 0.5 * ops.sum(ops.square(mean) + ops.expm1(log_var) - log_var, 1)
