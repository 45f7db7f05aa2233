"""Annotated video: one MP4 a stream, at the pace of the stream's own clock."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
from av import VideoFrame
from av import open as open_container
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from pydantic import Field

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import FrameGone, SinkRefused
from pipeline.core.records import Array, Outcome, Window
from pipeline.core.rulings import Ruling
from pipeline.core.secrets import redact
from sinks.annotate import Annotator, drawing
from sinks.intercept import Interceptor
from sinks.paths import check_file, expanded, make_parents
from sinks.wording import printable

log = logging.getLogger(__name__)

STREAM = "{stream}"
_TICKS: Final = 90_000  # a second, the usual clock of video
_FRAGMENT_S: Final = 2  # a fragment is complete, and so survives a kill, this often
_MOVFLAGS: Final = "frag_keyframe+empty_moov+default_base_moof"


class Video(Sink):
    """Draws boxes, labels, scores, who decided and the time. A file stays playable when the program is killed: at most
    its last two seconds are lost. When the picture's size or the stream's epoch changes, or the file is there already
    from an earlier run, a numbered part begins: `door.mp4`, `door.2.mp4`. When drawing falls behind, the oldest
    pictures go, so a video may have fewer frames than there are results.

    With `delay_s`, what the policy rules is done to the pictures of its time: `blur` pixelates the things that it is
    about (the whole picture, where nobody says where they are), `block` makes it black, `mute` and `flag` are told of.
    The file has no sound that could be muted. How much memory the delay takes: see `sinks/intercept.py`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"pictures", "rulings"})
    backlog: ClassVar[int] = 8  # pictures are the decoder's own, and it has few

    path: str = Field(
        default=f"video/{STREAM}.mp4",
        min_length=1,
        description="the files; {stream} becomes the name of the stream (without it, the first stream gets the file "
        "and further ones their name in it)",
    )
    max_width: int = Field(default=1280, ge=64, le=7680, description="wider pictures are made smaller")
    quality: int = Field(default=26, ge=0, le=51, description="H.264 constant rate factor; less is better and larger")
    delay_s: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="hold each picture back for so many seconds of its stream, for the policy to be done to it"
        " (0: nothing is held, and nothing is done)",
    )
    overwrite: bool = Field(default=False, description="replace files of an earlier run")

    def check(self) -> None:
        drawing()
        check_file(expanded(self.path))

    def open(self) -> Writer:
        make_parents(expanded(self.path))
        return _Writer(self, Annotator())

    def file(self, stream: str, first: bool) -> Path:
        """Where the video of `stream` begins; `first` says that no other stream has a file yet."""
        path = expanded(self.path.replace(STREAM, stream))
        return path if first or STREAM in self.path else path.with_name(f"{path.stem}-{stream}{path.suffix}")


class _Writer:
    def __init__(self, plan: Video, annotator: Annotator) -> None:
        self._plan = plan
        self._annotator = annotator
        self._parts: dict[str, _Part] = {}
        self._files: dict[str, Path] = {}
        self._numbers: dict[str, int] = {}
        self._pictured: set[str] = set()  # streams of pictures: sound and text have none that could be gone
        self._gone = 0
        self._interceptor = Interceptor(plan.delay_s) if plan.delay_s else None

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            if isinstance(item, Picture):
                self._take(item)
            elif isinstance(item, Ruling) and self._interceptor is not None:
                self._interceptor.ruled(item)

    def _take(self, picture: Picture) -> None:
        stream, image = picture.outcome.window.stream, picture.image
        if image is not None:
            self._pictured.add(stream)
        pixels = self._pixels(picture)
        if pixels is None or image is None:
            self._gone += stream in self._pictured
            return
        scale = float(pixels.shape[1] / image.width)
        if self._interceptor is None:
            self._add(picture.outcome, pixels, scale)
            return
        for due in self._interceptor.hold(picture.outcome, pixels, scale):
            self._add(*due)

    def _add(self, outcome: Outcome, pixels: Array, scale: float) -> None:
        pixels = self._drawn(outcome, pixels, scale)
        window = outcome.window
        part = self._parts.get(window.stream)
        try:
            if part is not None and not part.goes_on_with(window, pixels):
                part = None
                self._parts.pop(window.stream).close()
            if part is None:
                part = self._parts[window.stream] = self._begin(window, pixels)
            part.add(window, pixels)
        except (FFmpegError, OSError) as error:
            broken = self._parts.pop(window.stream, None)
            if broken is not None:
                broken.abandon()
            raise SinkRefused(f"the video of {window.stream} cannot be written: {redact(error)}") from error

    def _pixels(self, picture: Picture) -> Array | None:
        """uint8 RGB `[h, w, 3]`, or None where the picture is no longer held, or there is nothing to see."""
        image = picture.image
        if image is None:
            return None
        try:
            pixels = image.rgb(self._plan.max_width)
        except FrameGone:
            return None
        if min(pixels.shape[:2]) < 2:
            return None
        return pixels if pixels.flags.writeable else pixels.copy()

    def _drawn(self, outcome: Outcome, pixels: Array, scale: float) -> Array:
        """The same as it goes into the file: what is ruled was done to it, what was found is drawn, its sides are
        even."""
        rulings = [] if self._interceptor is None else self._interceptor.in_force(outcome.window)
        if rulings and self._interceptor is not None:
            self._interceptor.apply(pixels, outcome, scale, rulings)
        if all(one.action != "block" for one in rulings):
            self._annotator.draw(pixels, outcome, scale)
        if rulings:
            words = dict.fromkeys(f"{one.action.upper()} {one.rule}" for one in rulings)
            self._annotator.rule(pixels, printable(", ".join(words)))
        height, width = (side & ~1 for side in pixels.shape[:2])  # chroma is half as fine
        return pixels[:height, :width]

    def _begin(self, window: Window, pixels: Array) -> _Part:
        """The next part of the window's stream: door.mp4, door.2.mp4 …"""
        stream = window.stream
        if stream not in self._files:
            self._files[stream] = self._plan.file(stream, first=not self._files)
        path, number = self._files[stream], self._numbers.get(stream, 0) + 1
        while (part := path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
            if self._plan.overwrite:
                break
            number += 1
        self._numbers[stream] = number
        part.parent.mkdir(parents=True, exist_ok=True)
        return _Part(part, window, pixels, self._plan.quality)

    def forget(self, stream: str) -> None:
        """Its film is whole. Should it come back, that is another part."""
        self._let_go(stream)
        self._pictured.discard(stream)
        if (part := self._parts.pop(stream, None)) is not None:
            _finish(part)

    def close(self) -> None:
        self._let_go()
        while self._parts:
            _finish(self._parts.popitem()[1])
        if self._gone:
            log.info("%d pictures were gone before they could be drawn", self._gone)
            self._gone = 0

    def _let_go(self, stream: str | None = None) -> None:
        """What is still held back, of one stream or of all."""
        if self._interceptor is None:
            return
        try:
            for due in self._interceptor.rest() if stream is None else self._interceptor.forget(stream):
                self._add(*due)
        except SinkRefused as error:
            log.warning("the end of what was held back is lost: %s", error)
        if self._interceptor.early:
            log.warning("%d pictures were not held back for so long: there were too many", self._interceptor.early)
            self._interceptor.early = 0


def _finish(part: _Part) -> None:
    try:
        part.close()
    except (FFmpegError, OSError) as error:
        log.warning("the end of %s could not be written: %s", part.path, redact(error))


class _Part:
    """One file. Time begins at its first window."""

    def __init__(self, path: Path, first: Window, pixels: Array, quality: int) -> None:
        self.path = path
        self._first = first
        self._shape = pixels.shape
        self._last_pts = -1
        self._reformatter = VideoReformatter()
        self._container: OutputContainer = open_container(
            str(path), "w", format="mp4", options={"movflags": _MOVFLAGS, "flush_packets": "1"}
        )
        fps = round(1e9 / max(1, first.end_ns - first.start_ns))
        rate = max(1, min(fps, 240))
        # zerolatency: nothing is held back, so that a kill loses only the fragment that was being written
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(quality)}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, _TICKS)
        context.gop_size = rate * _FRAGMENT_S
        context.thread_count = 1  # drawing must not take the processors that judging needs
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709, as players expect of video
        context.color_range = ColorRange.MPEG
        self._stream = stream

    def goes_on_with(self, window: Window, pixels: Array) -> bool:
        same_feed = window.epoch == self._first.epoch and window.start_ns >= self._first.start_ns
        return same_feed and pixels.shape == self._shape

    def add(self, window: Window, pixels: Array) -> None:
        pts = (window.start_ns - self._first.start_ns) * _TICKS // 1_000_000_000
        if pts <= self._last_pts:  # it came again after a hitch, or the clock stood still
            return
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = pts, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))
        self._last_pts = pts

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def abandon(self) -> None:
        """Let go of a file that cannot be written any more; what it holds already stays."""
        try:
            self._container.close()
        except (FFmpegError, OSError):
            log.debug("%s could not be closed either", self.path)
        if self.path.exists() and not self.path.stat().st_size:
            self.path.unlink()
