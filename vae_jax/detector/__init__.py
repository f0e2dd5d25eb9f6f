"""`VAEDetector`: its settings, the recipes it trains and scores with, and the folder it is saved in."""

from vae_jax.detector.estimator import VAEDetector

__all__ = ["VAEDetector"]
