"""Passes a frame when something moved since the last frame that was judged; noise and slow light do not count."""

from __future__ import annotations

from typing import ClassVar, Final, cast

import numpy as np
from pydantic import Field, PositiveFloat

from pipeline.core.contracts import Gate, GatePlan
from pipeline.core.records import Array

_CELLS: Final = 18  # along the shorter side: a cell is 0.2 % of a 16:9 picture, a person who matters spans several
_CEILING: Final = 3.0  # times the threshold: however loud the noise seems, a cell that changed so much did change
_TALLEST: Final = 257  # samples, the most whose sum fits in 16 bits
_NORMAL_Q75: Final = 1.1503  # the 75th percentile of |x|, x normal with deviation 1


class Motion(GatePlan):
    """Compares the mean luma of cells with that of the last judged frame, so that slow light adds up until it is
    worth a look, and then starts anew.

    A cell moved when it differs by more than `threshold` and by more than `sigmas` deviations of the noise. The noise
    is read off each frame from how neighbouring cells disagree, which a thing larger than a cell leaves alone.
    """

    name: ClassVar[str] = "motion"

    threshold: PositiveFloat = Field(default=6.0, le=255, description="least change of a cell's mean luma, of 255")
    sigmas: float = Field(default=5.0, ge=0, description="and at least this many deviations of the noise")
    cells: int = Field(default=1, ge=1, description="how many cells have to move")

    def start(self) -> Gate:
        return _MotionGate(self)


class _MotionGate:
    name = Motion.name
    carries = True

    def __init__(self, plan: Motion) -> None:
        self._plan = plan
        self._reference: Array | None = None
        self._shape: tuple[int, ...] = ()

    def changed(self, luma: Array, pts_ns: int) -> bool:
        if self._reference is None or luma.shape != self._shape:
            return True
        difference = _cell_means(luma) - self._reference
        plan = self._plan
        moved = np.abs(difference)
        if moved.max() <= plan.threshold:  # the usual case of a still scene needs no look at the noise
            return False
        limit = min(max(plan.threshold, plan.sigmas * _noise(difference)), plan.threshold * _CEILING)
        return int(np.count_nonzero(moved > limit)) >= plan.cells

    def judged(self, luma: Array, pts_ns: int) -> None:
        self._shape = luma.shape
        self._reference = _cell_means(luma)

    def forget(self) -> None:
        self._reference = None


def _cell_means(luma: Array) -> Array:
    """uint8 `[h, w]` → float32 means of cells, about 18 along the shorter side. What does not fill a cell is cut off
    evenly at the edges."""
    height, width = luma.shape
    target = min(height, width) / _CELLS
    tall, wide = _cell_side(height, target), _cell_side(width, target)
    rows, columns = height // tall, width // wide
    top, left = height % tall // 2, width % wide // 2
    inner = luma[top : top + rows * tall, left : left + columns * wide]
    # rows first: whole lines are added at once, in 16 bits, which is twice as fast as in 32
    sums = inner.reshape(rows, tall, -1).sum(axis=1, dtype=np.uint16)
    means = sums.reshape(rows, columns, wide).sum(axis=2, dtype=np.uint32) * np.float32(1 / (tall * wide))
    return cast(Array, means.astype(np.float32, copy=False))


def _cell_side(length: int, target: float) -> int:
    """A side near `target` of which `length` is a multiple, or nearly."""
    sides = range(max(1, min(int(target * 0.7), _TALLEST)), max(1, min(int(target * 1.4), _TALLEST)) + 1)
    return min(sides, key=lambda side: (length % side, abs(side - target)))


def _noise(difference: Array) -> float:
    """The deviation of a cell's noise, from what neighbours in a row differ by."""
    steps = np.abs(difference[:, 1:] - difference[:, :-1]).ravel()
    if not steps.size:
        return 0.0
    rank = steps.size * 3 // 4
    return float(np.partition(steps, rank)[rank]) / (_NORMAL_Q75 * 2**0.5)
