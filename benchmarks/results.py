"""The result of a benchmark row: medians, ratios and their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.sides import median


def show(value: float) -> str:
    """A figure with four significant digits, or a whole number from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@dataclass(frozen=True)
class Result:
    """A row's figures.

    Attributes:
      values: by side, ours first, one number per round.
      limit: the best possible on this machine, in the same unit; None if unknown.
      limit_arithmetic: how the limit is computed.
      left_out: what each side did before the first round.
      failed: why a side could not run.
      lower_is_better: for durations.
    """

    name: str
    unit: str
    values: Mapping[str, Sequence[float]]
    limit: float | None = None
    limit_arithmetic: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    lower_is_better: bool = False

    @property
    def ours(self) -> str:
        """The name of our side."""
        return next(iter(self.values))

    @property
    def best_peer(self) -> str | None:
        """The peer with the best median."""
        peers = [side for side in self.values if side != self.ours]
        pick = min if self.lower_is_better else max
        return pick(peers, key=lambda side: median(self.values[side])) if peers else None

    def ratios(self, side: str) -> list[float]:
        """How many times better than `side` ours is, per round."""
        pairs = zip(self.values[self.ours], self.values[side], strict=True)
        return [other / our if self.lower_is_better else our / other for our, other in pairs]

    def cells(self, side: str) -> list[str]:
        """A side's line of the table."""
        values, ratios = self.values[side], self.ratios(side)
        against = "" if side == self.ours else f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        spread = f"{show(min(values))} to {show(max(values))}"
        return [side, show(median(values)), spread, against, self.left_out.get(side, "")]

    def record(self) -> dict:
        """The row as JSON. Ratios above 1 mean that ours is better, whichever way the unit goes."""
        medians = {side: median(values) for side, values in self.values.items()}
        ours, best = medians.pop(self.ours), self.best_peer
        ratios = [] if best is None else self.ratios(best)
        to_limit = None
        if self.limit is not None:
            to_limit = self.limit / ours if self.lower_is_better else ours / self.limit
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": ours,
            "peers": medians,
            "limit": self.limit,
            "ratio_to_best_peer": median(ratios) if ratios else None,
            "ratio_to_limit": to_limit,
            "lower_is_better": self.lower_is_better,
            "best_peer": best,
            "ratio_spread": [min(ratios), max(ratios)] if ratios else None,
            "limit_arithmetic": self.limit_arithmetic,
            "rounds": dict(self.values),
            "left_out": dict(self.left_out),
            "failed": dict(self.failed),
        }
