"""Readers that go on behind a window: to the id, the media time and the picture what an uninterrupted reading gives."""

from __future__ import annotations

import shutil
import subprocess
import time
import wave
from collections.abc import Mapping
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.core.contracts import Source
from pipeline.core.places import Place
from pipeline.core.records import Chunk, Item
from sources.file import File
from sources.folder import Folder
from sources.line import Line
from sources.lines import Lines
from sources.memory import Memory, Missing
from sources.sound_file import SoundFile
from tests.contracts import source_suite as suite

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"


def known(chunk: Chunk) -> tuple[object, ...]:
    sample = chunk.payload.sample()
    shown = suite.shown(chunk) if sample is None else sample.tobytes()
    return chunk.stream, chunk.epoch, chunk.seq, chunk.pts_ns, chunk.duration_ns, shown


def behind(chunk: Chunk) -> Place:
    return Place(chunk.epoch, chunk.seq, chunk.pts_ns, time.time_ns(), chunk.position)


def resumed(plan: Source, places: Mapping[str, Place]) -> list[Item]:
    source = plan.resumed(places)
    assert source is not None
    with closing(source.open(suite.STREAM)) as reader:
        assert all(place.epoch == reader.epoch for place in places.values())
        return list(reader)


def check_resuming(plan: Source, step: int = 1) -> None:
    """From behind every `step`th chunk on, and behind the last."""
    _, items = suite.read(plan)
    every = suite.chunks(items)
    for at in {*range(0, len(every), step), len(every) - 1}:
        rest = resumed(plan, {"": behind(every[at])})
        assert [known(c) for c in suite.chunks(rest)] == [known(c) for c in every[at + 1 :]]
        place = items.index(every[at])
        assert sum(map(suite.count, rest)) == sum(map(suite.count, items[place + 1 :])), "gaps are counted once"


def film(path: Path, codec: str, options: dict[str, str], damaged: bool = False) -> Path:
    rng = np.random.default_rng(2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for _ in range(60):
            container.mux(stream.encode(VideoFrame.from_ndarray(rng.integers(0, 255, (48, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    if damaged:
        data = bytearray(path.read_bytes())
        for at in range(len(data) // 3, len(data) // 3 + 4000, 7):
            data[at] ^= 0x5A
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options", "damaged"),
    [
        ("a.mp4", "libx264", {"g": "12", "bf": "3"}, False),
        ("open.ts", "libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}, False),
        ("a.mkv", "libx264", {"g": "250"}, False),
        ("a.avi", "mpeg4", {"g": "5"}, False),
        ("a.avi", "mjpeg", {}, False),
        ("a.webm", "libvpx-vp9", {}, False),
        ("damaged.ts", "libx264", {"g": "12"}, True),
    ],
)
@pytest.mark.parametrize("sought", [False, True])
def test_films(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    options: dict[str, str],
    damaged: bool,
    sought: bool,
) -> None:
    if sought:
        monkeypatch.setattr("sources.file.WORTH_NS", 0)
        monkeypatch.setattr("sources.film_seeking._BACK_NS", 500_000_000)
    check_resuming(File(path=film(tmp_path / name, codec, options, damaged), threads=1), step=7)


@pytest.mark.slow
@pytest.mark.parametrize("sought", [False, True])
def test_real_films(people_clip: Path, monkeypatch: pytest.MonkeyPatch, sought: bool) -> None:
    if sought:
        monkeypatch.setattr("sources.file.WORTH_NS", 0)
    check_resuming(File(path=people_clip), step=61)
    check_resuming(File(path=BIKES), step=83)


def test_a_film_that_was_read_to_its_end_has_nothing_left() -> None:
    _, items = suite.read(File(path=BIKES))
    rest = resumed(File(path=BIKES), {"": behind(suite.chunks(items)[-1])})
    assert not sum(map(suite.count, rest))


def test_a_long_film_is_not_decoded_from_its_beginning(people_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sources.file.WORTH_NS", 0)
    _, items = suite.read(File(path=people_clip))
    every = suite.chunks(items)
    source = File(path=people_clip).resumed({"": behind(every[180])})
    assert source is not None
    with closing(source.open(suite.STREAM)) as reader:
        assert [c.seq for c in suite.chunks(reader)] == list(range(181, 200))
        assert reader.decoder.received < 150


def with_sound(tmp_path: Path) -> Path:
    path = tmp_path / "talk.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=4", "-f", "lavfi", "-i",
         "sine=frequency=440:sample_rate=16000:duration=4", "-c:v", "libx264", "-c:a", "aac", str(path)],
        check=True,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("seen", "heard"), [(3, 20), (25, 2), (39, 39), (10, None), (None, 10)])
def test_two_tracks_go_on_each_from_its_own(tmp_path: Path, seen: int | None, heard: int | None) -> None:
    plan = File(path=with_sound(tmp_path), sound={"rate": 16000, "window_s": 0.5})
    _, items = suite.read(plan)
    tracks = {
        track: [c for c in suite.chunks(items) if c.stream == f"{suite.STREAM}{track and '.'}{track}"]
        for track in ("", "sound")
    }
    cut = {"": seen, "sound": heard}
    rest = resumed(plan, {track: behind(tracks[track][at]) for track, at in cut.items() if at is not None})
    for track, every in tracks.items():
        at = cut[track]
        left = [known(c) for c in suite.chunks(rest) if c.stream == every[0].stream]
        assert left == [known(c) for c in every[0 if at is None else at + 1 :]]


def test_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(1).integers(-9000, 9000, 32000).astype("<i2").tobytes())
    check_resuming(SoundFile(path=path, hop_s=0.1), step=3)


def pictures(tmp_path: Path) -> None:
    for n in range(6):
        suffix = "png" if n != 3 else "jpg"
        path = tmp_path / f"{n}.{suffix}"
        if n == 3:
            path.write_bytes(b"no picture")
            continue
        with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
            container.mux(stream.encode(VideoFrame.from_ndarray(np.full((16, 16, 3), n * 9, np.uint8))))
            container.mux(stream.encode(None))


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path)
    check_resuming(Folder(path=tmp_path))


def test_a_line_at_a_pace(tmp_path: Path) -> None:
    pictures(tmp_path)
    check_resuming(Line(path=tmp_path, fps=100, repeat=2, latency_budget_ms=60_000), step=3)
    check_resuming(Line(path=tmp_path, fps=100, preload=True, latency_budget_ms=60_000), step=3)
    assert Line(path=tmp_path, trigger="folder").resumed({}) is None


def test_a_script() -> None:
    pictures = [np.full((8, 8, 3), n, np.uint8) for n in range(9)]
    check_resuming(Memory(script=[*pictures, Missing(3), *pictures], repeat=2))


def test_lines_and_what_was_said_before_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = "word " * 40
    rows = [f'{{"text": "t{n} {long if n % 5 == 0 else ""}", "user": "u{n % 2}", "room": "r"}}' for n in range(20)]
    path.write_bytes("\n".join(rows).encode() + b"\n\xff\xfe\nrest")
    plan = Lines(path=str(path), longest=64)
    check_resuming(plan)
    every = suite.chunks(suite.read(plan)[1])
    rest = suite.chunks(resumed(plan, {"": behind(every[20])}))
    assert [c.payload.author_said for c in rest] == [c.payload.author_said for c in every[21:]]  # type: ignore[attr-defined]


# A followed file.


def follow(path: Path, place: Place | None = None, most: int | None = None, seconds: float = 1.5) -> list[Item]:
    """What is read within that time, or until so many frames came."""
    plan: Lines | None = Lines(path=str(path), follow=True, from_start=True)
    assert plan is not None
    if place is not None:
        plan = plan.resumed({"": place})
        assert plan is not None
    with closing(plan.open(suite.STREAM)) as reader:
        items: list[Item] = []
        end = time.monotonic() + seconds
        for item in reader:
            items.append(item)
            if time.monotonic() > end or (most is not None and sum(map(suite.count, items)) >= most):
                break
        return items


def said(items: list[Item]) -> list[str]:
    return [suite.shown(c).decode() for c in suite.chunks(items)]


def lines(*numbers: int) -> str:
    return "".join(f"line number {n} of the log\n" for n in numbers)


def places(path: Path, count: int) -> list[Place]:
    return [behind(c) for c in suite.chunks(follow(path, most=count))]


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def texts(*numbers: int) -> list[str]:
    return lines(*numbers).splitlines()


def test_a_followed_file_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "chat.log"
    path.write_text(lines(*range(8)))
    every = places(path, 8)
    add(path, lines(8, 9) + "torn")
    for at in (0, 3, 7):
        items = follow(path, every[at], most=9 - at)
        assert said(items) == texts(*range(at + 1, 10))
        assert [c.seq for c in suite.chunks(items)] == list(range(at + 1, 10))
        assert {c.epoch for c in suite.chunks(items)} == {every[0].epoch}, "the ids go on"
        assert all(c.pts_ns > every[at].pts_ns for c in suite.chunks(items))


@pytest.mark.parametrize("way", ["renamed", "dated", "copied", "twice"])
def test_a_file_that_was_rotated_meanwhile_is_read_to_its_end_first(tmp_path: Path, way: str) -> None:
    path = tmp_path / "chat.log"
    path.write_text(lines(*range(8)))
    place = places(path, 8)[5]
    add(path, lines(8, 9))
    if way == "copied":  # copytruncate: the same file goes on, and its content is elsewhere
        shutil.copy(path, tmp_path / "chat.log.1")
        path.write_text(lines(10, 11))
    elif way == "twice":
        path.rename(tmp_path / "chat.log.2")
        (tmp_path / "chat.log.1").write_text(lines(10))
        path.write_text(lines(11))
    else:
        path.rename(tmp_path / ("chat.log.1" if way == "renamed" else "chat.log-20260131"))
        path.write_text(lines(10, 11))
    (tmp_path / "chat.log.lock").write_text("no log\n")
    (tmp_path / "other.log.1").write_text(lines(77))
    items = follow(path, place, most=6)
    assert said(items) == texts(6, 7, 8, 9, 10, 11)
    assert [c.seq for c in suite.chunks(items)] == list(range(6, 12))


@pytest.mark.parametrize("way", ["gone", "cut off", "another with its number"])
def test_what_was_rotated_away_and_is_not_found_is_a_gap(
    tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chat.log"
    path.write_text(lines(*range(8)))
    place = places(path, 8)[5]
    if way == "cut off":
        path.write_text(lines(20))
    elif way == "gone":
        path.unlink()
        (tmp_path / "other").write_text("so that the number is not given again")
        path.write_text(lines(20))
    else:
        path.write_text(lines(*range(20, 40)))
    items = follow(path, place, most=2)
    assert suite.gaps(items, "undecoded") == 1
    assert said(items)[0] == texts(20)[0]
    assert suite.chunks(items)[0].seq == place.seq + 2
    assert "whatever was written to it since then is lost" in caplog.text


def test_a_restart_before_the_first_line_misses_none(tmp_path: Path) -> None:
    path = tmp_path / "chat.log"
    path.write_text(lines(0, 1))
    with closing(Lines(path=str(path), follow=True).open("s")) as reader:
        start = reader.start  # type: ignore[attr-defined]
    add(path, lines(2, 3))
    assert said(follow(path, start, most=2)) == texts(2, 3)
    absent = tmp_path / "late.log"
    with closing(Lines(path=str(absent), follow=True).open("s")) as reader:
        start = reader.start  # type: ignore[attr-defined]
    absent.write_text(lines(5))
    assert said(follow(absent, start, most=1)) == texts(5)


def test_context_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "chat.log"
    path.write_text("".join(f'{{"text": "t{n}", "user": "ann"}}\n' for n in range(9)))
    every = suite.chunks(follow(path, most=9))
    rest = suite.chunks(follow(path, behind(every[5]), most=3))
    assert [c.payload.author_said for c in rest] == [c.payload.author_said for c in every[6:]]  # type: ignore[attr-defined]


def test_pipes_and_watched_folders_begin_anew(tmp_path: Path) -> None:
    assert Lines(path="-").resumed({}) is None
    assert Folder(path=tmp_path, watch=True).resumed({}) is None
