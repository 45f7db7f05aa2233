"""Films from files: whole, cut off, damaged, and none at all."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.core.errors import InputError
from pipeline.core.records import Chunk
from sources.file import File, content_digest
from tests.contracts import source_suite as suite

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"
FRAMES = 250


def film(path: Path, codec: str = "libx264", frames: int = 30, size: tuple[int, int] = (128, 96)) -> Path:
    """A film of that many noisy frames, so that each packet holds some bytes to damage."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(frames):
            pixels = rng.integers(0, 255, (size[1], size[0], 3), np.uint8)
            container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_contract() -> None:
    plan = File(path=BIKES)
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=FRAMES)
    assert len(suite.chunks(items)) == FRAMES
    suite.check_replay(plan, most=40)


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264", "a.mkv"), ("mpeg4", "a.avi"), ("mjpeg", "a.avi"), ("libvpx-vp9", "a.webm"), ("libx264", "a.ts")],
)
def test_every_frame_of_other_formats(tmp_path: Path, codec: str, name: str) -> None:
    plan = File(path=film(tmp_path / name, codec))
    _, items = suite.read(plan)
    suite.check_items(items, received=30)
    assert len(suite.chunks(items)) == 30
    assert {c.duration_ns for c in suite.chunks(items)} <= {99_000_000, 100_000_000, 101_000_000}
    suite.check_replay(plan)


def test_media_time_and_size() -> None:
    _, items = suite.read(File(path=BIKES), most=10)
    assert [c.pts_ns for c in suite.chunks(items)] == [n * 40_000_000 for n in range(10)]
    assert {(c.payload.width, c.payload.height) for c in suite.chunks(items)} == {(640, 272)}


def test_ids_follow_the_content(tmp_path: Path) -> None:
    copy = shutil.copy(BIKES, tmp_path / "other name.mp4")
    other = film(tmp_path / "other.mp4")
    assert content_digest(Path(copy)) == content_digest(BIKES) != content_digest(other)


def test_digest_of_large_files_sees_size_and_samples(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(80 << 20)
    blank = content_digest(large)
    with large.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert content_digest(large) != blank
    with large.open("r+b") as file:
        file.truncate((80 << 20) + 1)
    assert content_digest(large) != blank


def test_loop_goes_on_in_time_and_number() -> None:
    _, items = suite.read(File(path=BIKES, loop=True), most=FRAMES * 2 + 10)
    suite.check_items(items, received=FRAMES * 2 + 10)
    assert suite.chunks(items)[FRAMES].pts_ns == FRAMES * 40_000_000


def test_realtime_comes_at_its_own_speed(tmp_path: Path) -> None:
    plan = File(path=film(tmp_path / "slow.mp4", frames=8), realtime=True)
    assert plan.paced
    start = time.monotonic_ns()
    _, items = suite.read(plan)
    assert time.monotonic_ns() - start >= 600_000_000
    arrivals = [c.mono_ns for c in suite.chunks(items)]
    assert all(later > earlier for earlier, later in itertools.pairwise(arrivals))


def test_realtime_wakes_between_distant_frames(tmp_path: Path) -> None:
    path = tmp_path / "sparse.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(1))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for n in range(2):
            frame = VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = n * 2, Fraction(1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, items = suite.read(File(path=path, realtime=True))
    kinds = [isinstance(item, Chunk) for item in items]
    assert kinds[0] and kinds[-1] and kinds.count(False) >= 3


def test_damaged_bytes_are_counted_not_judged(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.ts", frames=60)
    data = bytearray(whole.read_bytes())
    rng = random.Random(3)
    for _ in range(40):
        data[rng.randrange(len(data) // 4, len(data))] ^= 0xFF
    hurt = tmp_path / "hurt.ts"
    hurt.write_bytes(data)
    _, items = suite.read(File(path=hurt))
    suite.check_items(items, intact=False)
    assert suite.gaps(items, "damaged") + suite.gaps(items, "undecoded") > 0
    with av.open(str(hurt)) as container:
        received = sum(1 for packet in container.demux(video=0) if packet.size)
    suite.check_items(items, received=received, intact=False)
    suite.check_replay(File(path=hurt, threads=1))


def test_a_cut_off_jpeg_film_loses_only_its_last_picture(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.avi", "mjpeg", frames=5)
    with av.open(str(whole)) as container:
        last = [p.pos for p in container.demux(video=0) if p.size][-1]
    assert last is not None
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: last + 400])
    _, items = suite.read(File(path=cut))
    assert len(suite.chunks(items)) == 4
    suite.check_items(items, received=5, intact=False)


def test_a_cut_off_film_is_judged_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.ts", frames=40)
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    _, items = suite.read(File(path=cut))
    assert 10 <= len(suite.chunks(items)) <= 25


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.mp4", b"", "is empty"),
        ("garbage.mp4", bytes(range(256)) * 40, "cannot be read as a video"),
        ("text.mp4", b"hello, I am no video\n" * 50, "video"),
        ("cut.mp4", BIKES.read_bytes()[:20_000], "cannot be read as a video"),
    ],
)
def test_what_is_no_film(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        suite.read(File(path=path))
    assert caught.value.place == str(path)
    assert "\n" not in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        File(path=tmp_path / "none.mp4").check()
    with pytest.raises(InputError, match="is not a file"):
        File(path=tmp_path).check()


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="no video"):
        suite.read(File(path=path))


def test_too_many_pixels(tmp_path: Path) -> None:
    path = film(tmp_path / "large.mp4", frames=2)
    with pytest.raises(InputError, match="128×96 is more than the 12287 pixels"):
        suite.read(File(path=path, max_pixels=128 * 96 - 1))
    assert len(suite.chunks(suite.read(File(path=path, max_pixels=128 * 96))[1])) == 2


def test_a_playlist_leads_to_no_other_protocol(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError):
        suite.read(File(path=path))


def test_a_film_that_was_cut_off_is_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = Path("tests/data/bikes.mp4")
    moved = tmp_path / "index-first.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(whole), "-c", "copy", "-movflags", "+faststart", str(moved)], check=True
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(moved.read_bytes()[: moved.stat().st_size // 3])
    for film, expected in ((moved, False), (cut, True)):
        caplog.clear()
        reader = File(path=film).open("s")
        assert sum(isinstance(item, Chunk) for item in reader) > 5
        reader.close()
        assert any("that it should have" in line for line in caplog.messages) is expected
