"""How a figure is taken: a subject and its baseline in turns, in one run, so that whatever else the machine does hits
both; the median of the pairwise ratios, with a bootstrap interval."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pipeline.app.garbage import passed_over

Timed: TypeAlias = Callable[[], float]
"""Does the work once and says how fast it was: a rate, or seconds."""

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the interval in which it lies with 95 % confidence."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Figures of subject and baseline, taken in turns: `subject[i]` right beside `baseline[i]`."""

    subject: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def ratio(self) -> Spread:
        """Subject over baseline, pair by pair."""
        return spread([s / b for s, b in zip(self.subject, self.baseline, strict=True)])


def spread(values: Sequence[float], seed: int = 0) -> Spread:
    """The median of `values` (at least one) and its 95 % bootstrap interval."""
    array = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).choice(array, (_RESAMPLES, array.size))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Spread(float(np.median(array)), float(low), float(high))


def in_turns(subject: Timed, baseline: Timed, pairs: int, warm: int = 1) -> Pairs:
    """`pairs` figures of each, after `warm` that do not count. Who goes first changes from pair to pair, so that
    neither always has the warmer caches."""
    for _ in range(warm):
        subject()
        baseline()
    subjects, baselines = [], []
    with passed_over():
        for turn in range(pairs):
            gc.collect()
            if turn % 2:
                baselines.append(baseline())
                subjects.append(subject())
            else:
                subjects.append(subject())
                baselines.append(baseline())
    return Pairs(tuple(subjects), tuple(baselines))


def rate(work: Callable[[], int]) -> Timed:
    """`work`, which says how many it did, as a rate a second."""

    def timed() -> float:
        begun = time.perf_counter()
        count = work()
        return count / (time.perf_counter() - begun)

    return timed


def core_seconds(work: Callable[[], int]) -> float:
    """Processor seconds of this process, all threads together, for each thing that `work` did."""
    begun = time.process_time()
    count = work()
    return (time.process_time() - begun) / count
