"""How long an audit takes until it proves something, so that nobody waits a week for what takes a year."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detectors.calibration.audit import BETS_BELOW, AuditPlan, log_wealth_above
from pipeline.core.records import Array

_RACES = 501
_AT_ONCE = 1 << 17  # misses that are reckoned with at once, for memory
_MOST_MISSES = 1 << 12  # of a race; beyond that, nobody would call it noticing
_SEED = 20240610


@dataclass(frozen=True, slots=True)
class Outlook:
    """`positives` is the share of units that the heavy model flags, `exits` the share that is not reported (one in
    1/p of those is audited). Both counts are of audited units."""

    plan: AuditPlan
    positives: float
    exits: float

    def to_confirm(self) -> int:
        """Audited units until `confirmed`, where next to nothing is missed: 4.5·P(exit)/(π·α) at δ = 5 %."""
        return math.ceil(_nats(self.plan.delta) * self.exits / (self.positives * self.plan.alpha))

    def to_notice(self, factor: float = 2.0) -> int | None:
        """Audited units until `broken` in half of all cases, where the miss rate is `factor` times α; None where so
        much more takes too long to notice. Found by running some audits (always the same ones), which takes some
        hundredths of a second."""
        rate = min(factor * self.plan.alpha, 1.0)
        audited_positives = _median_race(self.plan, rate)
        return math.ceil(audited_positives * self.exits / self.positives) if audited_positives < math.inf else None

    def words(self, units_per_s: float) -> str:
        """Both in plain words, at so many units a second; without the times where none come."""
        audits_per_s = units_per_s * self.exits * self.plan.p_ref

        def takes(audits: int) -> str:
            return f"{audits:,} audited units" + (f" ({plain_time(audits / audits_per_s)})" if audits_per_s else "")

        notice = self.to_notice()
        return (
            f"to confirm at most {self.plan.alpha:.2%} takes about {takes(self.to_confirm())} if next to nothing is"
            " missed; to notice twice as much, " + ("too long to say" if notice is None else f"about {takes(notice)}")
        )


def plain_time(seconds: float) -> str:
    for size, word in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} seconds"


def _nats(delta: float) -> float:
    """The y at which the mean of exp(κ·y) is 1/δ: 4.5 at δ = 5 %."""
    low, high = 0.0, 2 * math.log(len(BETS_BELOW) / delta)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.exp(BETS_BELOW * middle).mean() < 1 / delta else (low, middle)
    return high


@lru_cache(maxsize=16)
def _median_race(plan: AuditPlan, rate: float) -> float:
    """Median number of positives, times p, until the lower bound passes α. Only a miss that is found can take it there,
    so it is enough to look at those: they come with exponential gaps."""
    most, draw = 64, np.random.default_rng(_SEED)
    while most <= _MOST_MISSES:
        times = draw.exponential(1 / rate, (_RACES, most)).cumsum(axis=1)  # in positives times p
        pieces = np.array_split(times, math.ceil(times.size / _AT_ONCE))
        first = np.concatenate([_noticed(plan, rate, piece) for piece in pieces])
        if np.isfinite(first).mean() > 0.5:
            return float(np.median(first))
        most *= 2
    return math.inf


def _noticed(plan: AuditPlan, rate: float, times: Array) -> Array:
    """`[R, N]`, when each miss of R races is found → `[R]`, when the lower bound passes α; infinity where it never
    does."""
    found = np.arange(1, times.shape[1] + 1)[None, :, None]
    caught = ((1 - rate) * times / plan.p_ref)[..., None]
    counts = np.concatenate([np.broadcast_to(found, caught.shape), np.zeros_like(caught)], axis=-1)
    known = np.concatenate([np.zeros_like(caught), caught], axis=-1)  # of these the word is there without a coin
    wealth = log_wealth_above(plan, plan.alpha, counts, np.array([plan.p_ref, 1.0]), known)
    there = wealth >= -math.log(plan.delta)
    return np.where(there.any(axis=1), times[np.arange(len(times)), there.argmax(axis=1)], np.inf)
