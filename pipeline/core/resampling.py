"""Sound from one sample rate to another, as it comes: however it is cut up, the result is the same to the bit."""

from __future__ import annotations

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from pipeline.core.records import Array


class Resampler:
    """One stretch of one channel, float32, from `rate_in` to `rate` samples a second (libswresample).

    Sample `n` of the result lies at `n / rate` seconds behind the first one given. What the filter still looks at
    comes with a later `push`, or with `flush`.
    """

    def __init__(self, rate_in: int, rate: int) -> None:
        self.rate_in, self.rate = rate_in, rate
        self.taken = 0
        self.given = 0
        self._resampler = AudioResampler("fltp", "mono", rate) if rate_in != rate else None

    def push(self, samples: Array) -> Array:
        """float32 `[n]` → float32 `[m]`."""
        self.taken += len(samples)
        if self._resampler is None:
            self.given = self.taken
            return samples
        if not len(samples):
            return samples
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "fltp", "mono")
        frame.sample_rate = self.rate_in
        return self._pull(frame)

    def flush(self) -> Array:
        """The rest. Behind it, as many samples were given as fit into the time of those taken."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        before, due = self.given, self.taken * self.rate // self.rate_in
        rest = self._pull(None)
        self.given = due
        # the library rounds as it likes, and says nothing at all of less than its filter's length
        return np.concatenate((rest, np.zeros(max(0, due - before - len(rest)), np.float32)))[: due - before]

    def _pull(self, frame: AudioFrame | None) -> Array:
        assert self._resampler is not None
        pieces = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame) if piece is not None]
        samples = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        self.given += len(samples)
        return samples
