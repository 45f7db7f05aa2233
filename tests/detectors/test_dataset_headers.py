"""A picture's size from its header is the size that it is shown with."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.datasets.headers import size_of
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import BadPicture, read_picture
from tests.detectors.made_pictures import encoded, held, turned

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8)
JPEG = encoded(".jpg", PIXELS[..., :3])
PNG = encoded(".png", PIXELS[..., :3])
WEBP = encoded(".webp", PIXELS, cv2.IMWRITE_WEBP_QUALITY, 50)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def noted_webp() -> bytes:
    data = bytearray(WEBP + b"EXIF" + struct.pack("<I", len(held(8))) + held(8))
    data[20] |= 8  # there is EXIF
    struct.pack_into("<I", data, 4, len(data) - 8)
    return bytes(data)


def noted_tiff() -> bytes:
    """Its directory written once more at the end, with the orientation in it."""
    data = bytearray(encoded(".tif", PIXELS[..., :3]))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [bytes(data[start + 2 + 12 * k : start + 14 + 12 * k]) for k in range(count)]
    entries = [entry for entry in entries if entry[:2] != struct.pack("<H", 0x0112)]
    entries = sorted([*entries, struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)], key=lambda e: struct.unpack_from("<H", e))
    struct.pack_into("<I", data, 4, len(data))
    return bytes(data) + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0"


@pytest.mark.parametrize(
    "data",
    [
        *(turned(JPEG, orientation) for orientation in range(10)),
        PNG,
        PNG[:33] + chunk(b"eXIf", held(6)) + PNG[33:],
        PNG[:-12] + chunk(b"eXIf", held(5)) + PNG[-12:],
        encoded(".bmp", PIXELS[..., :3]),
        encoded(".webp", PIXELS[..., :3], cv2.IMWRITE_WEBP_QUALITY, 50),
        encoded(".webp", PIXELS[..., :3], cv2.IMWRITE_WEBP_QUALITY, 101),
        WEBP,
        noted_webp(),
        encoded(".tif", PIXELS[..., :3]),
        noted_tiff(),
    ],
)
def test_the_size_is_the_one_that_is_shown(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "picture"
    path.write_bytes(data)
    shown = FrameImage(read_picture(path))
    assert size_of(path) == (shown.width, shown.height)
    assert {shown.width, shown.height} == {53, 37}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"no picture", "is not a JPEG"),
        (JPEG[:20], "is cut off"),
        (PNG[:18], "is cut off"),
        (b"\xff\xd8\xff\xe0\0\x02no marker", "is damaged"),
        (b"\xff\xd8" + b"\xff" * 100_000, "is damaged"),
        (PNG[:16] + struct.pack(">II", 0, 9) + PNG[24:], "or none"),
        (PNG[:16] + struct.pack(">II", 1 << 20, 1 << 20) + PNG[24:], "has more than"),
        (b"RIFF\0\0\0\0WEBPABCD" + bytes(20), "is damaged"),
    ],
)
def test_what_has_no_size_says_why(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "picture"
    path.write_bytes(data)
    with pytest.raises(BadPicture, match=why):
        size_of(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match="cannot be read"):
        size_of(tmp_path / "none.jpg")


@given(st.sampled_from([JPEG, PNG, WEBP, noted_tiff(), encoded(".bmp", PIXELS)]), st.data())
def test_damage_is_no_traceback(tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    place = data.draw(st.integers(0, min(len(whole), 700) - 1))
    path.write_bytes(whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + data.draw(st.integers(0, 8)) :])
    try:
        width, height = size_of(path)
    except BadPicture:
        return
    assert width > 0 and height > 0
