"""The feed under clients that do not behave: cut off, refused or put out, and nobody else is harmed."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipeline.app.web import broadcast as broadcasting
from pipeline.app.web.routes import feed as feed_routes
from pipeline.app.web.site import Site
from tests.contracts.sink_suite import person, result
from tests.web.feed_parts import listening, serving, stalled, take, until

Served = tuple[Site, str]
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n"
)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sse", "websocket"])
def test_who_reads_nothing_is_cut_off_and_nobody_else_is_harmed(
    served: Served, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(feed_routes, "STALL_S", 0.5)
    site, url = served
    path, headers = ("/api/feed", "") if kind == "sse" else ("/api/feed/ws", UPGRADE)
    with closing(stalled(url, path, headers)) as silent, listening(url, kinds="result") as told:
        until(lambda: site.broadcast.listening == 2)
        sent, read = 0, 0
        end = time.monotonic() + 60
        while site.broadcast.listening == 2:  # the system's own buffers take some megabytes first
            assert time.monotonic() < end, "it was not cut off"
            site.feed.write([result(sent + n, person()) for n in range(500)])
            sent += 500
            read += len(take(told, 500))
        assert read == sent  # whoever reads got all of it
        until(lambda: connections_of(url) == 1)
        silent.settimeout(10)
        with suppress(ConnectionResetError):  # what the system has taken may still be read; then it is over
            while silent.recv(1 << 20):
                pass
    until(lambda: site.broadcast.listening == 0)


def connections_of(url: str) -> int:
    """Of this process, on the server's side."""
    port = int(url.rpartition(":")[2])
    mine = psutil.Process().net_connections("tcp")
    return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in mine)


@pytest.mark.slow
def test_more_than_may_listen_are_refused_politely(served: Served) -> None:
    site, url = served
    with ExitStack() as stack:
        listeners = [stack.enter_context(closing(stalled(url))) for _ in range(broadcasting.MOST)]
        until(lambda: site.broadcast.listening == broadcasting.MOST)
        answer = httpx.get(f"{url}/api/feed")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        with pytest.raises(InvalidStatus, match="503"):
            connect(url.replace("http", "ws") + "/api/feed/ws").__enter__()
        for _ in range(1_000):
            with suppress(ConnectionError), closing(stalled(url)) as one:
                one.settimeout(10)
                assert one.recv(400)[:12] in {b"HTTP/1.1 503", b""}  # b"": nor are there connections without end
        assert site.broadcast.listening == broadcasting.MOST
        assert httpx.get(f"{url}/api/health").status_code == 200
        assert all(one.recv(16) == b"HTTP/1.1 200 OK\r" for one in listeners)
    until(lambda: site.broadcast.listening == 0)
    with listening(url, "0", kinds="result") as told:
        site.feed.write([result(0)])
        assert len(take(told, 1)) == 1


FRAMES = {
    "no mask": b"\x81\x02hi",
    "reserved bits": b"\xf1\x80\x00\x00\x00\x00",
    "an unknown opcode": b"\x8b\x80\x00\x00\x00\x00",
    "a fragmented ping": b"\x09\x80\x00\x00\x00\x00",
    "more than may be said": b"\x81\xff" + (10**9).to_bytes(8, "big") + b"\x00" * 4,
    "no UTF-8": b"\x81\x82\x00\x00\x00\x00\xff\xfe",
    "noise": bytes(random.Random(1).randbytes(300)),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_bad_frames_end_that_web_socket_alone(served: Served, frame: bytes, caplog: pytest.LogCaptureFixture) -> None:
    site, url = served
    with listening(url, kinds="result") as told:
        next(told)
        with connect(url.replace("http", "ws") + "/api/feed/ws?kinds=result") as talk:
            talk.recv(timeout=5)
            talk.socket.sendall(frame)
            with suppress(OSError):  # it may have hung up by now
                talk.socket.sendall(frame)
            until(lambda: site.broadcast.listening == 1)
        site.feed.write([result(0)])
        assert len(take(told, 1)) == 1
    told_by = {record.name for record in caplog.records if record.levelno >= logging.WARNING}
    assert not told_by - {"websockets.client"}  # which is this test's own side, cut off in the middle of its word


def test_nobody_who_stalls_or_breaks_off_delays_the_end_or_leaves_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as (site, url), ExitStack() as stack:
        for path, headers in (("/api/feed", ""), ("/api/feed/ws", UPGRADE)):
            stack.enter_context(closing(stalled(url, path, headers)))
        broken = [stalled(url, path, headers) for path, headers in (("/api/feed", ""), ("/api/feed/ws", UPGRADE))]
        until(lambda: site.broadcast.listening == 4)
        site.feed.write([result(seq, person()) for seq in range(10_000)])
        for one in broken:  # with what came unread: the system says so at once, and sharply
            one.close()
        until(lambda: site.broadcast.listening == 2)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
