"""Sound as it flows: stretches of one channel, float32 in -1…1, at the rate that the model hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.core import media
from pipeline.core.errors import StageError
from pipeline.core.media import Medium, Payload, Spec
from pipeline.core.records import Array, Box


@dataclass(frozen=True, slots=True)
class SoundSpec(Spec):
    """A model hears `samples` samples at once, `rate` a second: float32 `[samples]` in -1…1. Levels, spectra and their
    scale are the model graph's business."""

    medium: ClassVar[Medium] = "sound"

    rate: int
    samples: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples,)

    @property
    def dtype(self) -> str:
        return "float32"

    def words(self) -> str:
        return f"{self.samples} samples at {self.rate} Hz"

    @property
    def duration_ns(self) -> int:
        return self.samples * 1_000_000_000 // self.rate


@dataclass(frozen=True, slots=True)
class SoundView(media.View):
    """What a stage hears: float32 `[samples]`, the first of them at `start_ns` of media time. Where the stream had not
    begun yet, there is silence, and `heard_from` counts the samples of it."""

    samples: Array
    rate: int
    start_ns: int
    heard_from: int = 0

    @property
    def data(self) -> Array:
        return self.samples

    def to_source(self, spans: Array) -> Array:
        """`spans` `[N, 2]` in seconds of the view → int64 `[N, 2]` in nanoseconds of media time, within what was
        heard."""
        first = self.start_ns + self.heard_from * 1_000_000_000 // self.rate
        last = self.start_ns + len(self.samples) * 1_000_000_000 // self.rate
        return np.clip(self.start_ns + np.rint(np.asarray(spans, np.float64) * 1e9).astype(np.int64), first, last)


class Sound(Payload):
    """A window of sound: float32 `[n]`, the first sample at `start_ns` of media time, the last `fresh` of them new
    since the window before."""

    __slots__ = ("_samples", "fresh", "rate", "start_ns")
    medium: ClassVar[Medium] = "sound"
    by_end: ClassVar[bool] = True  # a window begins long before what is new of it

    def __init__(self, samples: Array, rate: int, start_ns: int, fresh: int | None = None) -> None:
        samples.flags.writeable = False
        self._samples = samples
        self.rate = rate
        self.start_ns = start_ns
        self.fresh = len(samples) if fresh is None else fresh

    @property
    def samples(self) -> Array:
        return self._samples

    def view(self, spec: SoundSpec, region: Box | None = None) -> SoundView:
        """The latest `spec.samples` of it, behind silence where it is shorter. Raises `StageError`, also for a region:
        sound has none."""
        if region is not None:
            raise StageError("a sound has no regions")
        if spec.rate != self.rate:
            raise StageError(f"the model hears {spec.rate} samples a second and the stream has {self.rate}")
        given, wanted = self._samples, spec.samples
        start_ns = self.start_ns + (len(given) - wanted) * 1_000_000_000 // self.rate
        if len(given) >= wanted:
            return SoundView(given[len(given) - wanted :], self.rate, start_ns)
        samples = np.zeros(wanted, np.float32)
        samples[wanted - len(given) :] = given
        samples.flags.writeable = False
        return SoundView(samples, self.rate, start_ns, wanted - len(given))

    def sample(self) -> Array:
        """What is new: float32 `[fresh]`."""
        return self._samples[len(self._samples) - self.fresh :]

    def move(self, by_ns: int) -> None:
        self.start_ns += by_ns

    def release(self) -> None:
        """There is nothing to let go: it is an array of its own."""
