"""What a chunk carries, and the one preprocessing.

`Image` is the contract; `FrameImage` holds a decoder's own frame and converts on demand to the size that is asked for.
Training, calibration and running all make their model inputs with `Image.view`: swscale, one interpolation, one colour
matrix, named in the model's manifest. (Two bilinear resizers that look alike moved the scores of a real model by 0.29.)
"""

from __future__ import annotations

import threading
import zlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from pipeline.core import media
from pipeline.core.errors import FrameGone, InputError
from pipeline.core.media import Medium, Payload, Spec
from pipeline.core.records import Array, Box

Fit: TypeAlias = Literal["stretch", "letterbox"]
Resize: TypeAlias = Literal["bilinear", "bicubic", "area"]
Colour: TypeAlias = Literal["rgb", "bgr"]

LUMA_STEP = 8  # gates see every 8th pixel of every 8th row
LETTERBOX_GREY = 114
_SMALLEST = 2  # pixels a side of a region: chroma is half as fine


@dataclass(frozen=True, slots=True)
class ViewSpec(Spec):
    """How a picture becomes a model's input: uint8 `[height, width, 3]`.

    `stretch` ignores the aspect ratio; `letterbox` keeps it and pads with grey. `crop` keeps the central share of
    both sides (224/256 is the classic recipe). Mean, scale and layout are the model graph's business, not ours.

    With a `tile`, a *region* is seen as it is, not resized: a square of so many source pixels around its middle, uint8
    `[tile, tile, 3]`. Small things keep the size that the model learned them in.
    """

    medium: ClassVar[Medium] = "picture"

    width: int
    height: int
    colour: Colour = "rgb"
    fit: Fit = "stretch"
    resize: Resize = "bilinear"
    crop: float = 1.0
    tile: int | None = None

    def __post_init__(self) -> None:
        if self.crop != 1.0 and self.fit != "stretch":
            raise InputError(
                "a central crop goes with `fit: stretch`; a letterboxed picture is shown whole", "view.crop"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.height, self.width, 3

    @property
    def dtype(self) -> str:
        return "uint8"

    def words(self) -> str:
        return f"{self.width}×{self.height} {self.fit}, {self.resize}, {self.colour}, crop {self.crop:g}"


def tile_of(spec: Spec) -> int | None:
    """The side of the squares in which regions are seen, if they are."""
    return spec.tile if isinstance(spec, ViewSpec) else None


@dataclass(frozen=True, slots=True)
class View(media.View):
    """What a stage sees of a picture: an owned read-only array of model size, and the way back to source pixels.

    A point `(x, y)` of the view lies at `(left + x * step_x, top + y * step_y)` of the source picture, whose part
    `bounds` the view shows.
    """

    pixels: Array
    left: float
    top: float
    step_x: float
    step_y: float
    bounds: Box

    @property
    def data(self) -> Array:
        return self.pixels

    def to_source(self, boxes: Array) -> Array:
        """`boxes` `[N, 4]` in view pixels → float32 `[N, 4]` in source pixels, clipped to `bounds`."""
        step = np.array([self.step_x, self.step_y, self.step_x, self.step_y], np.float32)
        origin = np.array([self.left, self.top, self.left, self.top], np.float32)
        x1, y1, x2, y2 = self.bounds
        return cast(Array, np.clip(boxes * step + origin, [x1, y1, x1, y1], [x2, y2, x2, y2]).astype(np.float32))


class Image(Payload):
    """A picture that is leased: views can be made of it until it is released."""

    medium: ClassVar[Medium] = "picture"

    width: int
    height: int

    @abstractmethod
    def view(self, spec: ViewSpec, region: Box | None = None) -> View:
        """The picture, or the part of it inside `region` (source pixels), as a model sees it.

        Raises `FrameGone` once the picture was released.
        """

    @abstractmethod
    def luma(self) -> Array:
        """Every `LUMA_STEP`-th luma sample in both directions: uint8 `[⌈height/8⌉, ⌈width/8⌉]`, owned."""

    def sample(self) -> Array:
        return self.luma()

    @abstractmethod
    def fingerprint(self) -> int:
        """A checksum of every luma sample: two pictures that differ in one are told apart."""

    @abstractmethod
    def rgb(self, max_width: int | None = None) -> Array:
        """The whole picture, uint8 `[h, w, 3]`, no wider than `max_width`. Costs more than a small model: use it
        for people, not for stages."""

    @property
    def at_hand(self) -> bool:
        """Whether `frame` costs nothing."""
        return False

    def frame(self) -> VideoFrame:
        """The whole picture, upright, to be kept beyond the lease and changed by nobody."""
        return VideoFrame.from_ndarray(self.rgb(), format="rgb24")

    @abstractmethod
    def release(self) -> None:
        """Let the decoder have its frame back. Safe to call twice."""


_420, _422, _PAIRED = ((0, 0), (1, 1), (1, 1)), ((0, 0), (1, 0), (1, 0)), ((0, 0), (0, 1))
_CUTS: dict[str, tuple[str, tuple[tuple[int, int], ...]]] = {
    "yuv420p": ("yuv420p", _420),
    "yuvj420p": ("yuv420p", _420),
    "yuv422p": ("yuv422p", _422),
    "yuvj422p": ("yuv422p", _422),
    "nv12": ("nv12", _PAIRED),
}
"""Formats of which a part can be cut out: as what, and by how many bits each plane is coarser, across and down."""
_LUMA_FIRST = _CUTS.keys() | {"yuv444p", "yuvj444p", "nv21", "gray", "yuv440p", "yuv411p"}
_PIXEL_FORMAT: dict[Colour, str] = {"rgb": "rgb24", "bgr": "bgr24"}
_FORMATTERS_KEPT = 16
_local = threading.local()


def _reformat(frame: VideoFrame, width: int, height: int, pixel_format: str, resize: str) -> Array:
    """swscale in one step. A reformatter keeps its context for one geometry, and is no friend of threads: hence one
    per thread and geometry."""
    formatters: dict[tuple[Any, ...], VideoReformatter] = _local.__dict__.setdefault("formatters", {})
    key = (
        frame.width,
        frame.height,
        frame.format.name,
        frame.colorspace,
        frame.color_range,
        width,
        height,
        pixel_format,
        resize,
    )
    formatter = formatters.pop(key, None) or VideoReformatter()
    formatters[key] = formatter  # last used goes last, the first is the oldest
    if len(formatters) > _FORMATTERS_KEPT:
        del formatters[next(iter(formatters))]
    out = formatter.reformat(frame, width, height, pixel_format, interpolation=resize.upper(), threads=1)
    return cast(Array, out.to_ndarray())


def _rows(plane: VideoPlane) -> Array:
    """The plane as it lies in memory, uint8 `[rows, line size]`, not copied."""
    return np.frombuffer(cast(memoryview, plane), np.uint8).reshape(-1, plane.line_size)


class FrameImage(Image):
    """A decoder's own frame. Turned upright where the container says that the camera was held sideways."""

    __slots__ = ("_frame", "_luma", "_rgb", "_turns", "height", "width")

    def __init__(self, frame: VideoFrame) -> None:
        self._frame: VideoFrame | None = frame
        self._luma: Array | None = None
        self._rgb: Array | None = None
        self._turns = round(frame.rotation / 90) % 4  # quarter turns counter-clockwise, as numpy.rot90 counts
        sideways = self._turns % 2
        self.width: int = frame.height if sideways else frame.width
        self.height: int = frame.width if sideways else frame.height

    @classmethod
    def from_array(cls, pixels: Array, colour: Colour = "rgb") -> FrameImage:
        """uint8 `[h, w, 3]` → an image (copied)."""
        return cls(VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=_PIXEL_FORMAT[colour]))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a decoder's frame does not cross processes: make a View of it first")

    def _held(self) -> VideoFrame:
        if self._frame is None:
            raise FrameGone("the picture was released before this view of it was asked for")
        return self._frame

    def view(self, spec: ViewSpec, region: Box | None = None) -> View:
        frame = self._held()
        if region is not None and spec.tile is not None:
            return self._tile(spec, spec.tile, region)
        if region is None or min(self.width, self.height) < _SMALLEST:
            bounds: Box = (0.0, 0.0, float(self.width), float(self.height))
            source = frame
        else:
            left, top, right, bottom = self._whole_pixels(region)
            bounds = (float(left), float(top), float(right), float(bottom))
            source = self._cropped(frame, left, top, right, bottom)
        seen_w, seen_h = bounds[2] - bounds[0], bounds[3] - bounds[1]
        inner_w, inner_h = self._inner_size(spec, seen_w, seen_h)
        turns = 0 if source is not frame else self._turns
        across, down = (inner_h, inner_w) if turns % 2 else (inner_w, inner_h)
        pixels = _reformat(source, across, down, _PIXEL_FORMAT[spec.colour], spec.resize)
        if turns:
            pixels = np.rot90(pixels, turns)
        pad_x, pad_y = (spec.width - inner_w) // 2, (spec.height - inner_h) // 2
        if pad_x < 0 or pad_y < 0:  # a central crop
            pixels = pixels[-pad_y : -pad_y + spec.height, -pad_x : -pad_x + spec.width]
        elif pad_x > 0 or pad_y > 0 or (inner_w, inner_h) != (spec.width, spec.height):
            canvas = np.full((spec.height, spec.width, 3), LETTERBOX_GREY, np.uint8)
            canvas[pad_y : pad_y + inner_h, pad_x : pad_x + inner_w] = pixels
            pixels = canvas
        pixels = np.ascontiguousarray(pixels)
        pixels.flags.writeable = False
        step_x, step_y = seen_w / inner_w, seen_h / inner_h
        return View(pixels, bounds[0] - pad_x * step_x, bounds[1] - pad_y * step_y, step_x, step_y, bounds)

    def _tile(self, spec: ViewSpec, side: int, region: Box) -> View:
        """A square around the middle of `region`, moved into the picture; grey where the picture is smaller."""
        width, height = min(side, self.width), min(side, self.height)
        left = round(min(max((region[0] + region[2] - width) / 2, 0), self.width - width)) & ~1
        top = round(min(max((region[1] + region[3] - height) / 2, 0), self.height - height)) & ~1
        frame = self._held()
        if frame.format.name == "rgb24" and not self._turns:
            row = frame.planes[0]
            pixels = _rows(row)[top : top + height, 3 * left : 3 * (left + width)].reshape(height, width, 3)
        else:
            pixels = self._cut_out(frame, (left, top, left + width, top + height), spec.resize)
        pixels = pixels[..., ::-1] if spec.colour == "bgr" else pixels
        if (height, width) == (side, side):
            pixels = np.array(pixels)  # owned, not a window into the decoder's frame
        else:
            canvas = np.full((side, side, 3), LETTERBOX_GREY, np.uint8)
            canvas[:height, :width] = pixels
            pixels = canvas
        pixels.flags.writeable = False
        return View(pixels, left, top, 1.0, 1.0, (left, top, left + width, top + height))

    def _cut_out(self, frame: VideoFrame, box: tuple[int, int, int, int], resize: str) -> Array:
        """uint8 `[h, w, 3]`: a part at its own size; where half-size chroma does not divide, from the whole in RGB."""
        left, top, right, bottom = box
        if (right - left) % 2 or (bottom - top) % 2:
            if self._rgb is None:
                self._rgb = self.rgb()
            return self._rgb[top:bottom, left:right]
        return _reformat(self._cropped(frame, left, top, right, bottom), right - left, bottom - top, "rgb24", resize)

    @staticmethod
    def _inner_size(spec: ViewSpec, seen_w: float, seen_h: float) -> tuple[int, int]:
        """What the seen part is resized to, before padding or the central crop."""
        if spec.fit == "stretch":
            return round(spec.width / spec.crop), round(spec.height / spec.crop)
        scale = min(spec.width / seen_w, spec.height / seen_h)
        return max(1, min(spec.width, round(seen_w * scale))), max(1, min(spec.height, round(seen_h * scale)))

    def _whole_pixels(self, region: Box) -> tuple[int, int, int, int]:
        """`region` clipped to the picture, at least 2×2, on even corners (chroma is half as fine)."""
        left = int(min(max(region[0], 0.0), self.width - 2)) & ~1
        top = int(min(max(region[1], 0.0), self.height - 2)) & ~1
        right = int(max(min(region[2] + 0.999, self.width), left + 2))
        bottom = int(max(min(region[3] + 0.999, self.height), top + 2))
        return left, top, right - (right - left) % 2, bottom - (bottom - top) % 2

    def _cropped(self, frame: VideoFrame, left: int, top: int, right: int, bottom: int) -> VideoFrame:
        """The part as a frame of its own, in the decoder's format where that can be cut: the whole picture is not
        converted for the sake of a part."""
        cut = _CUTS.get(frame.format.name)
        if cut is None or self._turns:
            if self._rgb is None:  # once for all regions
                self._rgb = self.rgb()
            return VideoFrame.from_ndarray(np.ascontiguousarray(self._rgb[top:bottom, left:right]), format="rgb24")
        pixel_format, planes = cut
        parts = [
            _rows(plane)[top >> down : bottom >> down, left >> across : right >> across].ravel()
            for plane, (across, down) in zip(frame.planes, planes, strict=True)
        ]
        crop = VideoFrame.from_ndarray(np.concatenate(parts).reshape(-1, right - left), format=pixel_format)
        # yuvj420p says full range by its name; the plain format says it by a tag
        crop.color_range = 2 if frame.format.name.startswith("yuvj") else frame.color_range
        crop.colorspace = frame.colorspace
        return crop

    def luma(self) -> Array:
        if self._luma is None:
            frame = self._held()
            if frame.format.name in _LUMA_FIRST:
                plane = frame.planes[0]
                rows = _rows(plane)
                sample = rows[: frame.height : LUMA_STEP, : frame.width : LUMA_STEP]
            else:  # packed or deep formats: small and grey in one step
                width, height = -(-frame.width // LUMA_STEP), -(-frame.height // LUMA_STEP)
                sample = _reformat(frame, width, height, "gray", "point")
            self._luma = np.ascontiguousarray(np.rot90(sample, self._turns) if self._turns else sample)
            if self._luma is sample:
                self._luma = sample.copy()
            self._luma.flags.writeable = False
        return self._luma

    def fingerprint(self) -> int:
        frame = self._held()
        if frame.format.name in _LUMA_FIRST:
            seen = _rows(frame.planes[0])[: frame.height, : frame.width]  # what pads the rows is noise
        else:
            seen = _reformat(frame, frame.width, frame.height, "gray", "point")
        return zlib.crc32(np.ascontiguousarray(seen).data)

    def rgb(self, max_width: int | None = None) -> Array:
        frame = self._held()
        scale = min(1.0, max_width / self.width) if max_width else 1.0
        width, height = max(2, round(self.width * scale)) & ~1, max(2, round(self.height * scale)) & ~1
        if scale == 1.0:
            width, height = self.width, self.height
        across, down = (height, width) if self._turns % 2 else (width, height)
        pixels = _reformat(frame, across, down, "rgb24", "bilinear")
        return np.ascontiguousarray(np.rot90(pixels, self._turns)) if self._turns else pixels

    @property
    def at_hand(self) -> bool:
        return not self._turns

    def frame(self) -> VideoFrame:
        return super().frame() if self._turns else self._held()

    def release(self) -> None:
        self._frame = self._rgb = None
