"""The transactions model in Keras on TensorFlow, trained with `fit`: the original report's stack."""

import keras_tools  # isort: skip (chooses Keras's backend)
import math

import keras
import numpy as np
from keras import layers, ops
from serve import serve, task

LOG_2PI = math.log(2 * math.pi)
# Steps per call of the compiled program; otherwise `fit` spends most of its time between steps.
STEPS_PER_EXECUTION = 64


class DenseVAE(keras.Model):
    """The original report's network, 20-10-8 with 2 latents; with a learned variance if `largest_sd` is given."""

    def __init__(self, todo, features, hidden=(20, 10, 8), latent=2):
        super().__init__()
        self.todo = todo
        inputs = x = keras.Input((features,))
        for width in hidden:
            x = layers.Dense(width, "relu")(x)
        self.encoder = keras.Model(inputs, [layers.Dense(latent)(x), layers.Dense(latent)(x)])
        z = keras.Input((latent,))
        x = z
        for width in hidden[::-1]:
            x = layers.Dense(width, "relu")(x)
        heads = 1 if todo["largest_sd"] is None else 2
        self.decoder = keras.Model(z, [layers.Dense(features)(x) for _ in range(heads)])

    def posterior(self, x):
        mean, log_var = self.encoder(x)
        bound = self.todo["mean_bound"]
        mean = mean if bound is None else keras_tools.soft_clip(mean, -bound, bound)
        return mean, keras_tools.soft_clip(log_var, -10.0, 10.0)

    def kl_weight(self):
        """Rises from 0 to 1 over the first `kl_warmup_steps`."""
        steps = self.todo["kl_warmup_steps"]
        return ops.minimum(1.0, ops.cast(self.optimizer.iterations, "float32") / steps) if steps else 1.0

    def call(self, x):
        noise = self.todo["input_noise"]
        seen = x + noise * keras.random.normal(ops.shape(x)) if noise else x
        mean, log_var = self.posterior(seen)
        decoded = self.decoder(keras_tools.draw(mean, log_var))
        reconstruction = self.reconstruction(x, *(decoded if isinstance(decoded, list) else [decoded]))
        self.add_loss(ops.mean(reconstruction + self.kl_weight() * keras_tools.kl(mean, log_var)))
        return x

    def reconstruction(self, x, mean, log_var=None):
        """weight * RMSE, or the negative log density."""
        if log_var is None:
            return self.todo["weight"] * ops.sqrt(ops.mean(ops.square(x - mean), 1))
        log_var = keras_tools.soft_clip(log_var, -6.0, 2 * np.log(np.float32(self.todo["largest_sd"])))
        return 0.5 * ops.sum(LOG_2PI + log_var + ops.square(x - mean) * ops.exp(-log_var), 1)


def main():
    keras.utils.set_random_seed(0)
    todo = task(keras_tools.sees_gpu)
    rows = np.load(todo["rows"])
    model = DenseVAE(todo, rows.shape[1])
    model.compile(
        optimizer=keras.optimizers.Nadam(1e-3),
        jit_compile=todo["jit_compile"],
        steps_per_execution=STEPS_PER_EXECUTION,
    )
    amount = len(rows) // todo["batch"] * todo["batch"]

    def work(epochs):
        model.fit(rows[:amount], batch_size=todo["batch"], epochs=epochs, verbose=0)

    work(2)
    name = f"{keras_tools.NAME}, fit{', XLA' if todo['jit_compile'] else ''}"
    parameters = model.encoder.count_params() + model.decoder.count_params()
    serve(name, work, amount, "compilation and 2 epochs", parameters)


if __name__ == "__main__":
    main()
