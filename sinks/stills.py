"""Single pictures on disk: encoded, named after their windows, and never there in part."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.core.contracts import Picture
from pipeline.core.errors import FrameGone
from pipeline.core.files import UNFINISHED, write_whole
from pipeline.core.records import Array, Window

Kind: TypeAlias = Literal["png", "jpg"]

_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST = 80
_OURS = re.compile(r"[A-Za-z0-9._-]+_[A-Za-z0-9.-]+_\d{8,}\.(png|jpg)")
_CODECS = {"png": ("png", "rgb24"), "jpg": ("mjpeg", "yuvj444p")}


def encode(pixels: Array, kind: Kind) -> bytes:
    """uint8 RGB `[h, w, 3]` as a file. JPEG keeps colour as fine as light: a part beside its reference is all edges."""
    name, pixel_format = _CODECS[kind]
    codec = CodecContext.create(name, "w")
    assert isinstance(codec, VideoCodecContext)
    codec.height, codec.width = pixels.shape[:2]
    codec.pix_fmt = pixel_format
    codec.time_base = 1  # type: ignore[assignment]  # any will do
    codec.thread_count = 1
    codec.options = {"qmin": "2", "qmax": "2"} if kind == "jpg" else {"compression_level": "1"}
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format=pixel_format)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def file_name(window: Window, kind: Kind) -> str:
    """`door_01K…_00001234.png`: the window's id, by letters that every file system takes."""
    stream, epoch = (_UNFIT.sub("-", text).strip("-.")[:_LONGEST] or "-" for text in (window.stream, window.epoch))
    return f"{stream}_{epoch}_{window.seq:08}.{kind}"


def is_ours(path: Path) -> bool:
    """Whether `path` could be a picture that a sink named: nothing else is ever removed."""
    return _OURS.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def sweep(folder: Path) -> None:
    """Remove what a killed program left half-written in `folder`."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            path.unlink()


def pixels_of(picture: Picture, max_width: int | None = None) -> Array | None:
    """The picture's own pixels, uint8 RGB `[h, w, 3]`, or None where it is no longer held."""
    if picture.image is None:
        return None
    try:
        return picture.image.rgb(max_width)
    except FrameGone:
        return None


__all__ = ["Kind", "encode", "file_name", "is_ours", "pixels_of", "sweep", "write_whole"]
