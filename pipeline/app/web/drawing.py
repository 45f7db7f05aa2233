"""A shot as people see it: at which size, and with what was found drawn on it."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, Literal, TypeAlias, cast

import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from pipeline.app.web.gallery import Shot
from pipeline.core.records import Array
from sinks.annotate import Annotator

View: TypeAlias = Literal["raw", "annotated"]
_QUALITY: Final = "4"  # of 2 (best) to 31


class Renderer:
    """Makes frames of one's own, of one view; for one thread. Raises `MissingPart` where drawing is not to be had."""

    def __init__(self, view: View) -> None:
        self._annotator = Annotator() if view == "annotated" else None
        self._formatter = VideoReformatter()  # that of a frame would be shared with other threads

    def render(self, shot: Shot, width: int, height: int, pixel_format: str) -> VideoFrame:
        """The shot at that size and in that format."""
        seen = shot.frame
        if self._annotator is not None:
            pixels = self._reformatted(seen, width, height, "rgb24").to_ndarray()
            self._annotator.draw(pixels, shot.outcome, width / max(1, seen.width))
            seen = VideoFrame.from_ndarray(pixels, format="rgb24")
        made = self._reformatted(seen, width, height, pixel_format)
        return _copied(made) if made is shot.frame else made

    def jpeg(self, shot: Shot, longest: int) -> bytes:
        """The shot as a JPEG file, no side longer than `longest`."""
        width, height = fitted(shot.frame, longest, longest)
        codec = CodecContext.create("mjpeg", "w")
        assert isinstance(codec, VideoCodecContext)
        codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1)
        codec.thread_count = 1
        codec.options = {"qmin": _QUALITY, "qmax": _QUALITY}
        frame = self.render(shot, width, height, "yuvj420p")
        frame.pts = 0
        return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])

    def _reformatted(self, frame: VideoFrame, width: int, height: int, pixel_format: str) -> VideoFrame:
        return self._formatter.reformat(frame, width, height, pixel_format, interpolation="BILINEAR", threads=1)


def fitted(frame: VideoFrame, longer: int, shorter: int, smallest: int = 2) -> tuple[int, int]:
    """The size of `frame`, even, made smaller until its longer and its shorter side are no longer than these."""
    sides = frame.width, frame.height
    scale = min(1.0, longer / max(*sides, 1), shorter / max(min(sides), 1))
    width, height = (max(smallest, round(side * scale) & ~1) for side in sides)
    return width, height


def _copied(frame: VideoFrame) -> VideoFrame:
    """Of a planar format with 8 bits. An encoder writes into what it is given, and this may be the decoder's own."""
    copy = VideoFrame(frame.width, frame.height, frame.format.name)
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    for mine, other in zip(copy.planes, frame.planes, strict=True):
        _rows(mine)[:, : mine.width] = _rows(other)[: mine.height, : mine.width]
    return copy


def _rows(plane: VideoPlane) -> Array:
    return np.frombuffer(cast(memoryview, plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
