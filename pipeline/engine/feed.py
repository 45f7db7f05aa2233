"""Watches what a live feed shows of itself: black, frozen, damaged, or that its clock leapt.

A still scene may be bit-identical for minutes after encoding, so `frozen` is no fault: it means that the verdict of the
first such frame holds for the rest (until the refresh), which the caller sees to.
"""

from __future__ import annotations

import numpy as np

from pipeline.core.payloads import Image
from pipeline.core.records import Array, SourceState

BLACK_LEVEL = 24  # limited-range black is 16; a lens cap adds some noise
FROZEN_AFTER_NS = 2_000_000_000
SHOWN_FOR_NS = 3_000_000_000  # how long a passing trouble stays in sight


class FeedWatch:
    """One per connection; called with each whole frame in order."""

    def __init__(self) -> None:
        self.state = SourceState.LIVE
        self.since_ns = 0  # media time at which the state began
        self._luma: Array | None = None
        self._mark: int | None = None
        self._same_since_ns = 0
        self._trouble: SourceState | None = None
        self._trouble_until_ns = 0

    def damaged(self, mono_ns: int) -> None:
        """A frame arrived that was not whole."""
        self._trouble, self._trouble_until_ns = SourceState.DAMAGED, mono_ns + SHOWN_FOR_NS

    def leapt(self, mono_ns: int) -> None:
        """The feed's clock did (see `leaps`)."""
        self._trouble, self._trouble_until_ns = SourceState.JUMPING, mono_ns + SHOWN_FOR_NS

    def see(self, image: Image, pts_ns: int, mono_ns: int) -> SourceState:
        """The feed's state with this frame in it. `pts_ns` on a time line without leaps."""
        luma = image.luma()
        same = self._same(image, luma)
        if not same:
            self._same_since_ns = pts_ns
        self._luma = luma
        if luma.max() < BLACK_LEVEL or (luma.mean() < BLACK_LEVEL and luma.std() < 2.0):
            state = SourceState.BLACK
        elif same and pts_ns - self._same_since_ns >= FROZEN_AFTER_NS:
            state = SourceState.FROZEN
        elif self._trouble is not None and mono_ns < self._trouble_until_ns:
            state = self._trouble
        else:
            state = SourceState.LIVE
        if state is not self.state:
            self.state, self.since_ns = state, self._same_since_ns if state is SourceState.FROZEN else pts_ns
        return state

    def _same(self, image: Image, luma: Array) -> bool:
        """Bit for bit the frame before? The whole plane is looked at only when the sample says so."""
        if self._luma is None or not np.array_equal(luma, self._luma):
            self._mark = None
            return False
        mark = image.fingerprint()
        known, self._mark = self._mark, mark
        return known == mark
