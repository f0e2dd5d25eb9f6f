"""What the networks with layers of several widths are made from: a Flax module that may be given lists."""

from __future__ import annotations

from flax import linen as nn


class Module(nn.Module):
    """A Flax module that makes tuples of its lists: JAX compiles for a module by its hash, which lists don't have."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, list):
                setattr(self, name, tuple(value))
        super().__post_init__()
