"""The face model in Keras on TensorFlow: `fit` for training, a compiled decoder for generating."""

import keras_tools  # isort: skip (chooses Keras's backend)
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from serve import serve, task

LATENT, WEIGHT, SLOPE = 200, 2000.0, 0.3


def make_encoder():
    """Four strided convolutions and two heads."""
    inputs = x = keras.Input((128, 128, 3))
    for filters in (32, 64, 64, 64):
        x = layers.LeakyReLU(SLOPE)(layers.Conv2D(filters, 3, 2, "same")(x))
    x = layers.Flatten()(x)
    return keras.Model(inputs, [layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)])


def make_decoder():
    """A dense layer and four transposed convolutions."""
    inputs = keras.Input((LATENT,))
    x = layers.Reshape((8, 8, 64))(layers.Dense(4096)(inputs))
    for filters in (64, 64, 32):
        x = layers.LeakyReLU(SLOPE)(layers.Conv2DTranspose(filters, 3, 2, "same")(x))
    x = layers.Conv2DTranspose(3, 3, 2, "same")(x)
    return keras.Model(inputs, layers.Activation("sigmoid", dtype="float32")(x))


class FaceVAE(keras.Model):
    """The original report's model."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = make_encoder(), make_decoder()

    def call(self, pixels):
        x = ops.cast(pixels, "float32") / 255
        mean, log_var = (ops.cast(part, "float32") for part in self.encoder(x))
        log_var = keras_tools.soft_clip(log_var, -10.0, 10.0)
        reconstruction = self.decoder(keras_tools.draw(mean, log_var))
        rmse = ops.sqrt(ops.mean(ops.square(x - reconstruction), (1, 2, 3)))
        self.add_loss(ops.mean(WEIGHT * rmse + keras_tools.kl(mean, log_var)))
        return reconstruction


def make_training(todo, model):
    """Returns a function that takes steps with `fit`."""
    model.compile(optimizer=keras.optimizers.Adam(5e-4), jit_compile=todo["jit_compile"])
    with tf.device("CPU:0"):
        pixels = tf.constant(np.load(todo["pixels"]))
    # Row numbers are shuffled, not pictures, so that `fit` starts at once.
    rows = tf.data.Dataset.range(len(pixels)).shuffle(len(pixels)).repeat().batch(todo["batch"])
    dataset = rows.map(lambda taken: tf.gather(pixels, taken), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def work(steps):
        model.fit(dataset, steps_per_epoch=steps, epochs=1, verbose=0)

    return work


def make_generating(todo, model):
    """Returns a function that generates chunks of pictures and copies them to the host."""

    @tf.function(jit_compile=todo["jit_compile"])
    def invent():
        return model.decoder(keras.random.normal((todo["batch"], LATENT)), training=False)

    def work(chunks):
        for _ in range(chunks):
            invent().numpy()

    return work


def main():
    keras.utils.set_random_seed(0)
    todo = task(keras_tools.sees_gpu)
    keras.config.set_dtype_policy("mixed_bfloat16" if todo["dtype"] == "bfloat16" else "float32")
    model = FaceVAE()
    parameters = model.encoder.count_params() + model.decoder.count_params()
    work = (make_training if todo["what"] == "train" else make_generating)(todo, model)
    work(3)
    how = "fit" if todo["what"] == "train" else "tf.function"
    name = f"{keras_tools.NAME}, {how}{', XLA' if todo['jit_compile'] else ''}"
    serve(
        name, work, todo["batch"], f"compilation and 3 {'steps' if todo['what'] == 'train' else 'chunks'}", parameters
    )


if __name__ == "__main__":
    main()
