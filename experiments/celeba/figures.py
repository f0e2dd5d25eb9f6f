"""Figures of the faces experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.celeba.measures import INFORMATIVE
from experiments.celeba.model import Encoded
from experiments.page.charts import BOUNDARY, GENUINE, chart


def draw_latents(path: Path, encoded: Encoded, informative: int, seed: int = 0) -> None:
    """Plots samples of all posteriors against N(0, 1), and how much each latent is used."""
    noise = np.random.default_rng(seed).standard_normal(encoded.mean.shape)
    z, kl = encoded.mean + np.exp(encoded.log_var / 2) * noise, encoded.kl_per_latent()
    with chart(path, 8.25, 3.4, columns=2) as (left, right):
        x = np.linspace(-5, 5, 201)
        left.hist(
            z.ravel(),
            x[::2],
            density=True,
            histtype="stepfilled",
            color=GENUINE,
            alpha=0.65,
            label="samples from q(z|x), all latents",
        )
        left.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=BOUNDARY, label="prior N(0, 1)")
        left.set(xlabel="latent", ylabel="density", xlim=(-5, 5))
        left.legend(loc="upper left", fontsize="small")
        left.set_ylim(top=1.25 * left.get_ylim()[1])
        right.plot(np.arange(1, len(kl) + 1), np.sort(kl)[::-1], color=GENUINE, marker="o" if len(kl) == 1 else None)
        right.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        right.set(xlabel="latents, most used first", ylabel="KL of each latent (nats)", ylim=(0, None))
        right.axhline(INFORMATIVE, color=BOUNDARY, linewidth=1)
        right.set_title(f"{informative} of {len(kl)} above {INFORMATIVE} nats", fontsize="medium", loc="right")
