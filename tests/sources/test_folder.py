"""Pictures from folders, still and watched."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import BadPicture, decode_picture
from pipeline.core.records import Chunk, Gap, Item, Watermark
from sources.folder import Folder
from tests.contracts import source_suite as suite

CODECS = {"jpg": "mjpeg", "png": "png", "bmp": "bmp", "tiff": "tiff", "webp": "libwebp"}
FORMATS = {"jpg": "yuvj420p", "png": "rgb24", "bmp": "bgr24", "tiff": "rgb24", "webp": "yuv420p"}


def picture(suffix: str, width: int = 64, height: int = 48) -> bytes:
    """A picture whose left half is black and whose right half is white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    codec = av.CodecContext.create(CODECS[suffix], "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, FORMATS[suffix], 1
    frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=FORMATS[suffix])
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def huge_png(side: int) -> bytes:
    """`side`×`side` black pixels in next to no bytes."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(b"\0" * (side + 1)) for _ in range(side)) + squeeze.flush()
    header = part(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + part(b"IDAT", rows) + part(b"IEND", b"")


def turned(jpeg: bytes, orientation: int) -> bytes:
    """`jpeg` with an EXIF orientation."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(picture(name.rpartition(".")[2]))
    return folder


def test_contract(tmp_path: Path) -> None:
    plan = Folder(path=fill(tmp_path, "c.png", "a.jpg", "b.bmp", "e.tiff", "d.webp"))
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=5)
    suite.check_replay(plan)
    for chunk in suite.chunks(items):
        rgb = chunk.payload.rgb()
        assert rgb.shape == (48, 64, 3) and rgb[:, :24].mean() < 20 and rgb[:, 40:].mean() > 235
    assert not plan.live and not plan.paced


def test_order_and_way_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sources.folder")
    suite.read(Folder(path=fill(tmp_path, "b.png", "a.PNG".lower(), "c.png")))
    assert [line.split()[-1] for line in caplog.messages] == [str(tmp_path / f"{n}.png") for n in "abc"]
    assert "cam-1/" in caplog.messages[2] and "/2 is " in caplog.messages[2]


def test_what_is_no_picture_is_counted_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "a.png", "f.png")
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes(b"not a picture at all")
    (tmp_path / "d.png").write_bytes(picture("png")[:-20])
    (tmp_path / "e.jpg").write_bytes(picture("jpg", 640, 480)[:-30])
    (tmp_path / "notes.txt").write_text("no picture by name")
    (tmp_path / ".hidden.png").write_bytes(b"somebody's unfinished business")
    _, items = suite.read(Folder(path=tmp_path))
    suite.check_items(items, received=6, intact=False)
    assert [c.seq for c in suite.chunks(items)] == [0, 5]
    for name in ("b.png", "c.jpg", "d.png", "e.jpg"):
        assert sum(name in line for line in caplog.messages) == 1


def test_a_huge_picture_is_refused_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "a.png", "z.png")
    (tmp_path / "huge.png").write_bytes(huge_png(12_000))
    _, items = suite.read(Folder(path=tmp_path))
    assert [isinstance(item, Gap) for item in items] == [False, True, False]
    assert "huge.png: has more than 67108864 pixels" in caplog.text


READING = """
import resource, sys
from pathlib import Path
from pipeline.core.errors import InputError
from sources.file import File
from sources.folder import Folder

def read(folder):
    for plan in (Folder(path=folder), File(path=next(folder.iterdir()))):
        try:
            reader = plan.open("s")
            list(reader)
        except InputError as error:
            print(error, file=sys.stderr)

read(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read(Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_huge_picture_costs_no_memory(tmp_path: Path) -> None:
    """In a process of its own: the most memory that a process ever had never shrinks."""
    for name, data in (("small", picture("png")), ("huge", huge_png(12_000))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(data)
    command = [sys.executable, "-c", READING, str(tmp_path / "small"), str(tmp_path / "huge")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # KiB; its pixels alone are 140,000
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and all("huge" in line for line in lines)


@pytest.mark.parametrize(("orientation", "dark"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_orientation_of_a_camera(orientation: int, dark: str) -> None:
    image = FrameImage(decode_picture(turned(picture("jpg"), orientation), 10_000))
    rgb = image.rgb()
    assert rgb.shape == ((48, 64, 3) if dark in {"left", "right"} else (64, 48, 3)) == (image.height, image.width, 3)
    halves = {"left": rgb[:, :20], "right": rgb[:, -20:], "top": rgb[:20], "bottom": rgb[-20:]}
    assert halves[dark].mean() < 20


@pytest.mark.parametrize("suffix", sorted(CODECS))
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
def test_half_a_picture_is_no_picture(suffix: str, keep: float) -> None:
    data = picture(suffix, 320, 240)
    with pytest.raises(BadPicture):
        decode_picture(data[: int(len(data) * keep)], 1_000_000)


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Folder(path=tmp_path / "none").check()
    with pytest.raises(InputError, match="holds no pictures"):
        Folder(path=tmp_path).check()
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="is not a folder"):
        Folder(path=tmp_path / "a.png").check()
    with pytest.raises(InputError, match="no picture that can be decoded") as caught:
        suite.read(Folder(path=tmp_path))
    assert caught.value.place == str(tmp_path)


def settle(items: Iterator[Item], how_many: int) -> list[Chunk | Gap]:
    """The next pictures; never waits for more than a second without a word."""
    found: list[Chunk | Gap] = []
    start = last = time.monotonic()
    for item in items:
        assert time.monotonic() - last < 2
        last = time.monotonic()
        if not isinstance(item, Watermark):
            found.append(item)
            if len(found) == how_many:
                return found
        assert time.monotonic() - start < 15
    raise AssertionError("it ended")


@pytest.fixture
def watched(tmp_path: Path) -> Folder:
    return Folder(path=tmp_path, watch=True, settle_s=0.1)


def test_contract_of_a_watched_folder(watched: Folder) -> None:
    fill(watched.path, "a.png", "b.jpg")
    assert not watched.paced and not watched.live
    suite.check_plan(watched)
    suite.check_closing(watched)
    suite.check_epochs(watched)
    suite.check_items(suite.read(watched, most=2)[1], received=2)


def test_pictures_that_arrive(watched: Folder) -> None:
    fill(watched.path, "b.png", "a.png")
    with closing(watched.open(suite.STREAM)) as reader:
        items = iter(reader)
        first = settle(items, 2)
        fill(watched.path, "later.jpg")
        second = settle(items, 1)
        (watched.path / "moving.tmp").write_bytes(picture("png"))
        os.rename(watched.path / "moving.tmp", watched.path / "moved.png")
        third = settle(items, 1)
        fill(watched.path, "later.jpg")  # the same name again: a camera's snapshot
        fourth = settle(items, 1)
    found = [*first, *second, *third, *fourth]
    assert [c.seq for c in found if isinstance(c, Chunk)] == [0, 1, 2, 3, 4]
    assert [c.pts_ns for c in suite.chunks(found)] == sorted(c.pts_ns for c in suite.chunks(found))


def test_half_written_files_are_left_alone(watched: Folder) -> None:
    data = picture("png", 320, 240)
    with closing(watched.open(suite.STREAM)) as reader:
        items = iter(reader)
        with (watched.path / "slow.png").open("wb") as file:
            for part in range(0, len(data), len(data) // 4):
                file.write(data[part : part + len(data) // 4])
                file.flush()
                for _ in range(1):
                    assert isinstance(next(items), Watermark)  # half a second each: far beyond the settling time
        assert isinstance(settle(items, 1)[0], Chunk)


def test_a_pause_of_the_writer_is_no_end_and_a_new_date_is_no_writing(tmp_path: Path) -> None:
    data = picture("png", 320, 240)
    with closing(Folder(path=tmp_path, watch=True, settle_s=0.02).open(suite.STREAM)) as reader:
        items = iter(reader)
        with (tmp_path / "slow.png").open("wb") as file:
            file.write(data[:200])
            file.flush()
            assert all(isinstance(next(items), Watermark) for _ in range(2))  # a second: many times the settling time
            file.write(data[200:])
        assert isinstance(settle(items, 1)[0], Chunk)
        (tmp_path / "x.png").mkdir()
        os.mkfifo(tmp_path / "y.png")
        (tmp_path / "dated.png").write_bytes(data)
        os.utime(tmp_path / "dated.png", (0, 0))
        (tmp_path / "dated.png").chmod(0o640)
        (tmp_path / "linked.png").symlink_to(tmp_path / "slow.png")
        os.link(tmp_path / "slow.png", tmp_path / "also.png")
        start = time.monotonic()
        assert all(isinstance(item, Chunk) for item in settle(items, 3))
        assert time.monotonic() - start < 5, "nobody waits for what will never be closed"


def test_a_watched_folder_that_goes_away(watched: Folder) -> None:
    with closing(watched.open(suite.STREAM)) as reader:
        items = iter(reader)
        assert isinstance(next(items), Watermark)
        watched.path.rmdir()
        with pytest.raises(SourceLost, match="is gone"):
            settle(items, 1)


def test_results_name_the_picture(tmp_path: Path) -> None:
    with closing(Folder(path=fill(tmp_path, "b.png", "a.png")).open("s")) as reader:
        assert [item.file for item in reader if isinstance(item, Chunk)] == ["a.png", "b.png"]
