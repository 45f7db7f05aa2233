"""Still pictures, decoded by FFmpeg like everything else, so that one resizer makes all views."""

from __future__ import annotations

from pathlib import Path

from av.codec.context import CodecContext
from av.error import ArgumentError, FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from sources.decoding import guard
from sources.ffmpeg import plain

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


class BadPicture(ValueError):
    """Why a picture was not decoded."""


def read_picture(path: Path, max_pixels: int) -> VideoFrame:
    """Decode the picture in `path`. Raises `BadPicture` if it is cut off, damaged, none at all, or larger than
    `max_pixels`, which is found out before memory is taken for it.

    The frame carries the orientation that a camera wrote into a JPEG's EXIF, quarter turns only: FFmpeg takes the
    mirrored ones for plain turns.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise BadPicture("is larger than 256 MiB")
        data = path.read_bytes()
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror}") from None
    return decode_picture(data, max_pixels)


def decode_picture(data: bytes, max_pixels: int) -> VideoFrame:
    """The same from memory."""
    if not data:
        raise BadPicture("is empty")
    name = next((codec for magic, codec in _CODECS.items() if data.startswith(magic)), None)
    if name is None:
        raise BadPicture("is not a JPEG, PNG, BMP, WebP or TIFF picture")
    if name == "mjpeg" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # FFmpeg fills up what is missing
        raise BadPicture("is cut off")
    codec = CodecContext.create(name, "r")
    assert isinstance(codec, VideoCodecContext)
    codec.thread_count = 1
    guard(codec, max_pixels, strict=name != "tiff")  # which would refuse tags that it does not know, too
    try:
        frames = codec.decode(Packet(data)) + codec.decode(None)
    except ArgumentError:
        raise BadPicture(f"has more than {max_pixels} pixels, or none") from None
    except FFmpegError as error:
        raise BadPicture(f"cannot be decoded: {plain(error)}") from None
    if not frames or frames[0].is_corrupt:
        raise BadPicture("is damaged")
    return frames[0]
