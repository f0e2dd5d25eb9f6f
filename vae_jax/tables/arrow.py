"""Arrow's functions of arrays. They are made when they are imported, so type checkers don't see them."""

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
