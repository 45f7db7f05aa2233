"""Distributions that cost next to nothing to keep: counts in logarithmic buckets, 12 to a decade."""

from __future__ import annotations

import time
from bisect import bisect_left

from pipeline.core.snapshot import Latency

_PER_DECADE = 12
BOUNDS_S: tuple[float, ...] = tuple(10 ** (-4 + i / _PER_DECADE) for i in range(6 * _PER_DECADE + 1))
"""Upper bounds from 0.1 ms to 100 s, each 21 % above the last: that is the error of a quantile at worst."""


class Histogram:
    """Not thread-safe: whoever owns it holds a lock anyway."""

    __slots__ = ("_count", "_counts", "_most", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._count = 0
        self._sum = 0.0
        self._most = 0.0

    def record(self, seconds: float, times: int = 1) -> None:
        self._counts[bisect_left(BOUNDS_S, seconds)] += times
        self._count += times
        self._sum += seconds * times
        self._most = max(self._most, seconds)

    def add(self, other: Histogram) -> None:
        """Fold `other` into this one."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self._count += other._count
        self._sum += other._sum
        self._most = max(self._most, other._most)

    def _quantile(self, share: float) -> float:
        """In seconds, interpolated within its bucket."""
        rank, below = share * self._count, 0
        for i, n in enumerate(self._counts):
            if n and below + n >= rank:
                low = BOUNDS_S[i - 1] if i else 0.0
                high = BOUNDS_S[i] if i < len(BOUNDS_S) else self._most
                return min(low + (high - low) * (rank - below) / n, self._most)
            below += n
        return 0.0

    def latency(self) -> Latency:
        buckets, below = [], 0
        for bound, n in zip(BOUNDS_S, self._counts, strict=False):
            below += n
            buckets.append((bound, below))
        return Latency(
            count=self._count,
            sum_s=self._sum,
            p50_ms=self._quantile(0.5) * 1e3,
            p90_ms=self._quantile(0.9) * 1e3,
            p99_ms=self._quantile(0.99) * 1e3,
            max_ms=self._most * 1e3,
            buckets=tuple(buckets),
        )


class Rate:
    """Events a second over the last few seconds, from a counter that is looked at now and then."""

    __slots__ = ("_marks",)

    _SPAN_S = 5.0

    def __init__(self) -> None:
        self._marks: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def per_s(self, now_s: float, count: int) -> float:
        marks = self._marks
        if now_s - marks[-1][0] >= 0.2:
            marks.append((now_s, count))
        while len(marks) > 2 and now_s - marks[1][0] >= self._SPAN_S:
            marks.pop(0)
        since_s, since = marks[0]
        return (count - since) / (now_s - since_s) if now_s > since_s else 0.0
