"""The commands: one folder per experiment, and what they share."""

# What starts them, as shown in help and errors. Installed, this package has another name: see `__main__.py`.
PROGRAM = "bash run.sh" if __name__ == "experiments" else "vae-jax"
