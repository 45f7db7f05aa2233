"""Test pictures that FFmpeg makes: a stream without a camera."""

from __future__ import annotations

import hashlib
import time
from base64 import b32hexencode
from collections.abc import Iterator
from typing import Literal

from av.error import FFmpegError
from pydantic import Field, PositiveFloat

from pipeline.core.errors import SourceLost
from pipeline.core.records import Item, Watermark
from sources.decoding import Decoder
from sources.ffmpeg import open_video, plain
from sources.pace import Pace
from sources.resuming import PassedOver, Resumable

_FILTERS = {
    "testsrc2": "testsrc2=size={size}:rate={rate}",
    "smptebars": "smptebars=size={size}:rate={rate}",
    "black": "color=color=black:size={size}:rate={rate}",
    "freeze": "testsrc2=size={size}:rate={rate},loop=loop=-1:size=1",
    "noise": "color=color=gray:size={size}:rate={rate},noise=allf=t:alls=60:all_seed=7",
}


class Pattern(Resumable):
    """Moving test pictures (`testsrc2`), still bars, black, noise, or a picture that froze; always the same ones."""

    picture: Literal["testsrc2", "smptebars", "black", "noise", "freeze"] = "testsrc2"
    width: int = Field(640, ge=16, le=8192, description="in pixels")
    height: int = Field(360, ge=16, le=8192, description="in pixels")
    fps: PositiveFloat = Field(25.0, le=1000, description="frames per second")
    frames: int | None = Field(None, ge=1, description="end after this many; default: never")
    realtime: bool = Field(True, description="as a camera would, not as fast as they are taken")

    @property
    def paced(self) -> bool:
        return self.realtime

    def open(self, stream: str) -> PatternReader:
        return PatternReader(self, stream)


class PatternReader:
    """The running part of `Pattern`."""

    def __init__(self, plan: Pattern, stream: str) -> None:
        self._plan = plan
        self._stream = stream
        graph = _FILTERS[plan.picture].format(size=f"{plan.width}x{plan.height}", rate=plan.fps)
        digest = hashlib.blake2b(graph.encode(), digest_size=16).digest()
        self.epoch = b32hexencode(digest).decode().rstrip("=")
        try:
            self._container, self._video = open_video(graph, container_format="lavfi")
        except FFmpegError as error:
            raise SourceLost(f"FFmpeg cannot make the test picture: {plain(error)}") from None
        self.decoder = Decoder(stream, self.epoch)
        self.decoder.attach(self._video, threads=1)
        self._passed = PassedOver(stream, plan._behind.get(""))
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        yield from self._passed(self._items())

    def _items(self) -> Iterator[Item]:
        pace = Pace() if self._plan.realtime else None
        most = self._plan.frames
        packets = self._container.demux(self._video)
        while not self._closed and (most is None or self.decoder.received < most):
            if pace is not None and not self._passed.passing:
                for _ in pace.until(int(self.decoder.received * 1e9 / self._plan.fps)):
                    yield Watermark(self._stream, self.decoder.last_pts_ns)
            yield from self.decoder.feed(next(packets), time.monotonic_ns(), time.time_ns())

    def close(self) -> None:
        self._closed = True
        self._container.close()
