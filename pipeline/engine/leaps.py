"""A live reader's clock may leap: its tracks are put back on one time line, and stay together on it."""

from __future__ import annotations

JUMP_NS = 5_000_000_000  # media time against arrival
WOBBLE_NS = 100_000_000  # sound that follows a sender's clock may step back by so much, and nothing leapt


class Leaps:
    """Of one connection. Its tracks leap one after the other, by the same; the first says by how much."""

    def __init__(self) -> None:
        self.shift_ns = 0


class TrackTime:
    """One track of a reader; called with each whole item in order."""

    def __init__(self, of: Leaps, *, wobble_ns: int = 0) -> None:
        self.shift_ns = 0
        """From the track's media time to a time line without leaps."""
        self._of = of
        self._wobble_ns = wobble_ns
        self._last: tuple[int, int] | None = None

    def leaps(self, at_ns: int, mono_ns: int, duration_ns: int) -> bool:
        """Whether the clock leapt before what is of the media time `at_ns`, lasts for `duration_ns` and arrived at
        `mono_ns`. Arrival decides how far, unless another track knows that already: `shift_ns` is set."""
        if self._last is None:
            self.shift_ns = self._of.shift_ns
            self._last = at_ns, mono_ns
            return False
        step, passed = at_ns - self._last[0], mono_ns - self._last[1]
        self._last = at_ns, mono_ns
        further = self._of.shift_ns - self.shift_ns
        if further and abs(step + further - passed) < abs(step - passed):  # now this track leaps, too
            self.shift_ns = self._of.shift_ns
            return True
        due = max(passed, duration_ns)
        if step >= -self._wobble_ns and step - due <= JUMP_NS:  # less than what passed: the line stood still, no leap
            return False
        self.shift_ns += due - step
        self._of.shift_ns = self.shift_ns
        return True
