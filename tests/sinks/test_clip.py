"""Clips of real films: cut at key frames, nothing encoded anew, whole or not there at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from pipeline.core.contracts import Sink
from pipeline.core.errors import InputError
from pipeline.core.records import Result, Window
from pipeline.core.tapes import Recording
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.clip import Clip
from sources.file import File
from sources.hearing import SoundTrack
from tests.contracts.sink_suite import EVERY_KIND, event
from tests.core.test_tapes import recorded
from tests.engine.parts import generation
from tests.sinks.clip_parts import clips, levels, make_film, packets

EVENTS = EventSettings(start_after=2, end_after_s=0.5)


def run(film: File, *sinks: Sink, events: EventSettings = EVENTS, seconds: float | None = None) -> None:
    pipeline = Pipeline(
        [StreamPlan("door", film, "levels", generation())],
        {f"sink{n}": sink for n, sink in enumerate(sinks)},
        events=events,
    )
    pipeline.start()
    assert pipeline.wait(seconds or 60) or seconds
    pipeline.stop()
    for sink in pipeline.snapshot().sinks:
        assert (sink.refused, sink.dropped, sink.detail) == (0, 0, "")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", 20, [(6.2, 8.0), (13.0, 14.0)])


@pytest.mark.parametrize("max_fps", [None, 5])
def test_each_event_gets_the_seconds_around_it(film: Path, tmp_path: Path, max_fps: float | None) -> None:
    plan = Clip(path=str(tmp_path / "clips"), before_s=2, after_s=1)
    run(File(path=film, max_fps=max_fps), plan)
    made = clips(tmp_path / "clips")
    assert len(made) == 2
    source = packets(film)
    for (path, said), (start, end) in zip(made.items(), [(6.2, 8.0), (13.0, 14.0)], strict=True):
        assert said["clip"] == path.name and said["event"]["type"] == "end" and said["whole"]
        shown = levels(path)
        begins = said["start_ns"] / 1e9
        assert start - 3 - 0.05 <= begins <= start - 2 + 0.05, "at the key frame before"
        assert begins == pytest.approx(round(begins), abs=0.01), "which is a whole second in this film"
        assert said["begins_late_s"] == 0
        assert begins + shown[-1][0] == pytest.approx(end + 1, abs=0.3)
        at = said["event_at_s"]
        assert at == pytest.approx(start - begins, abs=0.25)
        bright = [when for when, level in shown if level > 120]
        assert bright[0] == pytest.approx(start - begins, abs=0.05)
        assert bright[-1] == pytest.approx(end - begins, abs=0.1)
        taken = packets(path)
        assert len(shown) == len(taken), "every packet is a picture that can be shown"
        first = source.index(taken[0])
        assert taken == source[first : first + len(taken)], "bit for bit"
    assert not list((tmp_path / "clips").glob("*/.*"))


def test_sound_beside_the_pictures_is_in_it(film: Path, tmp_path: Path) -> None:
    run(File(path=film, sound=SoundTrack()), Clip(path=str(tmp_path / "clips"), before_s=1, after_s=1))
    for path, said in clips(tmp_path / "clips").items():
        with av.open(str(path)) as container:
            seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
        assert seconds == pytest.approx((said["end_ns"] - said["start_ns"]) / 1e9, abs=0.3)
        assert said["codecs"] == ["h264", "aac"]


def test_the_same_film_again_makes_no_second_clip(film: Path, tmp_path: Path) -> None:
    plan = Clip(path=str(tmp_path), before_s=1, after_s=1)
    run(File(path=film), plan)
    first = {path: path.stat().st_mtime_ns for path in clips(tmp_path)}
    run(File(path=film), plan)
    assert {path: path.stat().st_mtime_ns for path in clips(tmp_path)} == first and len(first) == 2


def test_a_long_event_ends_at_its_longest_and_says_so(film: Path, tmp_path: Path) -> None:
    run(File(path=film), Clip(path=str(tmp_path), before_s=1, after_s=5, longest_s=2))
    for path, said in clips(tmp_path).items():
        assert not said["whole"]
        assert 1.5 <= (said["end_ns"] - said["start_ns"]) / 1e9 <= 3.1
        assert levels(path)


def test_what_the_tape_no_longer_holds_is_said(film: Path, tmp_path: Path) -> None:
    """An event that is told long after it began, on a tape that holds next to nothing."""
    second = sum(map(len, packets(film))) / 20 / 2**20
    plan = Clip(path=str(tmp_path), before_s=6, after_s=1, memory_mb=2 * second)
    pipeline = Pipeline([StreamPlan("door", File(path=film), "levels", generation())], {"clip": plan}, events=EVENTS)
    pipeline.start()
    assert pipeline.wait(60)
    pipeline.stop()
    made = clips(tmp_path)
    assert len(made) == 2
    assert all(said["begins_late_s"] > 0 for said in made.values())
    assert all(levels(path) for path in made)


def test_motion_jpeg_and_g711_go_into_quicktime(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mov", 6, [(2.0, 3.0)], codec="mjpeg")
    run(File(path=film, sound=SoundTrack()), Clip(path=str(tmp_path / "clips"), before_s=1, after_s=1))
    ((path, said),) = clips(tmp_path / "clips").items()
    assert path.suffix == ".mov" and said["codecs"] == ["mjpeg", "pcm_mulaw"]
    assert said["start_ns"] == pytest.approx(1e9, abs=5e7), "each picture is a key frame"
    assert len(levels(path)) == pytest.approx(75, abs=8)


def test_only_wanted_labels_are_cut(film: Path, tmp_path: Path) -> None:
    run(File(path=film), Clip(path=str(tmp_path), labels=("dark",)))
    assert not clips(tmp_path)


def test_a_folder_that_is_full_loses_its_oldest(film: Path, tmp_path: Path) -> None:
    run(File(path=film), Clip(path=str(tmp_path), before_s=1, after_s=1))
    first, second = clips(tmp_path)
    (tmp_path / "door" / "holiday.mp4").write_bytes(b"not ours")
    keep = (second.stat().st_size + 1) / 1e9
    Clip(path=str(tmp_path), keep_gb=keep).open().close()
    assert list(clips_named(tmp_path)) == ["holiday.mp4", second.name]
    assert not Path(f"{first}.json").exists()
    long_ago = time.time() - 3 * 86400
    os.utime(second, (long_ago, long_ago))
    Clip(path=str(tmp_path), keep_days=2).open().close()
    assert clips_named(tmp_path) == ["holiday.mp4"]


def clips_named(folder: Path) -> list[str]:
    return sorted((path.name for path in folder.glob("*/*.mp4")), reverse=True)


def test_what_a_killed_program_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "door").mkdir()
    half = tmp_path / "door" / ".20260131T120004Z_person_0123456789abcdef.mp4.unfinished"
    alone = tmp_path / "door" / "20260131T120004Z_person_0123456789abcdef.mp4.json"
    own = tmp_path / "door" / "notes.json"
    for path in (half, alone, own):
        path.write_text("{}")
    Clip(path=str(tmp_path)).open().close()
    assert [path.name for path in (tmp_path / "door").iterdir()] == ["notes.json"]


RUN = """
import sys
from pathlib import Path
from tests.sinks.test_clip import run
from sinks.clip import Clip
from sources.file import File
run(File(path=Path(sys.argv[1]), realtime=True), Clip(path=sys.argv[2], before_s=1, after_s=0.5))
"""


@pytest.mark.slow
def test_kill_9_leaves_no_clip_that_cannot_be_played(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 12, [(n + 0.2, n + 0.6) for n in range(1, 12, 2)])
    folder = tmp_path / "clips"
    for known in (1, 2, 4):
        command = [sys.executable, "-c", RUN, str(film), str(folder)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as child:
            begun = time.monotonic()
            while not list(folder.glob("*/.*.unfinished")) or len(list(folder.glob("*/*.mp4"))) < known:
                time.sleep(0.02)
                assert time.monotonic() - begun < 60 and child.poll() is None
            child.kill()
        made = clips(folder)  # reads the file beside each
        assert len(made) >= known
        assert all(len(levels(path)) == said["packets"] for path, said in made.items())
    Clip(path=str(folder)).open().close()
    assert not list(folder.glob("*/.*"))
    run(File(path=film), Clip(path=str(folder), before_s=1, after_s=0.5))
    assert len(clips(folder)) == 6, "what was swept is cut when the film is read again"


@pytest.mark.slow
def test_a_full_disk_is_waited_for(film: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    try:
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        plan = Clip(path=str(disk / "clips"), before_s=2, after_s=1)
        pipeline = Pipeline(
            [StreamPlan("door", File(path=film), "levels", generation())], {"clip": plan}, events=EVENTS
        )
        pipeline.start()
        end = time.monotonic() + 30
        while pipeline.snapshot().sinks[0].state != "busy":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert not list((disk / "clips").glob("*/*")), "no half files"
        ballast.unlink()
        assert pipeline.wait(30)
        pipeline.stop()
        (sink,) = pipeline.snapshot().sinks
        assert sink.refused == sink.dropped == 0 and sink.retries
        made = clips(disk / "clips")
        assert len(made) == 2 and all(levels(path) for path in made)
        opened = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        assert not [path for path in opened if str(disk) in path]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


class TestContract:
    """What holds for every sink; the rest of the suite is about outcomes, which this one does not keep."""

    def test_the_plan_is_picklable_and_checks_without_writing(self, tmp_path: Path) -> None:
        plan = pickle.loads(pickle.dumps(Clip(path=str(tmp_path / "clips"))))
        plan.check()
        assert list(tmp_path.iterdir()) == []
        writer = plan.open()
        writer.write([])
        writer.close()
        writer.close()

    def test_events_of_a_stream_without_packets_are_taken_and_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        writer = Clip(path=str(tmp_path)).open()
        for _ in range(2):
            writer.write([*EVERY_KIND, event(), event("end", 7)])
        writer.close()
        assert [record.message for record in caplog.records] == ["door has no packets to cut clips from"]

    def test_a_file_in_its_place_is_a_mistake(self, tmp_path: Path) -> None:
        (tmp_path / "clips").write_text("")
        with pytest.raises(InputError, match="no folder"):
            Clip(path=str(tmp_path / "clips")).check()


def test_sound_and_pictures_at_the_same_time_share_the_packets(film: Path, tmp_path: Path) -> None:
    tape = recorded(film)
    held = tape.bytes
    writer = Clip(path=str(tmp_path), before_s=1, after_s=0.5).open()
    writer.write([Recording(("door", "door.sound"), "E", tape)])
    heard = dataclasses.replace(event("new", 0), id="b", stream="door.sound", start_ns=3_000_000_000)
    seen = dataclasses.replace(event("new", 0), id="a", start_ns=2_000_000_000)
    told = [dataclasses.replace(one, end_ns=3_500_000_000) for one in (seen, heard)]
    at = Window("door", "E", 60, 2_400_000_000, 2_440_000_000, 1060, 0)
    writer.write([Result(at, 0, "cheap", "g@1"), *told])
    assert tape.bytes <= held and len(list(tmp_path.glob("*/.*"))) == 2
    at = Window("door", "E", 190, 7_600_000_000, 7_640_000_000, 1190, 0)
    writer.write([Result(at, 0, "cheap", "g@1"), *(dataclasses.replace(one, kind="end") for one in told)])
    made = clips(tmp_path)
    assert {path.parent.name: round(said["start_ns"] / 1e9) for path, said in made.items()} == {
        "door": 1,
        "door.sound": 2,
    }
    assert all(said["whole"] and levels(path) for path, said in made.items())
    writer.close()
    assert tape.bytes == 0
