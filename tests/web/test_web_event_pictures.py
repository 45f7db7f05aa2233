"""A picture and a clip of each event: kept whole and in bounds, served by name alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from parts import Brightness, Levels, generation, grey

from pipeline.app.web.event_pictures import EventPictures, EventPictureSink, picture_name
from pipeline.core.contracts import Picture
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import decode_picture, encode
from pipeline.core.records import Array, Detection, Event
from sinks.clip import Clip
from sources.file import File
from tests.contracts.sink_suite import event, person, result, window
from tests.web.store_parts import ALONE, ASKED, NOTHING, Ran, played, ran

CLIP = Path(__file__).parents[1] / "data" / "bikes.mp4"


def pixels(jpeg: bytes) -> Array:
    return FrameImage(decode_picture(jpeg)).rgb()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    script = [NOTHING] * 5 + [ASKED] * 12 + [NOTHING] * 70 + [ALONE] * 10 + [NOTHING] * 3
    with ran(tmp_path_factory.mktemp("run"), {"door": script}) as one:
        yield one


def test_each_event_has_the_picture_in_which_it_was_told_first(real: Ran) -> None:
    written = real.written()
    newest, oldest = real.all("events")
    for one, level, seq in ((oldest, ASKED, 6), (newest, ALONE, 88)):
        answer = httpx.get(f"{real.url}{one['picture']}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert np.abs(pixels(answer.content).astype(int) - level).max() < 8
        shows = one["picture_shows"]
        assert shows["window"] == next(name for name in written if name.endswith(f"/{seq}"))  # the second that shows it
        assert shows["detections"] == written[shows["window"]]["detections"]
        assert (shows["width"], shows["height"]) == (96, 96)
        again = httpx.get(f"{real.url}{one['picture']}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    folder = real.jsonl.parent / "run-events"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        picture_name(one["event"]) for one in (newest, oldest)
    )


@pytest.mark.parametrize(
    "name", ["x.jpg", "0123456789abcdef.jpg", "..%2f..%2frun.sqlite", "0123456789abcdef.jpg%00", "0123456789ABCDEF.jpg"]
)
def test_what_is_no_picture_of_ours_is_not_served(real: Ran, name: str) -> None:
    assert httpx.get(f"{real.url}/api/event-pictures/{name}").status_code in {400, 404}


def picture(seq: int, *found: Detection, events: tuple[Event, ...] = (), level: int = 100, width: int = 96) -> Picture:
    shown = FrameImage.from_array(np.full((64, width, 3), level, np.uint8))
    return Picture(result(seq, *found), shown, events=events)


def test_a_clearly_better_picture_replaces_the_first(tmp_path: Path) -> None:
    kept = EventPictures(tmp_path / "events")
    writer = EventPictureSink.into(kept).open()
    begun = event("new")
    levels = []
    for seq, score, level in ((1, 0.6, 20), (2, 0.62, 40), (3, 0.8, 60), (4, 0.7, 80), (5, 0.9, 120), (6, 0.91, 140)):
        writer.write([picture(seq, person(score), events=(begun,) if seq == 1 else (), level=level)])
        data = kept.read(picture_name(begun.id))
        assert data is not None
        levels.append(round(float(pixels(data).mean()) / 20) * 20)
    assert levels == [20, 20, 60, 60, 120, 120]
    assert kept.shows(begun.id) is not None
    writer.write([event("end")])
    writer.write([picture(7, person(1.0), level=200)])  # it is over: another one is another event's
    assert (kept.shows(begun.id) or {})["window"] == window(5).id


def test_of_events_in_a_zone_or_on_a_track_the_first_picture_stays(tmp_path: Path) -> None:
    kept = EventPictures(tmp_path / "events")
    writer = EventPictureSink.into(kept).open()
    placed = replace(event("new"), zone="gate")
    writer.write([picture(1, person(0.5), events=(placed,)), picture(2, person(0.9))])
    assert (kept.shows(placed.id) or {})["window"] == window(1).id


def test_windows_that_begin_no_event_cost_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = FrameImage.rgb
    monkeypatch.setattr(FrameImage, "rgb", lambda self, width=None: made.append(1) or real(self, width))
    writer = EventPictureSink.into(EventPictures(tmp_path / "events")).open()
    writer.write([picture(seq, person()) for seq in range(50)])
    assert made == []
    two = (event("new"), event("new", name="another"))
    writer.write([picture(50, person(), events=two), *(picture(seq, person()) for seq in range(51, 99))])
    assert made == [1]  # one picture, for both


def test_wide_pictures_are_made_smaller_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    kept = EventPictures(tmp_path / "events")
    writer = EventPictureSink.into(kept).open()
    wide = picture(1, person(), events=(event("new"),), width=1920)
    gone = picture(2, person(), events=(event("new", name="gone"),))
    assert gone.image is not None
    gone.image.release()
    heard = Picture(result(3, person()), None, events=(event("new", name="heard"),))
    writer.write([wide, gone, heard])
    data = kept.read(picture_name(event().id))
    assert data is not None
    assert pixels(data).shape[1] == 640
    assert (kept.shows(event().id) or {})["width"] == 1920
    assert [kept.shows(name) for name in ("gone", "heard")] == [None, None]


JPEG = encode(grey(100, 64), "jpg", fine=False)


def test_the_folder_is_bounded_in_number_and_in_bytes_and_outlives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    kept = EventPictures(folder, keep=5)
    kept.open()
    (folder / "notes.txt").write_text("mine")
    for n in range(8):
        kept.put(f"event {n}", JPEG, {"n": n})
    assert [n for n in range(8) if kept.shows(f"event {n}")] == [3, 4, 5, 6, 7]
    kept.put("event 3", JPEG, {"n": 33})  # told again: now it is the newest
    (folder / ".0123456789abcdef.jpg.unfinished").write_bytes(b"half")
    size = len(kept.read(picture_name("event 3")) or b"")
    later = EventPictures(folder, keep=5, keep_bytes=3 * size + 1)
    later.open()
    later.put("event 9", JPEG, {"n": 9})
    assert [n for n in range(10) if later.shows(f"event {n}")] == [3, 7, 9]
    assert later.shows("event 3") == {"n": 33}
    assert {path.name for path in folder.iterdir()} == {"notes.txt", *(picture_name(f"event {n}") for n in (3, 7, 9))}


def test_a_disk_that_takes_nothing_costs_pictures_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pipeline.app.web import event_pictures

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(event_pictures, "write_whole", full)
    kept = EventPictures(tmp_path / "events")
    writer = EventPictureSink.into(kept).open()
    for seq in range(3):
        writer.write([picture(seq, person(), events=(event("new", name=f"event {seq}"),))])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'events'}: pictures of events are not kept: No space left on device"
    ]


def test_a_damaged_picture_shows_nothing(tmp_path: Path) -> None:
    kept = EventPictures(tmp_path)
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xfe\x00", b"\xff\xd8\xff\xfe\x00\x09not js", JPEG):
        (tmp_path / picture_name("e")).write_bytes(data)
        assert kept.shows("e") is None


def test_the_sink_takes_what_is_no_picture_of_a_result(tmp_path: Path) -> None:
    writer = EventPictureSink.into(EventPictures(tmp_path / "events")).open()
    writer.write([event("end"), Picture(result(1, person()), None), event("update")])
    writer.close()
    writer.close()


@pytest.mark.slow
def test_an_event_leads_to_its_clip_which_takes_ranges(tmp_path: Path) -> None:
    bright = generation(Brightness(), rule=Levels(low=0.05, high=0.05))
    clips = Clip(path=str(tmp_path / "clips"), before_s=1, after_s=1)
    with played(tmp_path, {"bikes": File.model_validate({"path": CLIP})}, bright, clips=clips) as run:
        (one,) = run.all("events")
        (film,) = (tmp_path / "clips" / "bikes").glob("*.mp4")
        assert one["clip"] == f"/api/clips/bikes/{film.name}"
        said = json.loads(Path(f"{film}.json").read_text())
        assert said["event"]["event"] == one["event"]
        whole = httpx.get(f"{run.url}{one['clip']}")
        assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
        assert whole.content == film.read_bytes()
        part = httpx.get(f"{run.url}{one['clip']}", headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, film.read_bytes()[100:200])
        for ask, status in (("bytes=999999999-", 416), ("bytes=x", 200), ("bytes=9-2", 200), ("bytes=1-2,4-5", 200)):
            assert httpx.get(f"{run.url}{one['clip']}", headers={"Range": ask}).status_code == status
        secret = tmp_path / "clips" / "bikes" / film.name.replace("bright", "secret")
        secret.symlink_to(tmp_path / "run.sqlite")
        for name in (f"{film.name}.json", "..%2fbikes%2f" + film.name, secret.name, "x.mp4", "%00"):
            assert httpx.get(f"{run.url}/api/clips/bikes/{name}").status_code in {400, 404}, name
        assert httpx.get(f"{run.url}/api/clips/%2e%2e/{film.name}").status_code in {400, 404, 422}
        assert isinstance(run.site.generations["known"].rule, Levels)
        record = run.get(f"/api/events/{one['event']}")
        assert record["event"] == one
        assert record["decision"]["threshold"] is None  # a rule that names none
