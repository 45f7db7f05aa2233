"""WebRTC out: known pictures in, known pictures out, each with its own boxes; one encoder for all, none for nobody."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from av.video.frame import VideoFrame

from pipeline.app.bench.numbered import COLOURS, number_of
from pipeline.app.bench.watchers import watchers
from pipeline.app.web import whep
from pipeline.app.web.site import Site
from pipeline.core.records import Array
from tests.web.watching import SDP, camera, served, watching


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Site]]:
    streams = {
        "door": camera(),
        "odd": camera((319, 723), fps=10),
        "turns": camera((320, 240), (640, 360), fps=60),
        "short": camera(repeat=1, fps=128),
    }
    with served(streams) as both:
        yield both


@pytest.fixture
def url(server: tuple[str, Site]) -> str:
    return server[0]


@pytest.fixture
def site(server: tuple[str, Site]) -> Site:
    """With nobody left of the test before."""
    end = time.monotonic() + 15
    while server[1].whep.watchers and time.monotonic() < end:
        time.sleep(0.05)
    assert not server[1].whep.watchers
    return server[1]


async def until(holds: Callable[[], bool], within_s: float = 15.0) -> bool:
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return holds()


def rgb(frame: VideoFrame) -> Array:
    return frame.to_ndarray(format="rgb24")


def colours(pixels: Array) -> list[Array]:
    """In the middle of each of the three below."""
    height, width = pixels.shape[:2]
    rows = pixels[height * 3 // 4 : height * 5 // 6]
    return [rows[:, width * sixth // 6 - 5 : width * sixth // 6 + 5].mean((0, 1)) for sixth in (1, 3, 5)]


async def offered(kind: str = "video", direction: str = "recvonly") -> str:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver(kind, direction)
    await peer.setLocalDescription(await peer.createOffer())
    sdp = peer.localDescription.sdp
    await peer.close()
    return str(sdp)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_a_known_picture_comes_out_as_it_went_in(url: str, codec: str) -> None:
    async def watch() -> None:
        async with watching(url, "/whep/door?view=raw", codecs=(codec,)) as watcher:
            assert codec in watcher.peer.remoteDescription.sdp
            for _ in range(5):
                frame = await watcher.frame()
            assert (frame.width, frame.height) == (320, 240)
            assert number_of(rgb(frame)) is not None
            for seen, meant in zip(colours(rgb(frame)), COLOURS.values(), strict=True):
                assert np.abs(seen - meant).max() < 20

    asyncio.run(watch())


@pytest.mark.slow
def test_what_was_found_is_drawn_in_the_annotated_view(url: str) -> None:
    async def corner(view: str) -> float:
        """How much darker the strip at the bottom is than the colours above it: the caption stands there."""
        async with watching(url, f"/whep/door?view={view}") as watcher:
            for _ in range(3):
                pixels = rgb(await watcher.frame()).astype(float)
            return float(np.median(pixels[180:210].mean(2)) - np.median(pixels[-12:].mean(2)))

    assert asyncio.run(corner("annotated")) > 30
    assert abs(asyncio.run(corner("raw"))) < 10


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_boxes_belong_to_the_picture_with_their_time_stamp(url: str, codec: str) -> None:
    async def watch() -> None:
        async with watching(url, "/whep/door", codecs=(codec,)) as watcher:
            seen = {}
            for _ in range(30):
                frame = await watcher.frame()
                assert frame.pts is not None
                seen[frame.pts] = number_of(rgb(frame))
            assert await until(lambda: len(watcher.told) >= 30)
            told = {one["rtp"] - watcher.origin & 0xFFFFFFFF: one["detections"][0]["box"][0] for one in watcher.told}
            both = {pts: number for pts, number in seen.items() if pts in told}  # the channel may open a little late
            assert both == {pts: told[pts] for pts in both}
            assert len(set(both.values())) > 20

    asyncio.run(watch())


@pytest.mark.slow
def test_one_encoder_serves_four_and_none_nobody(url: str, site: Site) -> None:
    before = site.whep.encoded
    time.sleep(0.3)
    assert (site.whep.encoders, site.whep.encoded) == (0, before)

    async def watch() -> None:
        with_four = [watching(url, "/whep/door", channel=False) for _ in range(4)]
        four = [await one.__aenter__() for one in with_four]
        first = [await one.frame() for one in four]
        assert all(number_of(rgb(frame)) is not None for frame in first)
        assert (site.whep.watchers, site.whep.encoders) == (4, 1)
        async with watching(url, "/whep/door?view=annotated") as other:
            await other.frame()
            assert site.whep.encoders == 2
        for one in with_four:
            await one.__aexit__(None, None, None)
        assert await until(lambda: (site.whep.watchers, site.whep.encoders) == (0, 0))

    asyncio.run(watch())
    after = site.whep.encoded
    assert after > before
    time.sleep(0.3)
    assert site.whep.encoded == after
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode-")]


@pytest.mark.slow
def test_a_newcomer_sees_a_whole_picture_at_once(url: str) -> None:
    """H.264 without a key frame decodes to nothing."""

    async def watch() -> None:
        async with watching(url, "/whep/door") as first:
            await first.frame()
            await asyncio.sleep(1.5)
            async with watching(url, "/whep/door") as second:
                assert number_of(rgb(await second.frame())) is not None

    asyncio.run(watch())


@pytest.mark.slow
def test_of_a_stream_that_stands_still_the_last_picture_is_shown(url: str, site: Site) -> None:
    async def watch() -> None:
        assert await until(lambda: site.running.states["short"].value == "ended")
        async with watching(url, "/whep/short") as watcher:
            assert await until(lambda: bool(watcher.told))
            assert watcher.told[0]["detections"][0]["box"][0] == 127

    asyncio.run(watch())


@pytest.mark.slow
def test_the_size_may_change_and_odd_sizes_are_made_even(url: str) -> None:
    async def watch() -> None:
        async with watching(url, "/whep/odd") as watcher:
            frame = await watcher.frame()
            assert (frame.width, frame.height) == (318, 722)
        async with watching(url, "/whep/turns") as watcher:
            sizes: list[tuple[int, int]] = []
            while len(set(sizes)) < 2:
                frame = await watcher.frame()
                sizes.append((frame.width, frame.height))
                assert len(sizes) < 300
            assert set(sizes) == {(320, 240), (640, 360)}
            assert number_of(rgb(await watcher.frame())) is not None

    asyncio.run(watch())


@pytest.mark.slow
def test_a_watcher_that_is_killed_is_let_go_within_seconds(url: str, site: Site) -> None:
    with watchers(2, f"{url}/whep/door") as crowd:
        assert site.whep.watchers == 2
        crowd.process.kill()
        crowd.process.wait()
        killed_s = time.monotonic()
        assert asyncio.run(until(lambda: not site.whep.watchers, 30))
        assert time.monotonic() - killed_s < 10
        assert site.whep.encoders == 0


@pytest.mark.slow
def test_connects_leave_nothing_behind(url: str, site: Site) -> None:
    """`thresher bench web-rtc` does it 200 times."""

    async def one() -> None:
        async with watching(url, "/whep/door") as watcher:
            await watcher.frame()
            async with httpx.AsyncClient(base_url=url) as client:
                assert (await client.delete(watcher.location)).status_code == 200

    async def some(count: int) -> tuple[int, int]:
        for _ in range(count):
            await one()
        assert await until(lambda: not site.whep.watchers)
        await asyncio.sleep(0.5)
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    before = asyncio.run(some(3))
    after = asyncio.run(some(50))
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + 4


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ("", 400, "SDP"),
        ("this is nothing", 400, "SDP"),
        ("v=0\r\nnor is this\r\n", 422, "no video"),
        ("audio", 422, "no video"),
        ("sends", 422, "recvonly"),
        ("codec", 422, "H.264"),
        ("candidates", 422, "candidates"),
        ("sections", 422, "media"),
        ("long", 413, "6"),
        ("cut", 400, "ice-ufrag"),
    ],
)
def test_an_offer_that_cannot_be_answered_is_told_why(url: str, site: Site, body: str, status: int, word: str) -> None:
    offer = asyncio.run(offered())
    section = offer[offer.index("m=video") :]
    candidates = [f"a=candidate:{n} 1 udp 2130706431 192.0.2.1 {n + 9} typ host\r\n" for n in range(1000)]
    made = {
        "audio": asyncio.run(offered("audio")),
        "sends": asyncio.run(offered(direction="sendonly")),
        "codec": offer.replace("VP8/90000", "AV1/90000").replace("H264/90000", "H265/90000"),
        "candidates": offer + "".join(candidates),
        "sections": offer + section * 9,
        "long": offer + "a=x:" + "x" * 100_000,
        "cut": "\r\n".join(line for line in offer.splitlines() if "ice-" not in line),
    }.get(body, body)
    answer = httpx.post(f"{url}/whep/door", content=made, headers=SDP)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["detail"]
    assert site.whep.watchers == 0


def test_what_cannot_be_watched_says_so(url: str, site: Site) -> None:
    offer = asyncio.run(offered())
    assert httpx.post(f"{url}/whep/nowhere", content=offer, headers=SDP).status_code == 404
    assert httpx.post(f"{url}/whep/door", content=offer, headers={"Content-Type": "text/plain"}).status_code == 415
    assert httpx.post(f"{url}/whep/door?view=side", content=offer, headers=SDP).status_code == 422
    assert httpx.delete(f"{url}/whep/door/nobody").status_code == 404
    assert site.whep.watchers == 0


@pytest.mark.slow
def test_a_full_house_asks_to_come_later(url: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whep, "MOST_WATCHERS", 1)

    async def watch() -> None:
        async with watching(url, "/whep/door") as watcher:
            await watcher.frame()
            async with httpx.AsyncClient(base_url=url) as client:
                refused = await client.post("/whep/door", content=await offered(), headers=SDP)
                assert refused.status_code == 503
                assert refused.headers["retry-after"]

    asyncio.run(watch())


@pytest.mark.slow
def test_a_session_is_a_resource(url: str, site: Site) -> None:
    async def watch() -> None:
        async with watching(url, "/whep/door") as watcher, httpx.AsyncClient(base_url=url) as client:
            await watcher.frame()
            assert watcher.answer is not None
            tag = watcher.answer.headers["etag"]
            said = {"Content-Type": "application/trickle-ice-sdpfrag"}
            candidate = "a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"

            async def patch(body: str, **headers: str) -> int:
                return (await client.patch(watcher.location, content=body, headers=said | headers)).status_code

            assert await patch(candidate) == 428
            assert await patch(candidate, **{"If-Match": '"other"'}) == 412
            assert await patch(candidate, **{"If-Match": tag}) == 204
            assert await patch("nonsense", **{"If-Match": tag}) == 400
            assert await patch("a=ice-ufrag:anew\r\na=ice-pwd:anew\r\n", **{"If-Match": tag}) == 422
            await watcher.frame()
            assert (await client.delete(watcher.location)).status_code == 200
            assert (await client.delete(watcher.location)).status_code == 404
            assert await until(lambda: not site.whep.encoders)

    asyncio.run(watch())


def test_a_film_may_be_looked_at_with_a_viewers_token_and_by_nobody_else() -> None:
    tokens = {"operator": "o" * 20, "viewer": "v" * 20}
    with served({"door": camera(count=4)}, **tokens) as (url, _):
        offer = asyncio.run(offered())
        for token, status in (("", 401), ("x" * 20, 401), (tokens["viewer"], 201), (tokens["operator"], 201)):
            headers = SDP | ({"Authorization": f"Bearer {token}"} if token else {})
            assert httpx.post(f"{url}/whep/door", content=offer, headers=headers).status_code == status
            picture = httpx.get(f"{url}/api/streams/door/picture.jpg", headers=headers)
            assert picture.status_code == (200 if status == 201 else 401)


@pytest.mark.slow
def test_a_watcher_on_a_bad_line_loses_pictures_and_holds_nobody(url: str, site: Site) -> None:
    """What it misses is not kept for it; when the line is back, it goes on with a whole picture."""

    async def watch() -> None:
        async with watching(url, "/whep/door") as bad, watching(url, "/whep/door") as good:
            await bad.frame(), await good.frame()
            number = bad.location.rpartition("/")[2]
            watcher = site.whep.watcher("door", number)
            assert watcher is not None
            sender, passing = watcher._track._sender, threading.Event()
            assert sender is not None
            send = sender.transport._send_rtp

            async def held(data: bytes) -> None:
                while not passing.is_set():
                    await asyncio.sleep(0.02)
                await send(data)

            sender.transport._send_rtp = held  # type: ignore[method-assign]
            for _ in range(30):
                assert number_of(rgb(await good.frame())) is not None
            assert len(watcher._track._queue) <= whep._QUEUED
            passing.set()
            before = site.whep.encoded
            assert await until(lambda: site.whep.encoded > before + 10)
            while bad._transceiver.receiver.track._queue.qsize():  # what had come before
                await bad.frame()
            assert number_of(rgb(await bad.frame())) is not None

    asyncio.run(watch())


@pytest.mark.slow
def test_who_asks_for_a_whole_picture_is_heard(url: str, site: Site) -> None:
    """By aiortc's sender, which would ask an encoder of its own: that it asks ours is nothing it promises."""

    async def watch() -> None:
        async with watching(url, "/whep/door") as watcher:
            await watcher.frame()
            there = site.whep.watcher("door", watcher.location.rpartition("/")[2])
            assert there is not None and there._track._encoding is not None
            asked = threading.Event()
            there._track._encoding.want_key = asked.set  # type: ignore[method-assign]
            receiver = watcher._transceiver.receiver
            await receiver._send_rtcp_pli(receiver.getSynchronizationSources()[0].source)
            assert await until(asked.is_set)

    asyncio.run(watch())


@pytest.mark.slow
def test_watching_ends_with_the_stream() -> None:
    async def watch(url: str, site: Site) -> None:
        async with watching(url, "/whep/door") as watcher, httpx.AsyncClient(base_url=url, timeout=20) as client:
            await watcher.frame()
            async with client.stream("GET", "/api/streams/door/mjpeg") as moving:
                pieces = moving.aiter_bytes()
                await anext(pieces)
                await asyncio.to_thread(site.running.remove, "door", 1.0)
                last = b""
                async for piece in pieces:
                    last = piece
                assert last.endswith(b"--thresher--\r\n")
            assert await until(lambda: not site.whep.watchers)
            assert (await client.get("/api/streams/door/picture.jpg")).status_code == 404
            assert (await client.get("/api/streams/other/picture.jpg")).status_code == 200

    with served({"door": camera(), "other": camera()}) as (url, site):
        asyncio.run(watch(url, site))
