"""Watches what a live feed shows of itself: black, frozen, damaged, a clock that leaps.

A still scene may be bit-identical for minutes after encoding, so `frozen` is no fault: it means that the verdict of the
first such frame holds for the rest (until the refresh), which the caller sees to.
"""

from __future__ import annotations

import numpy as np

from pipeline.core.payloads import Image
from pipeline.core.records import Array, SourceState

BLACK_LEVEL = 24  # limited-range black is 16; a lens cap adds some noise
FROZEN_AFTER_NS = 2_000_000_000
JUMP_NS = 5_000_000_000  # media time against arrival
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
        self._last_pts_ns: int | None = None
        self._last_mono_ns = 0
        self._shift_ns = 0

    def damaged(self, mono_ns: int) -> None:
        """A frame arrived that was not whole."""
        self._trouble, self._trouble_until_ns = SourceState.DAMAGED, mono_ns + SHOWN_FOR_NS

    def media_time(self, pts_ns: int, mono_ns: int, duration_ns: int) -> int:
        """`pts_ns` on a time line without leaps: where the feed's clock jumps, arrival decides how far."""
        if self._last_pts_ns is not None:
            step, passed = pts_ns - self._last_pts_ns, mono_ns - self._last_mono_ns
            if step < 0 or step - passed > JUMP_NS:  # the other way round, the line stood still: no leap of the clock
                self._shift_ns += max(passed, duration_ns) - step
                self._trouble, self._trouble_until_ns = SourceState.JUMPING, mono_ns + SHOWN_FOR_NS
        self._last_pts_ns, self._last_mono_ns = pts_ns, mono_ns
        return pts_ns + self._shift_ns

    def see(self, image: Image, pts_ns: int, mono_ns: int) -> SourceState:
        """The feed's state with this frame in it. `pts_ns` as `media_time` gave it."""
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
