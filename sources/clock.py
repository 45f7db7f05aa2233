"""The media time that the tracks of one reader share."""

from __future__ import annotations

from fractions import Fraction

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

_SECOND = 1_000_000_000


class Clock:
    """0 where the first track begins; behind a `restart`, on from where the round before it ended."""

    def __init__(self) -> None:
        self.end_ns = 0
        self._shift_ns = 0
        self.origin_ns: int | None = None
        """The time stamp with which this round begins, once it is known."""

    def restart(self, origin_ns: int | None = None) -> None:
        """Another round. It begins at `origin_ns` of its own time stamps, or with whatever comes first."""
        self._shift_ns, self.origin_ns = self.end_ns, origin_ns

    def at(self, stamp_ns: int) -> int:
        """A time stamp of this round as media time."""
        if self.origin_ns is None:
            self.origin_ns = stamp_ns
        return self._shift_ns + stamp_ns - self.origin_ns

    def reached(self, end_ns: int) -> None:
        """Media time has come this far."""
        self.end_ns = max(self.end_ns, end_ns)


def start_ns(*tracks: VideoStream | AudioStream) -> int | None:
    """Where the first of them begins by its own time stamps; None where the container does not say it of all."""
    starts = [ns(track.start_time, track.time_base) for track in tracks]
    return None if None in starts else min(start for start in starts if start is not None)


def ns(stamp: int | None, base: Fraction | None) -> int | None:
    """A time stamp in nanoseconds."""
    return None if stamp is None or base is None else stamp * base.numerator * _SECOND // base.denominator
