"""Seconds that a detector takes in a fresh process: first and second fits, a larger one, and scores; printed as JSON.

python fit.py DETECTOR, one of DETECTORS, each with its default settings
"""

import json
import sys
import time

import numpy as np

SIZES = {"first": (500, 9), "second": (700, 9), "large": (20_000, 29)}


def vae_jax():
    from vae_jax import VAEDetector

    detector = VAEDetector()

    def second():  # other numbers, which must not compile again
        return VAEDetector(learning_rate=1e-3, kl_warmup=0.5, input_noise=0.1, validation_share=0.2)

    return detector, second, lambda fitted, x: fitted.score_samples(x)


def isolation_forest():
    from sklearn.ensemble import IsolationForest

    return IsolationForest(), IsolationForest, lambda fitted, x: fitted.score_samples(x)


def pyod_vae():
    from pyod.models.vae import VAE

    return VAE(verbose=0), lambda: VAE(verbose=0, lr=5e-4), lambda fitted, x: fitted.decision_function(x)


def pyod_auto_encoder():
    from pyod.models.auto_encoder import AutoEncoder

    return (
        AutoEncoder(verbose=0),
        lambda: AutoEncoder(verbose=0, lr=5e-4),
        lambda fitted, x: fitted.decision_function(x),
    )


DETECTORS = {function.__name__: function for function in (vae_jax, isolation_forest, pyod_vae, pyod_auto_encoder)}


def main():
    detector, another, score = DETECTORS[sys.argv[1]]()
    rng = np.random.default_rng(0)
    tables = {}
    for name, (rows, features) in SIZES.items():  # features that go together
        tables[name] = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, features)) + 0.3 * rng.normal(
            size=(rows, features)
        )
    seconds = {}
    for name, x in tables.items():
        detector = detector if name == "first" else another()
        started = time.perf_counter()
        detector.fit(x)
        seconds[name] = time.perf_counter() - started
    score(detector, tables["large"][:100])
    started = time.perf_counter()
    score(detector, tables["large"])
    seconds["score"] = time.perf_counter() - started
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
