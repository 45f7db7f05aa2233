"""How large a picture is, from the first bytes of its file: a data set is read without decoding what it holds."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from pipeline.core.pictures import MAX_PIXELS, BadPicture, check_regular

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers of a JPEG that begin a picture
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 256, 257
_SIDEWAYS = frozenset({5, 6, 7, 8})  # the mirrored ones, too: FFmpeg takes them for plain turns
_MOST_TAGS, _MOST_CHUNKS = 1024, 1 << 16
_EXIF = b"Exif\0\0"


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in pixels, upright as `FrameImage` shows it. Raises `BadPicture`; what lies behind the header
    is not looked at, so a picture may have a size and still turn out damaged."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            width, height = _size(file)
    except OSError as error:
        raise BadPicture(f"cannot be read: {error.strerror}") from None
    except (struct.error, IndexError):
        raise BadPicture("is cut off") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise BadPicture(f"has more than {MAX_PIXELS} pixels, or none")
    return width, height


def _size(file: BinaryIO) -> tuple[int, int]:
    head = file.read(32)
    if not head:
        raise BadPicture("is empty")
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(file)
    sideways = False
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", head, 16)
        sideways = _noted(file, 8, b"eXIf", ">", 12)
    elif head.startswith(b"BM"):
        old = struct.unpack_from("<I", head, 14)[0] == 12
        width, height = struct.unpack_from("<HH" if old else "<ii", head, 18)
        height = abs(height)  # negative where the top line comes first
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        width, height = _webp(head)
        sideways = _noted(file, 12, b"EXIF", "<", 8)
    elif head.startswith((b"II*\0", b"MM\0*")):
        tags = _tags(file, 0)
        width, height = tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)
        sideways = tags.get(_ORIENTATION) in _SIDEWAYS
    else:
        raise BadPicture("is not a JPEG, PNG, BMP, WebP or TIFF picture")
    return (height, width) if sideways else (width, height)


def _jpeg(file: BinaryIO) -> tuple[int, int]:
    """From segment to segment up to the one that begins the picture; EXIF comes before it and may say that the camera
    was held sideways."""
    sideways = False
    place = 2
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        mark, kind = struct.unpack(">BB", file.read(2))
        if mark != 0xFF:
            raise BadPicture("is damaged")
        if kind == 0xFF:  # padding
            place += 1
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if kind in _FRAMES:
            height, width = struct.unpack(">xHH", file.read(5))
            return (height, width) if sideways else (width, height)
        if kind == 0xE1 and file.read(len(_EXIF)) == _EXIF:
            sideways = _sideways(file, file.tell())
        place += 2 + length
    raise BadPicture("is damaged")


def _noted(file: BinaryIO, place: int, wanted: bytes, order: str, frame: int) -> bool:
    """Whether a PNG or WebP says that the camera was held sideways: in a chunk `wanted`, which may be the last. Of PNG
    a chunk is length, name, body, checksum; of WebP name, length, body, and the next begins at an even place."""
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return False
        png = order == ">"
        name, size = (head[4:], head[:4]) if png else (head[:4], head[4:])
        (length,) = struct.unpack(f"{order}I", size)
        if name == wanted:
            return _sideways(file, place + 8)
        place += frame + length + (0 if png else length % 2)
    return False


def _sideways(file: BinaryIO, start: int) -> bool:
    try:
        return _tags(file, start).get(_ORIENTATION) in _SIDEWAYS
    except struct.error:
        return False  # a damaged note about a picture is no damaged picture


def _tags(file: BinaryIO, start: int) -> dict[int, int]:
    """The whole numbers of the first directory of a TIFF that begins at `start`; EXIF is one inside a JPEG."""
    file.seek(start)
    magic = file.read(4)
    if magic not in {b"II*\0", b"MM\0*"}:
        return {}
    order = "<" if magic.startswith(b"II") else ">"
    (offset,) = struct.unpack(f"{order}I", file.read(4))
    file.seek(start + offset)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    tags: dict[int, int] = {}
    for _ in range(min(count, _MOST_TAGS)):
        tag, kind, _number, value = struct.unpack(f"{order}HHI4s", file.read(12))
        if kind in {3, 4}:  # short, long
            tags[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", value)[0]
    return tags


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    raise BadPicture("is damaged")
