"""Few bytes that would take much memory, decoded in a process of its own whose memory is looked at."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

_MOST_MIB = 60
_PROGRAM = """
import resource, sys
from pathlib import Path
from pipeline.core.pictures import BadPicture, decode_picture
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
data = Path(sys.argv[1]).read_bytes()
before = peak()
try:
    frame = decode_picture(data, 4_000_000)
    word = f"{frame.width}x{frame.height}"
except BadPicture as error:
    word = "refused"
print(word, peak() - before)
"""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *beside: bytes, rows: int | None = None) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = zlib.compress(bytes(width + 1) * (height if rows is None else rows), 9)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(beside) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def squeezed(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


PROFILE = chunk(b"iCCP", b"x\0\0" + squeezed(512 << 20))
COMMENT = chunk(b"zTXt", b"x\0\0" + squeezed(512 << 20))
JPEG = b"\xff\xd8\xff\xc0\x00\x0b\x08%b\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\xff\xd9"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (png(64, 64, PROFILE), "64x64"),
        (png(64, 64, COMMENT), "64x64"),
        (png(60_000, 60_000, rows=2), "refused"),
        (png(2**31 - 1, 1, rows=0), "refused"),
        (JPEG % struct.pack(">HH", 65_000, 65_000), "refused"),
        (b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0), "refused"),
        (b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x3f" * 2, "refused"),
    ],
    ids=["profile", "comment", "png", "wide", "jpeg", "bmp", "webp"],
)
def test_a_bomb_takes_no_memory(tmp_path: Path, project: Path, data: bytes, word: str) -> None:
    (tmp_path / "bomb").write_bytes(data)
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "bomb")], cwd=project, capture_output=True, text=True
    )
    said, mebibytes = ran.stdout.split()
    assert said == word
    assert int(mebibytes) < _MOST_MIB
