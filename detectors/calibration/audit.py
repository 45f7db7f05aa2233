"""The audit of a cascade that runs: how often it misses, bounded at any time at which somebody cares to look.

A keyed hash of the unit's id picks some units, with probability p; the heavy model judges those whole, whatever the
cascade made of them. A miss, or a catch, that only became known so counts 1/p. The bounds are those of a bettor:
whoever bets against a true claim does not get rich, so great wealth refutes the claim, whenever one looks. Pure
statistics, no threads.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias, cast

import numpy as np

from pipeline.core.records import Array

State: TypeAlias = Literal["confirmed", "unproven", "broken"]

BETS_ABOVE = np.array([0.25, 0.5, 1, 2, 4, 8, 16])  # the bets that the miss rate is higher
BETS_BELOW = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 0.97])  # the bets that it is lower
_STEPS = 60  # of bisection: more than a double holds


def coin(key: bytes, unit: str) -> float:
    """The number in [0, 1) that belongs to a unit's id: the unit is audited where it is below p. Toss it before
    anything (a gate, an overload) has a say in which units there are.

    Whoever does not know `key` (64 bytes at most) cannot tell which units are audited; whoever does can repeat it.
    """
    digest = hashlib.blake2b(unit.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """What has to stand before the first unit. `p_min` is the least probability with which a unit is audited, `p_ref`
    the one that misses are expected to have; both are p where there is but one.

    Each bound by itself is ever wrong with probability `delta` at most.
    """

    alpha: float
    delta: float
    p_min: float
    p_ref: float

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.delta < 1 and 0 < self.p_min <= self.p_ref <= 1):
            raise ValueError("alpha and delta lie between 0 and 1, and 0 < p_min ≤ p_ref ≤ 1")


@dataclass(slots=True)
class Tally:
    """All that an audit has to remember, counted by p, the probability with which each unit's word was to be had.

    `caught` units were reported, and the heavy model flags them; `missed` ones it flags, and they were not reported. p
    is 1 where the heavy stage saw the whole unit in the deployed path already. Of `unseen` units a look was due that
    could not be had, so they may have been anything. Tallies of several workers add up.
    """

    caught: Counter[float] = field(default_factory=Counter)
    missed: Counter[float] = field(default_factory=Counter)
    unseen: Counter[float] = field(default_factory=Counter)

    def heard(self, p: float, *, flagged: bool, reported: bool) -> None:
        """What the heavy model says of a whole unit, and whether the deployed path had reported it."""
        if flagged:
            (self.caught if reported else self.missed)[p] += 1

    def beside(self, due: Counter[float]) -> Tally:
        """The same, with words that are still due among the unseen: until they are had, they may be anything."""
        return self + Tally(unseen=due) if due else self

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.caught + other.caught, self.missed + other.missed, self.unseen + other.unseen)

    @property
    def misses(self) -> float:
        """ΣX: those that there were, as far as the audit can tell."""
        return _weighted(self.missed)

    @property
    def positives(self) -> float:
        """ΣX + ΣC."""
        return _weighted(self.missed) + _weighted(self.caught)

    @property
    def estimate(self) -> float | None:
        """The miss rate, ΣX / (ΣX + ΣC); None before the first positive."""
        positives = self.positives
        return self.misses / positives if positives else None

    @property
    def worst(self) -> float | None:
        """The same if every unit that nobody could look at was a positive, and missed: to be shown beside it."""
        unseen = _weighted(self.unseen)
        positives = self.positives + unseen
        return (self.misses + unseen) / positives if positives else None

    def to_document(self) -> dict[str, Any]:
        return {name: [[p, n] for p, n in sorted(getattr(self, name).items())] for name in _COUNTS}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` if that is no tally."""
        return cls(*(counts(document[name]) for name in _COUNTS))


_COUNTS = ("caught", "missed", "unseen")
_MOST = 1 << 53  # what a double still counts


def counts(document: Sequence[tuple[float, int]]) -> Counter[float]:
    """Counts by p, from a file. Raises `ValueError` or `TypeError` if they are none."""
    read = Counter({float(p): int(n) for p, n in document})
    if any(not 0 < p <= 1 or not 0 <= n < _MOST for p, n in read.items()):
        raise ValueError("a probability lies between 0 and 1, and a count is not negative")
    return read


def _weighted(counts: Counter[float]) -> float:
    return math.fsum(count / p for p, count in counts.items())


def log_wealth_above(plan: AuditPlan, m: float, missed: Array, p: Array, caught: Array) -> Array:
    """The logarithm of K(m), the wealth of the bets against "the miss rate is at most `m`".

    `missed` and `caught` `[…, P]` count the positives by the probabilities `p` `[P]` → `[…]`.
    """
    return _log_mean(_bets_above(plan, m, missed, p, caught))


def log_wealth_below(plan: AuditPlan, m: float, missed: Array, p: Array, caught: Array) -> Array:
    """The logarithm of L(m), the wealth of the bets against "the miss rate is at least `m`"; shapes as above."""
    # in λ·g the factor 1 − m is cancelled by hand, so that m may come close to 1
    stake = BETS_BELOW * plan.p_min / np.asarray(p)[:, None]
    return _log_mean(_wealth(missed, np.log1p(-stake), caught, np.log1p(stake * (m / (1 - m)))))


def _bets_above(plan: AuditPlan, m: float, missed: Array, p: Array, caught: Array) -> Array:
    """`[…, U]`: the logarithm of each bet's wealth."""
    most = 0.9 * plan.p_min / m if m > 0 else math.inf  # so that a catch that counts 1/p leaves something
    stake = np.minimum(BETS_ABOVE * plan.p_ref / (1 - m), most) / np.asarray(p)[:, None]
    return _wealth(missed, np.log1p(stake * (1 - m)), caught, np.log1p(-stake * m))


def _wealth(missed: Array, of_miss: Array, caught: Array, of_catch: Array) -> Array:
    return cast(Array, np.asarray(missed) @ of_miss + np.asarray(caught) @ of_catch)


def _log_mean(bets: Array) -> Array:
    most = bets.max(axis=-1, keepdims=True)
    return cast(Array, most[..., 0] + np.log(np.exp(bets - most).mean(axis=-1)))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the miss rate. `broken` needs proof that it is above α: an upper bound above α only says that little is known,
    which is how every audit begins."""

    lower: float
    upper: float
    estimate: float | None
    state: State


def bounds(plan: AuditPlan, tally: Tally, due: Counter[float] | None = None) -> Bounds:
    """What the tally proves by now. It may be asked after every unit: the bounds hold at all times at once, and
    whatever the unseen units were. For the lower one those were all caught, for the upper one all missed.

    Words that are still `due` count as missed for the upper one, since catches may be known before misses are. For the
    lower one they need not be caught: catches that are known too early only make it lower.
    """
    p, caught, missed, unseen = _arrays(plan, tally)
    rich = -math.log(plan.delta)
    later = tally.beside(due or Counter())
    late_p, late_caught, late_missed, late_unseen = _arrays(plan, later)

    def refuted_at_most(m: float) -> bool:
        return bool(log_wealth_above(plan, m, missed, p, caught + unseen) >= rich)

    def refuted_at_least(m: float) -> bool:
        return bool(log_wealth_below(plan, m, late_missed + late_unseen, late_p, late_caught) >= rich)

    lower = _turn(lambda m: not refuted_at_most(m))[0]  # K falls as m grows
    upper = _turn(refuted_at_least)[1]  # L rises
    state: State = "broken" if lower > plan.alpha else "confirmed" if upper <= plan.alpha else "unproven"
    return Bounds(lower, upper, tally.estimate, state)


def _arrays(plan: AuditPlan, tally: Tally) -> tuple[Array, Array, Array, Array]:
    """The probabilities that occurred, and what was caught, missed and unseen by them: `[P]` each."""
    levels = sorted(tally.caught.keys() | tally.missed.keys() | tally.unseen.keys()) or [plan.p_ref]
    if levels[0] < plan.p_min:
        raise ValueError(f"a unit was audited with p = {levels[0]}, below the plan's {plan.p_min}")
    kinds = (tally.caught, tally.missed, tally.unseen)
    caught, missed, unseen = (np.array([kind[level] for level in levels]) for kind in kinds)
    return np.array(levels), caught, missed, unseen


def _turn(holds: Callable[[float], bool]) -> tuple[float, float]:
    """The last share of 1 where a claim does not hold and the first where it does, as close as they get."""
    if holds(0.0):
        return 0.0, 0.0
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low, high


@dataclass(slots=True)
class Drift:
    """Notices that a miss rate which was fine has passed α, however long it was fine before.

    At the beginning of every epoch of 1/(p·α) positives a bet of 1 joins each of the bets against "at most α", and all
    of them grow by the same factors. The alarm comes when their mean over the kinds of bet passes `patience`: while the
    rate is at most α, that takes `patience` epochs on average, or longer.
    """

    plan: AuditPlan
    patience: float
    epochs: int = 0
    positives: float = 0.0  # of the epoch that is under way
    log_bets: Array = field(default_factory=lambda: np.full(len(BETS_ABOVE), -np.inf))

    @property
    def epoch_positives(self) -> float:
        return 1 / (self.plan.p_ref * self.plan.alpha)

    def add(self, news: Tally) -> bool:
        """What was counted since the last call; says whether the alarm goes off. Call it often: epochs begin between
        calls."""
        if not self.epochs:
            self._begin(1)
        p, caught, missed, unseen = _arrays(self.plan, news)
        self.log_bets = self.log_bets + _bets_above(self.plan, self.plan.alpha, missed, p, caught + unseen)
        alarm = self.alarm
        self.positives += news.positives
        whole, self.positives = divmod(self.positives, self.epoch_positives)
        self._begin(int(whole))
        return alarm

    @property
    def alarm(self) -> bool:
        return bool(_log_mean(self.log_bets) >= math.log(self.patience))

    def _begin(self, epochs: int) -> None:
        if epochs:
            self.epochs += epochs
            self.log_bets = np.logaddexp(self.log_bets, math.log(epochs))

    def to_document(self) -> dict[str, Any]:
        bets = [None if math.isinf(bet) else bet for bet in self.log_bets.tolist()]
        return {"epochs": self.epochs, "positives": self.positives, "log_bets": bets}

    @classmethod
    def from_document(cls, plan: AuditPlan, patience: float, document: Mapping[str, Any]) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` if those are no bets of this plan."""
        bets = np.array([-np.inf if bet is None else float(bet) for bet in document["log_bets"]])
        read = cls(plan, patience, int(document["epochs"]), float(document["positives"]), bets)
        if bets.shape != BETS_ABOVE.shape or np.isnan(bets).any() or (bets == np.inf).any():
            raise ValueError(f"there are {len(BETS_ABOVE)} bets, and each is a number")
        if not (1 < patience < math.inf and read.epochs >= 0 and 0 <= read.positives <= read.epoch_positives):
            raise ValueError("no such epoch comes of these bets")
        if (np.isfinite(bets) != bool(read.epochs)).any():
            raise ValueError("a bet joins with every epoch, and none before")
        return read
