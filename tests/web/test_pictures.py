"""JPEGs for what speaks no WebRTC: the latest picture, and all of them in a row."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext

from pipeline.app.bench.numbered import number_of
from pipeline.app.web.gallery import MOST_FPS, Gallery, Shot, _Clock, _Pace
from pipeline.app.web.routes import pictures
from pipeline.app.web.site import Site
from pipeline.core.contracts import Picture
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Array, Shed, ShedReason, Window
from sources.memory import LiveMemory, Pause
from tests.web.watching import camera, served


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Site]]:
    silent = LiveMemory.model_validate({"script": [Pause(600.0)]})
    streams = {
        "door": camera(),
        "short": camera(repeat=1, fps=500),
        "silent": silent,
        "wide": camera((1280, 720), fps=30, count=8),
    }
    with served(streams) as both:
        yield both


@pytest.fixture
def url(server: tuple[str, Site]) -> str:
    return server[0]


def pixels(jpeg: bytes) -> Array:
    codec = CodecContext.create("mjpeg", "r")
    assert isinstance(codec, VideoCodecContext)
    return np.asarray(codec.decode(Packet(jpeg))[0].to_ndarray(format="rgb24"))


def test_the_latest_picture_is_a_jpeg(url: str) -> None:
    got = httpx.get(f"{url}/api/streams/door/picture.jpg?annotated=false")
    assert got.headers["content-type"] == "image/jpeg"
    assert got.headers["cache-control"] == "no-store"
    assert pixels(got.content).shape == (240, 320, 3)
    assert number_of(pixels(got.content)) is not None
    small = httpx.get(f"{url}/api/streams/door/picture.jpg?width=100")
    assert pixels(small.content).shape == (74, 100, 3)
    assert httpx.get(f"{url}/api/streams/door/picture.jpg?width=4").status_code == 422


def test_a_picture_is_encoded_once_for_all_who_ask(server: tuple[str, Site]) -> None:
    url, site = server
    while site.running.states["short"].value != "ended":
        time.sleep(0.05)
    before = site.stills.encoded

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url) as client:
            return list(await asyncio.gather(*(client.get("/api/streams/short/picture.jpg") for _ in range(12))))

    got = asyncio.run(ask())
    assert {one.status_code for one in got} == {200}
    assert number_of(pixels(got[0].content)) == 127  # the last one stays, though nothing more comes
    assert site.stills.encoded == before + 1
    again = httpx.get(f"{url}/api/streams/short/picture.jpg", headers={"If-None-Match": got[0].headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_there_says_so(url: str) -> None:
    for path in ("picture.jpg", "mjpeg"):
        got = httpx.get(f"{url}/api/streams/nowhere/{path}")
        assert got.status_code == 404
        assert "nowhere" in got.json()["detail"]


@pytest.mark.slow
def test_a_stream_without_a_picture_yet_says_why(url: str) -> None:
    began_s = time.monotonic()
    got = httpx.get(f"{url}/api/streams/silent/picture.jpg")
    assert time.monotonic() - began_s >= 2.0
    assert got.status_code == 503
    assert got.headers["retry-after"]
    assert "silent" in got.json()["detail"]


@pytest.mark.slow
def test_ffmpeg_plays_the_moving_pictures(url: str) -> None:
    with av.open(f"{url}/api/streams/door/mjpeg?annotated=false", format="mpjpeg", timeout=10) as film:
        numbers = [number_of(frame.to_ndarray(format="rgb24")) for frame in islice(film.decode(video=0), 20)]
    assert None not in numbers
    steps = [(later - earlier) % 128 for earlier, later in pairwise(numbers)]  # type: ignore[operator]
    assert all(0 < step < 64 for step in steps)  # in order; a machine that is busy may skip some


@pytest.mark.slow
def test_many_watchers_of_moving_pictures_cost_one_encoding(server: tuple[str, Site]) -> None:
    url, site = server

    async def watch(client: httpx.AsyncClient, parts: int) -> int:
        got = 0
        async with client.stream("GET", "/api/streams/door/mjpeg") as stream:
            async for piece in stream.aiter_bytes():
                got += piece.count(b"--thresher\r\n")
                if got >= parts:
                    return got
        return got

    async def all_of_them() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            await asyncio.gather(*(watch(client, 15) for _ in range(6)))

    before = site.stills.encoded
    asyncio.run(all_of_them())
    assert site.stills.encoded - before < 30
    time.sleep(1.5)
    after = site.stills.encoded
    time.sleep(0.5)
    assert site.stills.encoded == after  # nobody is there, nothing is encoded


@pytest.mark.slow
def test_who_does_not_read_holds_nobody_and_is_put_out(
    server: tuple[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, site = server
    monkeypatch.setattr(pictures, "_STUCK_S", 1.0)
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.settimeout(20)
        stalled.connect((httpx.URL(url).host, httpx.URL(url).port))
        stalled.sendall(b"GET /api/streams/wide/mjpeg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert stalled.recv(12) == b"HTTP/1.1 200"
        received = site.running.snapshot().streams[-1].results
        with httpx.stream("GET", f"{url}/api/streams/wide/mjpeg", timeout=20) as other:
            parts = 0
            for piece in other.iter_bytes():
                parts += piece.count(b"--thresher\r\n")
                if parts > 10:
                    break
        assert site.running.snapshot().streams[-1].results > received
        assert site.gallery.watchers("wide")
        end_s = time.monotonic() + 60
        while site.gallery.watchers("wide"):
            assert time.monotonic() < end_s
            time.sleep(0.1)


def shown(gallery: Gallery, count: int = 1) -> list[FrameImage]:
    images = [FrameImage.from_array(np.zeros((16, 16, 3), np.uint8)) for _ in range(count)]
    for seq, image in enumerate(images):
        window = Window("door", "epoch", seq, seq * 10**9, seq * 10**9, 0, 0)
        gallery.write([Picture(Shed(window, 0, reason=ShedReason.OVERLOAD), image)])
        image.release()
    return images


def test_a_crowd_that_comes_at_once_is_no_larger_than_may_be(
    server: tuple[str, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_MOST_CLIENTS", 3)
    url, site = server

    async def statuses() -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client, contextlib.AsyncExitStack() as open_:
            asked = [client.stream("GET", "/api/streams/silent/mjpeg") for _ in range(12)]
            got = await asyncio.gather(*(open_.enter_async_context(one) for one in asked))
            return [one.status_code for one in got]

    for _ in range(2):  # who has left makes room
        assert sorted(asyncio.run(statuses())) == [200] * 3 + [503] * 9
        end = time.monotonic() + 15
        while site.gallery.watchers("silent") and time.monotonic() < end:
            time.sleep(0.05)
        assert not site.gallery.watchers("silent")


def test_the_gallery_keeps_the_latest_picture_beyond_its_lease_and_no_other() -> None:
    gallery = Gallery()
    assert gallery.latest("door") is None
    shown(gallery, 3)
    latest = gallery.latest("door")
    assert latest is not None
    assert latest.outcome.window.seq == 2
    assert latest.frame.to_ndarray(format="rgb24").shape == (16, 16, 3)
    gallery.forget("door")
    assert gallery.latest("door") is None


def test_who_looks_at_a_stream_that_goes_and_comes_again_goes_on_seeing_it() -> None:
    gallery = Gallery()
    seen: list[Shot] = []
    leave = gallery.watch("door", seen.append)
    shown(gallery, 1)
    gallery.forget("door")
    assert gallery.latest("door") is None
    shown(gallery, 1)
    assert len(seen) == 2
    assert seen[1].ticks > seen[0].ticks  # on one clock, as whoever plays them has but one
    gallery.forget("door")
    leave()
    assert not gallery._walls  # nothing is kept of what is neither there nor looked at
    gallery.watch("never there", seen.append)()
    assert not gallery._walls


def test_a_picture_in_another_process_is_fetched_for_watchers_only() -> None:
    class Remote(FrameImage):
        fetched = 0

        @property
        def at_hand(self) -> bool:
            return False

        def frame(self):  # type: ignore[no-untyped-def]  # as its base has it
            Remote.fetched += 1
            return super().frame()

    def show() -> None:
        image = Remote(FrameImage.from_array(np.zeros((16, 16, 3), np.uint8)).frame())
        gallery.write([Picture(Shed(Window("door", "e", 0, 0, 0, 0, 0), 0, reason=ShedReason.OVERLOAD), image)])

    gallery = Gallery()
    show()
    assert (Remote.fetched, gallery.latest("door")) == (0, None)
    seen: list[object] = []
    leave = gallery.watch("door", seen.append)
    show()
    assert (Remote.fetched, len(seen)) == (1, 1)
    leave()
    show()
    assert Remote.fetched == 1


def test_a_film_at_full_speed_is_shown_at_that_of_life() -> None:
    pace, clock = _Pace(), _Clock()
    second = 1_000_000_000
    at_1000_fps = [ms * second // 1000 for ms in range(2000)]
    assert sum(pace.due(now_ns, MOST_FPS) for now_ns in at_1000_fps) in range(2 * MOST_FPS - 2, 2 * MOST_FPS + 3)
    ticks = [clock.ticks(index * second // 25, now_ns) for index, now_ns in enumerate(at_1000_fps)]  # 40 times too fast
    assert all(later > earlier for earlier, later in pairwise(ticks))
    assert clock.hurries
    assert ticks[-1] == pytest.approx(90_000 * 2.5, abs=1000)  # never more than half a second ahead


def test_the_clock_of_a_camera_is_its_media_time() -> None:
    pace, clock = _Pace(), _Clock()
    period = 1_000_000_000 // 30
    jitter = [0, 9_000_000, -9_000_000, 4_000_000]
    arrivals = [index * period + jitter[index % 4] for index in range(1, 300)]
    assert all(pace.due(now_ns, MOST_FPS) for now_ns in arrivals)  # 30 a second all stay
    ticks = [clock.ticks(index * period, now_ns) for index, now_ns in enumerate(arrivals)]
    assert set(np.diff(ticks).tolist()) <= {2999, 3000}
    assert not clock.hurries
    assert clock.ticks(0, arrivals[-1] + period) > ticks[-1]  # another connection begins at zero


def test_the_gallery_is_cheap_to_leave_alone(tmp_path: Path) -> None:
    """Nothing but a reference is kept: no pixel is looked at."""
    gallery = Gallery()
    image = FrameImage.from_array(np.zeros((1080, 1920, 3), np.uint8))
    gallery.write([Picture(Shed(Window("door", "e", 0, 0, 0, 0, 0), 0, reason=ShedReason.OVERLOAD), image)])
    latest = gallery.latest("door")
    assert latest is not None
    assert latest.frame is image.frame()
