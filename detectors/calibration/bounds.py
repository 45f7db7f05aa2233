"""What a number of misses among a number of positives proves. Pure statistics; no data, models or files.

`alpha` is the miss rate that is to be promised, `delta` the probability that the draw of the calibration data makes the
promise false. All rates are fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

Test: TypeAlias = Literal["exact", "e-value"]
"""`exact` for data that were drawn once; `e-value` for data that somebody added to after a look at the outcome."""

_POINT = 0.4  # the weight of "there is no miss at all"
_SHARES = (1 / 8, 1 / 4, 1 / 2)  # of alpha: the rates that the rest of the wealth is on
_WEIGHT = 0.2


def p_value(misses: int, positives: int, alpha: float) -> float:
    """The probability of no more than `misses` if the miss rate were `alpha`: the exact binomial tail."""
    from scipy.stats import binom

    return float(binom.cdf(misses, positives, alpha))


def log_e_value(misses: int, positives: int, alpha: float) -> float:
    """The logarithm of the wealth of a bet against "the miss rate is `alpha` or more".

    Its mean under that claim is at most 1 whenever one stops to look, so it passes 1/δ with probability δ at most.
    """
    hits = positives - misses
    bets = [math.log(_POINT) - positives * math.log1p(-alpha)] if misses == 0 else []
    for share in _SHARES:
        q = share * alpha
        bets.append(math.log(_WEIGHT) + misses * math.log(share) + hits * (math.log1p(-q) - math.log1p(-alpha)))
    most = max(bets)
    return most + math.log(sum(math.exp(bet - most) for bet in bets))


def evidence(misses: int, positives: int, alpha: float, test: Test = "exact") -> float:
    """How likely it is at most that a miss rate of `alpha` or more looks this good: accept where it is ≤ δ.

    For `e-value` it is 1/E, which can be above 1.
    """
    if test == "exact":
        return p_value(misses, positives, alpha)
    return math.exp(min(-log_e_value(misses, positives, alpha), 700.0))


def fixed_sequence(p_values: Sequence[float], delta: float) -> int | None:
    """The index of the last accepted threshold, or None. `p_values` stand from the most cautious threshold on; each is
    accepted while it is ≤ δ, and the first that is not ends it: what lies behind was never tested.

    Where several claims have to hold for one threshold (several classes, misses and false alarms), its p is the
    largest of theirs, with no split of δ.
    """
    last = None
    for index, p in enumerate(p_values):
        if not p <= delta:
            break
        last = index
    return last


def provable(misses: int, positives: int, delta: float, test: Test = "exact") -> float:
    """The least `alpha` that `misses` among `positives` prove: 40 positives without a miss prove 7.2 % at δ = 5 %."""
    if misses >= positives:
        return 1.0
    if test == "exact":
        from scipy.stats import beta

        return float(beta.ppf(1 - delta, misses + 1, positives - misses))
    return _least(lambda alpha: evidence(misses, positives, alpha, test) <= delta)


def positives_needed(alpha: float, delta: float, misses: int = 0, test: Test = "exact") -> int:
    """The least number of positives among which `misses` still prove `alpha`."""
    low, high = misses, max(2 * misses, 1)
    while evidence(misses, high, alpha, test) > delta:  # more positives without a further miss: always better
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if evidence(misses, middle, alpha, test) <= delta else (middle, high)
    return high


def missing_positives(positives: int, alpha: float, delta: float, test: Test = "exact") -> int:
    """How many more it takes before `alpha` could be proved at all; 0 where there are enough. It is asked before
    anybody looks at a miss, so to refuse on it costs no δ."""
    return max(0, positives_needed(alpha, delta, 0, test) - positives)


def _least(holds: Callable[[float], bool]) -> float:
    """The least share of 1 for which `holds`, which is false below and true above it; 1 where it never does."""
    low, high = 0.0, 1.0
    for _ in range(50):  # so that the middle never comes to 1
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
