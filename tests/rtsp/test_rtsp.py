"""Network streams from real servers: well, locked, killed, frozen, and back again."""

from __future__ import annotations

import contextlib
import functools
import http.server
import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import pytest

from pipeline.core.contracts import Tracked
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Chunk, Item
from pipeline.engine.isolation import Isolated
from sources.hearing import SoundTrack
from sources.rtsp import Rtsp
from tests.contracts import source_suite as suite
from tests.rtsp.rtsp_servers import RtspServer

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"
SECRET = "hunter2-planted"


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer("live=pattern:320x240@15", f"film={BIKES}") as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[RtspServer]:
    with RtspServer("live=pattern:320x240@15") as running:
        yield running


def until_lost(items: Iterable[Item]) -> tuple[list[Item], str, list[float]]:
    """What still came, why the stream broke off, and the times between items in seconds."""
    found: list[Item] = []
    waits: list[float] = []
    last = time.monotonic()
    try:
        for item in items:
            found.append(item)
            waits.append(time.monotonic() - last)
            last = time.monotonic()
            assert sum(waits) < 30
    except SourceLost as error:
        return found, str(error), [*waits, time.monotonic() - last]
    raise AssertionError("a live source never ends in peace")


def chunks(items: Iterator[Item], how_many: int) -> list[Chunk]:
    found: list[Chunk] = []
    start = time.monotonic()
    for item in items:
        found += [item] if isinstance(item, Chunk) else []
        if len(found) == how_many:
            return found
        assert time.monotonic() - start < 20
    raise AssertionError("the stream ended")


@pytest.mark.slow
def test_contract(server: RtspServer) -> None:
    plan = Rtsp(url=server.url("live"))
    assert plan.live and plan.paced
    suite.check_plan(plan)
    suite.check_closing(plan)
    suite.check_epochs(plan)
    _, items = suite.read(plan, most=40)
    suite.check_items(items, received=40, intact=False)  # it is joined midway
    assert len(suite.chunks(items)) >= 20
    pts = [c.pts_ns for c in suite.chunks(items)]
    assert pts[0] == 0 and pts == sorted(pts)
    assert all(c.duration_ns == pytest.approx(1e9 / 15, abs=1e6) for c in suite.chunks(items))


@pytest.mark.slow
def test_a_film_with_reordered_frames_and_over_udp(server: RtspServer) -> None:
    for transport in ("tcp", "udp"):
        reader = Rtsp(url=server.url("film"), transport=transport).open(suite.STREAM)
        found = chunks(iter(reader), 20)
        reader.close()
        assert {(c.payload.width, c.payload.height) for c in found} == {(640, 272)}
        assert [c.pts_ns for c in found] == sorted(c.pts_ns for c in found)


def test_arrival_is_stamped_when_it_arrives(server: RtspServer) -> None:
    """Also while nobody takes the frames: a slow pipeline must not make the stream look late."""
    reader = Rtsp(url=server.url("live")).open(suite.STREAM)
    items = iter(reader)
    chunks(items, 1)
    time.sleep(1)
    late = chunks(items, 10)
    reader.close()
    apart = [b.mono_ns - a.mono_ns for a, b in itertools.pairwise(late)]
    assert sorted(apart)[len(apart) // 2] > 30_000_000
    assert sum(c.mono_ns < late[0].mono_ns + 900_000_000 for c in late) == 10


@pytest.mark.slow
def test_killed_server_is_a_disconnect_and_its_return_a_connection(own_server: RtspServer) -> None:
    plan = Rtsp(url=own_server.url("live"))
    reader = plan.open(suite.STREAM)
    items = iter(reader)
    chunks(items, 3)
    own_server.kill()
    _, _, waits = until_lost(items)
    assert sum(waits) < 10
    reader.close()
    with pytest.raises(SourceLost, match="Connection refused"):
        plan.open(suite.STREAM)
    own_server.start()
    again = plan.open(suite.STREAM)
    assert len(chunks(iter(again), 3)) == 3
    assert again.epoch > reader.epoch
    again.close()


@pytest.mark.slow
def test_frozen_server_is_noticed_and_never_blocks(own_server: RtspServer) -> None:
    plan = Rtsp(url=own_server.url("live"))
    reader = plan.open(suite.STREAM)
    items = iter(reader)
    chunks(items, 3)
    own_server.freeze()
    _, why, waits = until_lost(items)
    assert "nothing came in time" in why
    assert sum(waits) < 10 and max(waits) < 2
    reader.close()
    start = time.monotonic()
    with pytest.raises(SourceLost):
        plan.open(suite.STREAM)
    assert time.monotonic() - start < 10
    own_server.thaw()
    again = plan.open(suite.STREAM)
    assert chunks(iter(again), 3)
    again.close()


def test_closing_a_silent_stream_waits_for_nobody(own_server: RtspServer) -> None:
    reader = Rtsp(url=own_server.url("live")).open(suite.STREAM)
    chunks(iter(reader), 1)
    own_server.freeze()
    start = time.monotonic()
    reader.close()
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("digest", [False, True])
def test_locked_streams(digest: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    with RtspServer("live=pattern:320x240@15", auth=f"user:{SECRET}", digest=digest) as server:
        reader = Rtsp(url=server.url("live", f"user:{SECRET}")).open(suite.STREAM)
        assert chunks(iter(reader), 2)
        reader.close()
        for user in (f"user:{SECRET}x", f"{SECRET}:y", ""):
            plan = Rtsp(url=server.url("live", user))
            with pytest.raises(SourceLost, match="401") as caught:
                plan.open(suite.STREAM)
            assert SECRET not in str(caught.value) and SECRET not in repr(plan)
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + out + err


def test_no_such_stream_and_nobody_there(server: RtspServer) -> None:
    with pytest.raises(SourceLost, match="404"):
        Rtsp(url=server.url("none")).open(suite.STREAM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for scheme in ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https"):
        with pytest.raises(SourceLost, match="Connection refused") as caught:
            Rtsp(url=f"{scheme}://user:{SECRET}@127.0.0.1:{port}/x").open(suite.STREAM)
        assert SECRET not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        start = time.monotonic()
        with pytest.raises(SourceLost):
            Rtsp(url=f"rtsp://127.0.0.1:{mute.getsockname()[1]}/x").open(suite.STREAM)
        assert time.monotonic() - start < 10


def test_a_server_that_talks_garbage() -> None:
    def talk(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(4096)
                    connection.sendall(bytes(range(256)) * 400)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, args=(listener,), daemon=True)
        thread.start()
        for scheme in ("rtsp", "http"):
            with pytest.raises(SourceLost):
                Rtsp(url=f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/x").open(suite.STREAM)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextlib.contextmanager
def noisy_proxy(server: RtspServer, clean_bytes: int) -> Iterator[int]:
    """Passes the server's words on, and garbles one byte of each piece after so many."""

    def pump(source: socket.socket, target: socket.socket, clean: float) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(1200):
                passed += len(piece)
                if passed > clean:
                    piece = bytearray(piece)
                    piece[passed % len(piece)] ^= 0x5A
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", server.port)) as upstream:
                back = threading.Thread(target=pump, args=(client, upstream, float("inf")))
                back.start()
                pump(upstream, client, clean_bytes)
                back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.mark.slow
def test_a_stream_that_turns_into_garbage(server: RtspServer) -> None:
    """Whatever still looks like a frame is accounted for, and the connection is given up in the end."""
    with noisy_proxy(server, clean_bytes=60_000) as port:
        reader = Rtsp(url=f"rtsp://127.0.0.1:{port}/film").open(suite.STREAM)
        items: list[Item] = []
        deadline = time.monotonic() + 6
        with contextlib.suppress(SourceLost):
            for item in reader:
                items.append(item)
                if time.monotonic() > deadline:
                    break
        received = reader.decoder.received
        reader.close()
    assert suite.gaps(items, "damaged") + suite.gaps(items, "undecoded") > 0
    assert received - sum(map(suite.count, items)) <= 21  # what the decoder may still hold
    suite.check_items(items, intact=False)


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web_streams_and_what_a_playlist_may_not_do(tmp_path: Path) -> None:
    with av.open(str(BIKES)) as film, av.open(str(tmp_path / "list.m3u8"), "w", format="hls") as hls:
        video = hls.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                hls.mux(packet)
    evil = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "evil.m3u8").write_text(evil.format(BIKES))
    with web_server(tmp_path) as base:
        reader = Rtsp(url=f"{base}/list.m3u8").open(suite.STREAM)
        items, why, _ = until_lost(reader)
        reader.close()
        assert why == "the stream ended"
        assert len(suite.chunks(items)) == 250
        with pytest.raises(SourceLost):  # it leads to a local file
            Rtsp(url=f"{base}/evil.m3u8").open(suite.STREAM)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("rtsp://", "names no host"),
        ("cam.local/stream", "must begin with"),
        ("rtps://cam/x", 'Did you mean "rtsps?"'),
        ("file:///etc/passwd", "must begin with"),
        ("concat:a|b", "must begin with"),
        ("rtsp:cam", "must begin with"),
        (f"rtsp://user:{SECRET}/x@cam/", "percent-encoded"),
        ("rtsp://cam:99999/x", "malformed"),
        ("rtsp://[::1/x", "malformed"),
        ("rtsp://cam/a b", "space"),
        ("rtsp://cam/a\nb", "control"),
        ("", "must begin with"),
    ],
)
def test_malformed_urls(url: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        Rtsp(url=url).check()
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_in_a_process_of_its_own(own_server: RtspServer) -> None:
    plan = Isolated.around(Rtsp(url=own_server.url("live"), isolation="process"))
    reader = plan.open(suite.STREAM)
    items = iter(reader)
    for chunk in chunks(items, 5):
        age_ns = time.monotonic_ns() - chunk.mono_ns
        assert 0 < age_ns < 5_000_000_000, "one monotonic clock for both processes"
        assert chunk.payload.rgb().shape == (240, 320, 3)
        chunk.payload.release()
    own_server.kill()
    _, why, waits = until_lost(items)
    assert why == "the stream ended" and sum(waits) < 10
    reader.close()
    with pytest.raises(SourceLost, match="Connection refused"):
        plan.open(suite.STREAM)


@pytest.mark.slow
def test_pictures_and_sound_of_a_camera_on_one_clock(caplog: pytest.LogCaptureFixture) -> None:
    name = f"{suite.STREAM}.sound"
    with RtspServer("live=pattern:320x240@15+sound", "mute=pattern:320x240@15") as server:
        plan = Rtsp(url=server.url("live"), sound=SoundTrack(window_s=0.5))
        suite.check_plan(plan)
        _, items = suite.read(plan, most=100)
        pictures = [item for item in items if item.stream == suite.STREAM]
        heard = [item for item in items if item.stream == name]
        suite.check_items(pictures, intact=False)
        suite.check_items(heard, intact=False, stream=name)
        sounds, seen = suite.chunks(heard), suite.chunks(pictures)
        assert len(sounds) >= 20 and len(seen) >= 20
        assert max(abs(float(abs(c.payload.sample()).max())) for c in sounds) == pytest.approx(0.8, abs=0.2)
        assert abs(sounds[-1].pts_ns + sounds[-1].duration_ns - seen[-1].pts_ns) < 1_000_000_000
        assert sorted(c.mono_ns for c in sounds) == [c.mono_ns for c in sounds]
        with caplog.at_level(logging.WARNING):
            reader = Rtsp(url=server.url("mute"), sound=SoundTrack()).open(suite.STREAM)
        assert isinstance(reader, Tracked) and not reader.tracks
        assert len(chunks(iter(reader), 5)) == 5, "one without sound goes on without"
        reader.close()
        assert "it has no sound track: take away `sound:`; only its pictures are judged" in caplog.text
