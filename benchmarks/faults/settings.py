"""What every part is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Settings:
    """What every part is given.

    Attributes:
      folder: empty, for the part's own files.
      tries: share of the usual number of tries.
      seed: of all random choices.
    """

    folder: Path
    tries: float = 1.0
    seed: int = 0

    def number(self, usual: int) -> int:
        """The number of tries, where it is usually this; at least one."""
        return max(1, round(self.tries * usual))

    def generator(self) -> np.random.Generator:
        """A new generator of this seed."""
        return np.random.default_rng(self.seed)
