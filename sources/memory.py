"""Pictures that are there already, and faults by script: for tests, notebooks and benches."""

from __future__ import annotations

import hashlib
import time
from base64 import b32hexencode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from av.video.frame import VideoFrame
from pydantic import ConfigDict, Field, PositiveFloat, PrivateAttr

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.payloads import FrameImage, Image
from pipeline.core.records import Array, Chunk, Gap, Item, Watermark
from sources.ffmpeg import new_epoch
from sources.pace import Pace
from sources.resuming import PassedOver, Resumable


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection breaks here."""

    reason: str = "broken off by script"


@dataclass(frozen=True, slots=True)
class Refused:
    """What came is of no use, now and later."""

    reason: str = "refused by script"


@dataclass(frozen=True, slots=True)
class Missing:
    """Frames that were received and are not to be judged."""

    count: int = 1
    reason: Literal["damaged", "undecoded"] = "damaged"


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing comes for a while, and the source says so, as it should."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing comes for a while, and the source hangs, as it should not."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Leap:
    """The sender's clock leaps, either way."""

    seconds: float


Step: TypeAlias = Array | VideoFrame | Image | Lost | Refused | Missing | Pause | Stall | Leap


class Memory(Resumable):
    """Plays `script`: pictures (uint8 RGB `[h, w, 3]`, decoder frames, images) and faults, one after the other.

    Arrays and frames may be played any number of times; an `Image` only until somebody releases it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: Sequence[Step] = Field(repr=False)
    repeat: int = Field(1, ge=1, description="play it this many times")
    fps: PositiveFloat = 25.0
    realtime: bool = Field(False, description="one picture every 1/fps seconds, not as fast as they are taken")

    @property
    def paced(self) -> bool:
        return self.realtime or self.live

    def open(self, stream: str) -> MemoryReader:
        return MemoryReader(self, stream, self._digest(), 0)

    def _digest(self) -> str:
        """Stands for the script: sizes, faults, and a sample of the pixels."""
        digest = hashlib.blake2b(f"{self.repeat} {self.fps}".encode(), digest_size=16)
        for step in self.script:
            if isinstance(step, np.ndarray):
                digest.update(str(step.shape).encode() + np.ascontiguousarray(step.reshape(-1)[::4099]).tobytes())
            elif isinstance(step, (VideoFrame, Image)):
                digest.update(f"{step.width}x{step.height}".encode())
            else:
                digest.update(repr(step).encode())
        return b32hexencode(digest.digest()).decode().rstrip("=")


class LiveMemory(Memory):
    """A live one: opened again, it goes on behind the step where it broke; behind the last it is lost for good."""

    live: ClassVar[bool] = True
    _position: list[int] = PrivateAttr(default_factory=lambda: [0])

    def open(self, stream: str) -> MemoryReader:
        return MemoryReader(self, stream, new_epoch(), self._position[0], self._position)


class MemoryReader:
    """The running part of both."""

    def __init__(self, plan: Memory, stream: str, epoch: str, start: int, position: list[int] | None = None) -> None:
        self.epoch = epoch
        self._plan = plan
        self._stream = stream
        self._position = [start] if position is None else position
        self._frames = [_ready(step) for step in plan.script]
        self._passed = PassedOver(stream, plan._behind.get(""))
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        yield from self._passed(self._items())

    def _items(self) -> Iterator[Item]:
        plan, stream = self._plan, self._stream
        period_ns = int(1e9 / plan.fps)
        pace = Pace() if plan.realtime else None
        seq, pts_ns = 0, 0
        while self._position[0] < len(self._frames) * plan.repeat and not self._closed:
            step = self._frames[self._position[0] % len(self._frames)]
            self._position[0] += 1
            if isinstance(step, (VideoFrame, Image)):
                for _ in pace.until(pts_ns) if pace else ():
                    yield Watermark(stream, pts_ns)
                image = FrameImage(step) if isinstance(step, VideoFrame) else step
                yield Chunk(stream, self.epoch, seq, pts_ns, period_ns, time.monotonic_ns(), time.time_ns(), image)
                seq, pts_ns = seq + 1, pts_ns + period_ns
            elif isinstance(step, Missing):
                yield Gap(stream, step.reason, step.count)
                seq, pts_ns = seq + step.count, pts_ns + step.count * period_ns
            elif isinstance(step, Leap):
                pts_ns += int(step.seconds * 1e9)
            elif isinstance(step, Pause):
                for _ in Pace().span(step.seconds):
                    yield Watermark(stream, pts_ns)
            elif isinstance(step, Stall):
                time.sleep(step.seconds)
            elif isinstance(step, Refused):
                raise InputError(step.reason)
            else:
                raise SourceLost(step.reason)
        if plan.live and not self._closed:
            raise SourceLost("the script is over")

    def close(self) -> None:
        self._closed = True


_Ready: TypeAlias = VideoFrame | Image | Lost | Refused | Missing | Pause | Stall | Leap


def _ready(step: Step) -> _Ready:
    if isinstance(step, np.ndarray):
        return VideoFrame.from_ndarray(np.ascontiguousarray(step), format="rgb24")
    return step
