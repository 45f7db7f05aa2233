"""One encoder for all who watch the same view of a stream in the same codec, in a thread of its own that is there only
while somebody watches.

H.264 costs a good half of what VP8 does, and browsers that have no H.264 get VP8.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipeline.app.web.drawing import Renderer, View, fitted
from pipeline.app.web.gallery import MOST_FPS, TICKS_PER_S, Gallery, Shot
from pipeline.core.secrets import redact

log = logging.getLogger(__name__)

Codec: TypeAlias = Literal["H264", "VP8"]

_MOST_ACROSS, _MOST_DOWN = 1280, 720
"""Of the longer and the shorter side: what every browser's H.264 takes (level 3.1)."""
_SMALLEST: Final = 16
_WAITING: Final = 2  # pictures; of more the oldest goes
_KEY_S: Final = 0.5
"""Between two key frames: a watcher on a bad line asks for one after the other, and all others get them too."""
_STILL_S: Final = 0.25  # for a newcomer, the last picture is encoded again when no other comes
_TIME_BASE = Fraction(1, TICKS_PER_S)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One picture as all its watchers get it; the packet's time stamp is in ticks of RTP."""

    packet: Packet[VideoStream]
    shot: Shot
    ticks: int
    key: bool


Listener: TypeAlias = Callable[[Encoded], None]


class Encoding:
    """`join` and what is returned by it are called on `loop`, and so are listeners."""

    def __init__(
        self, gallery: Gallery, stream: str, view: View, codec: Codec, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.stream, self.view, self.codec = stream, view, codec
        self._gallery, self._loop = gallery, loop
        self._renderer = Renderer(view)
        self._listeners: list[Listener] = []
        self._changed = threading.Condition()
        self._waiting: list[Shot] = []
        self._key_wanted_s: float | None = None  # since when
        self._run: object | None = None  # whose thread it is that encodes
        self._leave_gallery: Callable[[], None] | None = None
        self.encoded = 0
        self.dropped = 0

    def join(self, listener: Listener) -> Callable[[], None]:
        """Begin, if it is the first. What comes next is a key frame."""
        self._listeners.append(listener)
        self.want_key()
        if self._run is None:
            self._run = run = object()
            latest = self._gallery.latest(self.stream)
            self._waiting = [] if latest is None else [latest]
            self._leave_gallery = self._gallery.watch(self.stream, self._look)
            threading.Thread(target=self._work, args=(run,), name=f"encode-{self.stream}", daemon=True).start()

        def leave() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)
            if not self._listeners:
                self._end()

        return leave

    @property
    def watched(self) -> bool:
        return bool(self._listeners)

    def want_key(self) -> None:
        with self._changed:
            self._key_wanted_s = self._key_wanted_s or time.monotonic()
            self._changed.notify()

    def _end(self) -> None:
        if self._leave_gallery is not None:
            self._leave_gallery()
            self._leave_gallery = None
        with self._changed:
            self._run = None
            self._waiting.clear()
            self._changed.notify()

    def _look(self, shot: Shot) -> None:
        """In the gallery's thread."""
        with self._changed:
            self._waiting.append(shot)
            if len(self._waiting) > _WAITING:
                del self._waiting[0]
                self.dropped += 1
            self._changed.notify()

    # The thread that encodes.

    def _work(self, run: object) -> None:
        pen = _Pen(self.codec, self._renderer)
        shot: Shot | None = None
        keyed_s = -_KEY_S
        while True:
            with self._changed:
                again = False
                while self._run is run and not self._waiting and not again:
                    patience_s = self._patience_s(shot, keyed_s)
                    again = patience_s is not None and patience_s <= 0
                    if not again:
                        self._changed.wait(patience_s)
                if self._run is not run:
                    return
                shot = shot if again else self._waiting.pop(0)
                assert shot is not None
                key = self._key_wanted_s is not None and time.monotonic() - keyed_s >= _KEY_S
                if key:
                    self._key_wanted_s = None
            try:
                pieces = pen.encode(shot, key=key, again=again)
            except Exception as error:  # noqa: BLE001  # whatever a picture brings about, the watchers see the next one
                log.warning("%s: a picture could not be encoded: %s", self.stream, redact(error))
                pen = _Pen(self.codec, self._renderer)
                continue
            if any(piece.key for piece in pieces):
                keyed_s = time.monotonic()
            self.encoded += 1
            with suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._hand, run, pieces)

    def _patience_s(self, shot: Shot | None, keyed_s: float) -> float | None:
        """How long to wait for another picture before a newcomer is told the last one again."""
        if shot is None or self._key_wanted_s is None:
            return None
        return max(self._key_wanted_s + _STILL_S, keyed_s + _KEY_S) - time.monotonic()

    def _hand(self, run: object, pieces: list[Encoded]) -> None:
        if self._run is run:
            for listener in tuple(self._listeners):
                for piece in pieces:
                    listener(piece)


class _Pen:
    """The codec itself, opened anew when the size changes."""

    def __init__(self, codec: Codec, renderer: Renderer) -> None:
        self._codec, self._renderer = codec, renderer
        self._context: VideoCodecContext | None = None
        self._ticks = -1

    def encode(self, shot: Shot, *, key: bool, again: bool) -> list[Encoded]:
        width, height = fitted(shot.frame, _MOST_ACROSS, _MOST_DOWN, _SMALLEST)
        frame = self._renderer.render(shot, width, height, "yuv420p")
        if self._context is None or (self._context.width, self._context.height) != (width, height):
            self._context = _opened(self._codec, width, height, frame)
            key = True
        step = TICKS_PER_S // MOST_FPS if again else 1
        self._ticks = max(self._ticks + step, shot.ticks)
        frame.pts, frame.time_base = self._ticks, _TIME_BASE
        frame.pict_type = PictureType.I if key else PictureType.NONE
        packets = self._context.encode(frame)
        return [Encoded(packet, shot, self._ticks, packet.is_keyframe) for packet in packets]


def _opened(codec: Codec, width: int, height: int, frame: VideoFrame) -> VideoCodecContext:
    context = CodecContext.create("libx264" if codec == "H264" else "libvpx", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = _TIME_BASE, Fraction(MOST_FPS)
    context.thread_count = 1  # the other threads have better to do
    context.gop_size = 3000  # key frames come when somebody needs one
    rate = 500_000 + 11 * width * height // 5  # bits a second at most: 1.2 M at 640×480, 2.5 M at 720p
    context.bit_rate = rate
    if codec == "H264":
        context.profile = "Baseline"
        context.color_range, context.colorspace = frame.color_range, frame.colorspace
        context.options = {
            "preset": "ultrafast", "tune": "zerolatency",
            "crf": "24", "maxrate": str(rate), "bufsize": str(rate // 2),
        }  # fmt: skip
    else:
        context.qmin, context.qmax = 4, 56
        context.options = {
            "deadline": "realtime", "cpu-used": "-12", "lag-in-frames": "0", "static-thresh": "1",
            "maxrate": str(rate), "bufsize": str(rate // 2), "undershoot-pct": "100", "error-resilient": "1",
        }  # fmt: skip
    return context
