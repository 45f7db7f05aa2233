"""Raw PCM: bytes as they come, in pieces of any size."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pipeline.core.records import Item
from sources.hearing import MOST_CHANNELS, Rate, SoundSource
from sources.sound_windows import SoundWindows

BLOCK = 1 << 16
"""How many bytes are read at once at most."""

_TYPES: dict[str, np.dtype[Any]] = {
    "s16le": np.dtype("<i2"),
    "s32le": np.dtype("<i4"),
    "f32le": np.dtype("<f4"),
    "u8": np.dtype("u1"),
}


class RawSound(SoundSource):
    """What bytes without a header mean: it has to be told, for they do not say it."""

    format: Literal["s16le", "s32le", "f32le", "u8"] = Field("s16le", description="what a sample is, in FFmpeg's words")
    rate_in: Rate = Field(16_000, description="samples a second that come")
    channels: Annotated[int, Field(ge=1, le=MOST_CHANNELS)] = Field(1, description="interleaved")


class RawDecoder:
    """Bytes in, windows out. What is no whole frame yet waits for its rest."""

    def __init__(self, plan: RawSound, stream: str, epoch: str) -> None:
        self.windows = SoundWindows(plan, stream, epoch)
        self._plan, self._type = plan, _TYPES[plan.format]
        self._frame = self._type.itemsize * plan.channels
        self._rest = b""

    def feed(self, data: bytes, mono_ns: int, wall_ns: int) -> list[Item]:
        """The windows that end with `data`."""
        data = self._rest + data
        whole = len(data) - len(data) % self._frame
        self._rest = data[whole:]
        if not whole:
            return []
        samples = np.frombuffer(data[:whole], self._type).reshape(-1, self._plan.channels).T
        return self.windows.feed(samples, self._plan.rate_in, mono_ns, wall_ns)

    def finish(self) -> list[Item]:
        """The end: the last hop, and half a sample as a hop of its own that is damaged."""
        torn, self._rest = self._rest, b""
        return (self.windows.lose(1, "damaged") if torn else []) + self.windows.finish()
