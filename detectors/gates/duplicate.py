"""Passes a frame unless it is the last judged one again, bit for bit or nearly: a still encoded scene, a shared screen,
a camera that repeats itself."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from pipeline.core.contracts import Gate, GatePlan
from pipeline.core.records import Array


class Duplicate(GatePlan):
    """With a `tolerance` of 0 the luma sample has to be the same bit for bit."""

    name: ClassVar[str] = "duplicate"

    tolerance: float = Field(default=0.0, ge=0, le=255, description="mean absolute difference of luma, of 255")

    def start(self) -> Gate:
        return _DuplicateGate(self.tolerance)


class _DuplicateGate:
    name = Duplicate.name
    carries = True

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._reference: Array | None = None

    def changed(self, luma: Array, pts_ns: int) -> bool:
        reference = self._reference
        if reference is None or luma.shape != reference.shape:
            return True
        if self._tolerance == 0:
            return not np.array_equal(luma, reference)
        # unsigned, so the difference is taken the way round that cannot wrap
        apart = np.maximum(luma, reference) - np.minimum(luma, reference)
        return int(apart.sum(dtype=np.uint64)) > self._tolerance * luma.size

    def judged(self, luma: Array, pts_ns: int) -> None:
        self._reference = luma.copy()

    def forget(self) -> None:
        self._reference = None
