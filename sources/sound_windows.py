"""Samples in, sliding windows out: resampled without a seam, timed by counting samples, whole or not at all."""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

import numpy as np

from pipeline.core.records import Array, Chunk, Gap, Item
from pipeline.core.resampling import Resampler
from pipeline.core.sound import Sound
from sources.hearing import FASTEST, SLOWEST, HearingSettings

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
_DRIFT_NS = 10_000_000
_MOST_TOLD = 8
_NUMBERS = {"mix": None, "left": 0, "right": 1}
_HALVES = {"uint8": 1 << 7, "int16": 1 << 15, "int32": 1 << 31}
_Reason: TypeAlias = Literal["damaged", "undecoded"]


def as_float(samples: Array) -> Array:
    """PCM of any type that FFmpeg knows → float32, full scale -1…1."""
    half = _HALVES.get(samples.dtype.name)
    if half is None:
        with np.errstate(over="ignore"):  # a double too large for a float is as bad as infinite
            return samples.astype(np.float32, copy=False)
    return (samples.astype(np.float32) - (half if samples.dtype == np.uint8 else 0)) / np.float32(half)


class SoundWindows:
    """One stream's windows: a `Chunk` a hop, each with the latest `window_s` (less at the beginning), the last hop
    as long as it is.

    `pts_ns` is the window's first sample, its end the newest one. Time is counted in samples from where a stretch of
    sound begins. A new one begins where samples are missing, so that no window spans a hole: where time stamps leap by
    more than `hole_ns`, behind what was lost, and behind a hop with a sample that is no number, which is a `damaged`
    gap. A sender's clock that drifts is followed. Where the sample rate changes, the sound goes on.
    """

    def __init__(self, settings: HearingSettings, stream: str, epoch: str, *, hole_ns: int = 50_000_000) -> None:
        hears = settings.hears
        self.rate = hears.rate
        self.chunks = 0
        self.clipped = 0
        self._stream, self._epoch, self._hole_ns = stream, epoch, hole_ns
        self._window = hears.samples
        self._hop = min(max(1, round(settings.hop_s * self.rate)), self._window)
        self._channel = settings.channel
        self._seq = 0
        self._told: set[str] = set()
        self._arrived = 0, 0
        self._loses = False
        self._lost_ns = 0  # beyond the hops that were counted
        self._lost_as: _Reason = "damaged"
        self._resampler = Resampler(self.rate, self.rate)
        self._began = False
        self._begin(0)

    def _begin(self, at_ns: int) -> None:
        """A new stretch: nothing before it is heard any more."""
        self._begin_ns = at_ns
        self._held = np.zeros(0, np.float32)  # the latest samples of the stretch
        self._out = 0  # samples of the stretch so far
        self._told_to = 0  # and those of them that are in a window
        self._base = 0  # samples of it that other resamplers made
        self._skipped = 0  # samples that are still to come before it begins
        self._off_ns = 0  # how far the time stamps are ahead of the samples
        self._resampler = Resampler(self._resampler.rate_in, self.rate)

    @property
    def received(self) -> int:
        """Hops that came, whole or not."""
        return self._seq

    @property
    def next_ns(self) -> int:
        """Media time of the sample that comes next."""
        taken = (self._resampler.taken - self._skipped) * _SECOND // self._resampler.rate_in
        return self._begin_ns + self._base * _SECOND // self.rate + taken

    def feed(self, samples: Array, rate: int, mono_ns: int, wall_ns: int, at_ns: int | None = None) -> list[Item]:
        """PCM `[channels, n]`, `rate` of them a second, which arrived at `mono_ns`; the first is of the media time
        `at_ns`, if anybody knows."""
        if not SLOWEST <= rate <= FASTEST:  # what a header can claim: resampled, a packet of it might fill the memory
            self._say(f"it claims {rate} samples a second; what comes like that is not judged")
            return self.lose(self._hop * _SECOND // self.rate, "damaged")
        picked = self._picked(as_float(samples))
        if picked is None:
            self._say(f"there is no channel {self._channel} in it; what comes without is not judged")
            return self.lose(samples.shape[1] * _SECOND // rate, "damaged")
        items = self._found()
        if at_ns is not None:
            items += self._place(at_ns)
        self._began = True
        self._arrived = mono_ns, wall_ns
        if rate != self._resampler.rate_in:
            items += self._switch(rate)
        while len(picked):
            skipped = min(self._skipped, len(picked))
            self._skipped -= skipped
            picked = picked[skipped:]
            bad = np.flatnonzero(~np.isfinite(picked))
            whole = picked[: bad[0]] if len(bad) else picked
            items += self._heard(self._resampler.push(self._within(whole)))
            picked = picked[len(whole) :]
            if len(picked):
                items += self._damaged()
        return items

    def lose(self, duration_ns: int, reason: _Reason) -> list[Item]:
        """So much sound came, and is of no use. It is counted in hops."""
        items = [] if self._loses else self.flush()
        self._begin_ns += duration_ns
        self._loses, self._lost_as = True, reason
        count, self._lost_ns = divmod(self._lost_ns + duration_ns, self._hop * _SECOND // self.rate)
        return [*items, self._gap(reason, count)] if count else items

    def flush(self) -> list[Item]:
        """The end of a stretch: what the filter still held, and the last hop, however short."""
        items = self._heard(self._resampler.flush())
        if self._out > self._told_to:
            items.append(self._chunk(self._out))
        self._begin(self.next_ns)
        return items

    def finish(self) -> list[Item]:
        """The end of the stream."""
        return [*self.flush(), *self._found()]

    def _found(self) -> list[Item]:
        """Sound comes again: the rest of what was lost is a hop, too."""
        lost_ns, self._lost_ns, self._loses = self._lost_ns, 0, False
        return [self._gap(self._lost_as, 1)] if lost_ns else []

    def _picked(self, samples: Array) -> Array | None:
        """One channel of `[channels, n]`; None where there is no such channel."""
        if len(samples) == 1 and self._channel in {"mix", "left", "right"}:
            return np.asarray(samples[0])
        number = _NUMBERS[self._channel] if isinstance(self._channel, str) else self._channel
        if number is None:
            with np.errstate(over="ignore", invalid="ignore"):
                return np.asarray(samples.mean(axis=0, dtype=np.float32))
        return np.asarray(samples[number]) if number < len(samples) else None

    def _within(self, samples: Array) -> Array:
        over = int(np.count_nonzero(np.abs(samples) > 1))
        if not over:
            return samples
        self.clipped += over
        self._say("its sound is too loud: samples beyond full scale are clipped")
        return np.clip(samples, -1, 1)

    def _place(self, at_ns: int) -> list[Item]:
        off_ns = at_ns - self.next_ns
        if not self._began:
            self._begin(at_ns)
        elif abs(off_ns - self._off_ns) > self._hole_ns:
            items = self.flush()
            self._begin(at_ns)
            return items
        elif abs(off_ns) > _DRIFT_NS:
            self._begin_ns += off_ns
            self._off_ns = 0
        else:
            self._off_ns = off_ns
        return []

    def _switch(self, rate: int) -> list[Item]:
        """Another sample rate: what was heard before stays in the window."""
        if self.chunks or self._out:
            self._say(f"its sample rate changed from {self._resampler.rate_in} to {rate} Hz; it goes on")
        items = self._heard(self._resampler.flush())
        self._base, self._skipped = self._out, 0
        self._resampler = Resampler(rate, self.rate)
        return items

    def _damaged(self) -> list[Item]:
        """The next sample is no number. What is whole before its hop is heard; it goes on behind that hop."""
        resampler, hop = self._resampler, self._hop
        taken, rate_in = resampler.taken, resampler.rate_in
        behind = ((self._base * rate_in + taken * self.rate) // (rate_in * hop) + 1) * hop  # where its hop ends
        rest = -(-(behind - self._base) * rate_in // self.rate) - taken
        items = self._heard(resampler.flush())
        items.append(self._gap("damaged", 1))
        self._begin(self._begin_ns + behind * _SECOND // self.rate)
        self._skipped = rest
        return items

    def _heard(self, samples: Array) -> list[Item]:
        self._held = np.concatenate((self._held, np.clip(samples, -1, 1)))  # a filter may swing beyond full scale
        self._out += len(samples)
        items: list[Item] = []
        while self._out - self._told_to >= self._hop:
            items.append(self._chunk(self._told_to + self._hop))
        kept = self._out - self._told_to + self._window
        self._held = self._held[max(0, len(self._held) - kept) :]
        return items

    def _chunk(self, end: int) -> Chunk:
        """The window that ends before sample `end` of the stretch."""
        first = max(0, end - self._window)
        from_end = self._out - end
        samples = self._held[len(self._held) - from_end - (end - first) : len(self._held) - from_end].copy()
        start_ns, end_ns = (self._begin_ns + n * _SECOND // self.rate for n in (first, end))
        payload = Sound(samples, self.rate, start_ns, end - self._told_to)
        self._told_to = end
        self._seq += 1
        self.chunks += 1
        return Chunk(self._stream, self._epoch, self._seq - 1, start_ns, end_ns - start_ns, *self._arrived, payload)

    def _gap(self, reason: _Reason, count: int) -> Gap:
        self._seq += count
        return Gap(self._stream, reason, count)

    def _say(self, what: str) -> None:
        if what not in self._told and len(self._told) < _MOST_TOLD:  # a sender may go on like that for days
            self._told.add(what)
            log.warning("%s: %s", self._stream, what)
