"""Still pictures, decoded by FFmpeg like everything else, so that one resizer makes all views: those that a source
hands over, and those that models are trained, measured and certified on.

Where what is inspected has a reference picture (a clean board, a golden part), both travel as one picture: the part in
its red channel, the reference in green and blue. Views, crops, models and sinks need to know nothing of it, and who
looks at it sees in red what is too bright, and in cyan what is too dark.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
from av.codec.context import CodecContext
from av.error import ArgumentError, FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.core.records import Array
from pipeline.core.secrets import redact

MAX_PIXELS = 8192 * 8192
"""A picture with more is refused before memory is taken for it."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_CODECS = {
    b"\xff\xd8\xff": "mjpeg",
    b"\x89PNG": "png",
    b"BM": "bmp",
    b"RIFF": "webp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
}
_LARGEST = 256 << 20
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})

Kind: TypeAlias = Literal["png", "jpg"]


class BadPicture(ValueError):
    """Why a picture was not decoded."""


class TooLarge(BadPicture):
    """It has more pixels than it may, which was found out before memory was taken for them."""


def guard(codec: CodecContext, max_pixels: int, *, strict: bool = False) -> None:
    """Refuse larger pictures in the decoder itself, and, if `strict`, damaged ones too, which it else patches up.
    Call it before the first packet."""
    options = {**codec.options, "max_pixels": str(max_pixels)}
    codec.options = {**options, "err_detect": "explode"} if strict else options


def beside(part: Array, reference: Array) -> Array:
    """A part and its reference, uint8 `[h, w]` both, as one picture `[h, w, 3]`: see above."""
    return np.dstack([part, reference, reference])


def read_beside(path: Path, reference: Path, max_pixels: int = MAX_PIXELS) -> VideoFrame:
    """The picture in `path` beside the one in `reference`, as one. Raises `BadPicture`, also where sizes differ."""
    part = read_picture(path, max_pixels)
    return put_beside(part, read_reference(reference, max_pixels), reference.name)


def read_reference(path: Path, max_pixels: int = MAX_PIXELS) -> Array:
    """A reference, uint8 `[h, w]`, for any number of parts. Raises `BadPicture`."""
    try:
        return _grey(read_picture(path, max_pixels))
    except BadPicture as error:
        raise BadPicture(f"its reference {path.name} {error}") from None


def put_beside(part: VideoFrame, clean: Array, name: str) -> VideoFrame:
    """`part` beside the reference `clean`, which goes by `name`. Raises `BadPicture` where sizes differ."""
    seen = _grey(part)
    if seen.shape != clean.shape:
        sizes = f"{seen.shape[1]}×{seen.shape[0]} and {clean.shape[1]}×{clean.shape[0]}"
        raise BadPicture(f"and its reference {name} differ in size: {sizes}")
    return VideoFrame.from_ndarray(beside(seen, clean), format="rgb24")


def _grey(frame: VideoFrame) -> Array:
    return cast(Array, frame.reformat(format="gray").to_ndarray())


def check_regular(path: Path) -> None:
    """Raises `BadPicture` for what is no file: to open a pipe or a device would wait, maybe for ever."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder says by itself what is wrong
        raise BadPicture("is no file")


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> VideoFrame:
    """Decode the picture in `path`. Raises `BadPicture` if it is cut off, damaged, none at all, or larger than
    `max_pixels`, which is found out before memory is taken for it.

    The frame carries the orientation that a camera wrote into a JPEG's EXIF, quarter turns only: FFmpeg takes the
    mirrored ones for plain turns.
    """
    try:
        check_regular(path)
        if path.stat().st_size > _LARGEST:
            raise BadPicture("is larger than 256 MiB")
        data = path.read_bytes()
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror}") from None
    return decode_picture(data, max_pixels)


def decode_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> VideoFrame:
    """The same from memory."""
    if not data:
        raise BadPicture("is empty")
    name = next((codec for magic, codec in _CODECS.items() if data.startswith(magic)), None)
    if name is None:
        raise BadPicture("is not a JPEG, PNG, BMP, WebP or TIFF picture")
    if name == "mjpeg" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # FFmpeg fills up what is missing
        raise BadPicture("is cut off")
    if name == "png":
        data = _picture_alone(data)
    codec = CodecContext.create(name, "r")
    assert isinstance(codec, VideoCodecContext)
    codec.thread_count = 1
    guard(codec, max_pixels, strict=name != "tiff")  # which would refuse tags that it does not know, too
    try:
        frames = codec.decode(Packet(data)) + codec.decode(None)
    except ArgumentError:
        raise TooLarge(f"has more than {max_pixels} pixels, or none") from None
    except FFmpegError as error:
        raise BadPicture(f"cannot be decoded: {redact(error.strerror or error)}") from None
    if not frames or frames[0].is_corrupt:
        raise BadPicture("is damaged")
    return frames[0]


def _picture_alone(data: bytes) -> bytes:
    """A PNG without what goes along with the picture: a colour profile or a comment of some kilobytes may unpack to
    gigabytes, and FFmpeg unpacks them."""
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in _NEEDED:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def encode(pixels: Array, kind: Kind, effort: int = 1, *, fine: bool = True) -> bytes:
    """uint8 RGB `[h, w, 3]` as a file, as a PNG also grey `[h, w]`; more `effort`, up to 9, makes that smaller. JPEG
    keeps colour as fine as light: a part beside its reference is all edges; if not `fine`, it is a third as large, for
    a glance."""
    given = "gray" if pixels.ndim == 2 else "rgb24"
    name, pixel_format = ("png", given) if kind == "png" else ("mjpeg", "yuvj444p" if fine else "yuvj420p")
    codec = CodecContext.create(name, "w")
    assert isinstance(codec, VideoCodecContext)
    codec.height, codec.width = pixels.shape[:2]
    codec.pix_fmt = pixel_format
    codec.time_base = 1  # type: ignore[assignment]  # any will do
    codec.thread_count = 1
    step = "2" if fine else "5"
    codec.options = {"qmin": step, "qmax": step} if kind == "jpg" else {"compression_level": str(effort)}
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=given).reformat(format=pixel_format)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
