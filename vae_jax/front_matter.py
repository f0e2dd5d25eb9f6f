"""The head of a model card, which model hubs read: YAML between two lines of dashes."""

from __future__ import annotations

import json
from typing import Any

CODE_LICENSE = "apache-2.0"
LICENCE = (
    "vae_jax is under the Apache License 2.0. What a model has learned from its data is for the terms of these data: "
    "write the model's own licence here and at `license` above before you pass it on."
)


def front_matter(license: str = "other", **entries: Any) -> list[str]:
    """Returns the lines of a model card's head.

    Args:
      license: a hub's name for the model's licence; `other` where the training data's terms decide.
      entries: more of them, such as `tags`, `datasets` and `metrics`; empty ones are left out.

    Examples:
      >>> from vae_jax.front_matter import front_matter
      >>> print("\\n".join(front_matter(tags=["jax"], datasets=[])))
      ---
      license: "other"
      license_name: "see-below"
      library_name: "vae_jax"
      tags: ["jax"]
      ---
    """
    named = {"license_name": "see-below"} if license == "other" else {}
    head = {"license": license, **named, "library_name": "vae_jax", **entries}
    # JSON is YAML, too.
    return ["---", *(f"{name}: {json.dumps(value)}" for name, value in head.items() if value), "---"]
