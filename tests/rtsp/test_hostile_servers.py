"""Servers that would lead us elsewhere, or have us take what memory there is."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import resource
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import reach
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.reach import NetworkSettings
from sources.irc import Irc
from sources.relay import Words
from sources.rtsp import Rtsp
from sources.websocket import WebSocket
from tests.contracts import source_suite as suite


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    yield
    reach.use(NetworkSettings())


@contextlib.contextmanager
def server(answer: Callable[[bytes], bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Answers each request by `answer`; its port, and what was asked."""
    asked: list[bytes] = []

    def talk(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while request := client.recv(65536):
                asked.append(request)
                client.sendall(answer(request))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=talk, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def sequence(request: bytes) -> bytes:
    return next(line for line in request.split(b"\r\n") if line.lower().startswith(b"cseq"))


def test_an_rtsp_server_that_redirects() -> None:
    with server(lambda _: b"") as (victim, reached):

        def answer(request: bytes) -> bytes:
            return b"RTSP/1.0 302 Moved\r\n%b\r\nLocation: rtsp://127.0.0.1:%d/x\r\n\r\n" % (sequence(request), victim)

        with server(answer) as (port, asked), pytest.raises(SourceLost, match="redirects elsewhere"):
            Rtsp(url=f"rtsp://127.0.0.1:{port}/x").open(suite.STREAM)
    assert asked
    assert not reached, "nobody was led there"


def test_an_rtsp_server_that_describes_at_length() -> None:
    def answer(request: bytes) -> bytes:
        if request.startswith(b"OPTIONS"):
            return b"RTSP/1.0 200 OK\r\n%b\r\nPublic: DESCRIBE\r\n\r\n" % sequence(request)
        head = b"RTSP/1.0 200 OK\r\n%b\r\nContent-Type: application/sdp\r\nContent-Length: 2000000000\r\n\r\n"
        return head % sequence(request) + bytes(1 << 20)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with server(answer) as (port, _), pytest.raises(SourceLost, match="would take 2000000000 bytes"):
        Rtsp(url=f"rtsp://127.0.0.1:{port}/x").open(suite.STREAM)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


PIECES = [
    b"RTSP/1.0 302 x\n\n",
    b"RTSP/1.0 200 x\n",
    b"Content-Length: 3\n",
    b"Content-Length: 3000000\r\n",
    b"Location: rtsp://x\n",
    b"$\0\0\x02",
    b"\r\n",
    b"\n",
    b"ANNOUNCE x RTSP/1.0\n",
]


class TestWords:
    """What an RTSP server says, on its way to FFmpeg."""

    @staticmethod
    def passed(*blocks: bytes) -> bytes:
        words = Words("192.0.2.7")
        return b"".join(piece for block in blocks for piece in words.feed(block))

    TALK = (
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\na\n$b\r"
        b"$\0\0\x03\n$RRTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n$\x01\0\0$\0\0\x01x"
    )

    @given(st.lists(st.integers(0, len(TALK)), max_size=8))
    def test_blocks_make_no_difference(self, cuts: list[int]) -> None:
        at = [0, *sorted(cuts), len(self.TALK)]
        assert self.passed(*(self.TALK[a:b] for a, b in itertools.pairwise(at))) == self.TALK

    def test_where_media_goes_and_comes_from(self) -> None:
        said = b"RTSP/1.0 200 OK\nTransport: RTP/AVP;server_port=7-8; SOURCE=169.254.169.254;destination=x\n\n"
        assert b"source=192.0.2.7\r\n" in self.passed(said)
        assert b"169.254" not in self.passed(said)
        assert b"destination" not in self.passed(said)

    @pytest.mark.parametrize(
        "said",
        [
            b"RTSP/1.0 301 Moved\r\n\r\n",
            b"RTSP/1.0\t302 Moved\n\n",
            b"  RTSP/1.0 305\n\n",
            b"RTSP/1.0 0302 x\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nContent-Length: 2000000\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nCONTENT-LENGTH : -1\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\nContent-Length: 999999999\r\n\r\n",
            b"HTTP/1.1 302 Found\r\n\r\n",
            b"RTSP/1.0 200 OK\r\n" + b"A: b\r\n" * 200,
            b"x" * 100_000,
            b"RTSP/1.0 200 OK\r\n$\0\0\x01x\r\n\r\n",
        ],
    )
    def test_what_does_not_pass(self, said: bytes) -> None:
        with pytest.raises(ValueError, match="the server"):
            self.passed(said)

    @given(st.lists(st.binary(max_size=60) | st.sampled_from(PIECES), max_size=30))
    def test_whatever_it_says_no_redirect_and_nothing_large_passes(self, blocks: list[bytes]) -> None:
        words, out = Words("192.0.2.7"), b""
        with contextlib.suppress(ValueError):
            for block in blocks:
                for piece in words.feed(block):
                    out += piece
        for first, lengths in as_ffmpeg_reads(out):
            assert not first.split()[1:2] or not first.split()[1].startswith(b"3")
            assert all(length <= 1 << 20 for length in lengths)


def as_ffmpeg_reads(data: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """`ff_rtsp_read_reply`: the first line of each message, and what it says of its length."""
    at, lines = 0, []
    while at < len(data):
        if data[at : at + 1] == b"$":
            at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
            continue
        end = data.find(b"\n", at)
        if end < 0:
            return
        line, at = data[at:end].replace(b"\r", b""), end + 1
        if line:
            lines.append(line)
            continue
        lengths = [int(one[15:].strip() or b"0") for one in lines[1:] if one.lower().startswith(b"content-length:")]
        yield (lines or [b""])[0], lengths
        at += lengths[-1] if lengths else 0
        lines = []


@contextlib.contextmanager
def web(pages: dict[str, tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.replace(b"BASE", base.encode()))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        base = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield base, asked
        running.shutdown()
        thread.join()


LIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n%b\n#EXT-X-ENDLIST\n"
MASTER = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n%b\n"


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("/redirect", "redirects elsewhere"),
        ("/metadata.m3u8", "link-local"),
        ("/file.m3u8", "neither http nor https"),
        ("/concat", "."),
        ("/self.m3u8", "."),
        ("/as-ts.m3u8", "."),
        ("/master.m3u8", "."),
        ("/large.m3u8", "too large"),
    ],
)
def test_a_web_server_that_leads_elsewhere(page: str, why: str) -> None:
    pages = {
        "/redirect": (302, {"Location": "/victim"}, b""),
        "/metadata.m3u8": (200, {}, LIST % b"http://169.254.169.254/latest/meta-data.ts"),
        "/file.m3u8": (200, {}, LIST % b"file:///etc/passwd.ts"),
        "/concat": (200, {}, b"ffconcat version 1.0\nfile BASE/victim\n"),
        "/self.m3u8": (200, {}, LIST % b"self.m3u8"),
        "/as-ts.m3u8": (200, {}, LIST % b"BASE/as.ts"),
        "/as.ts": (200, {}, LIST % b"BASE/as.ts"),
        "/master.m3u8": (200, {}, MASTER % b"BASE/master.m3u8"),
        "/large.m3u8": (200, {}, b"#EXTM3U\n" + b"# x\n" * 2_000_000),
    }
    with web(pages) as (base, asked), pytest.raises(SourceLost, match=why):
        Rtsp(url=f"{base}{page}", connect_s=2).open(suite.STREAM)
    assert "/victim" not in asked
    assert len(asked) <= 70


def test_who_logs_in_logs_in_there_alone() -> None:
    """A password goes to the server whose it is, not to where its playlist leads."""
    seen: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            if self.headers["Authorization"] is None:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Digest realm="x", nonce="n", qop="auth"')
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(LIST % f"http://localhost:{other.server_port}/a.ts".encode())

        def log_message(self, *_: object) -> None:
            pass

    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as first,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other,
    ):
        for running in (first, other):
            threading.Thread(target=running.serve_forever, daemon=True).start()
        with pytest.raises(SourceLost):
            Rtsp(url=f"http://ann:hunter2@127.0.0.1:{first.server_port}/l.m3u8").open(suite.STREAM)
        first.shutdown()
        other.shutdown()
    assert seen[1][1] is not None
    assert seen[1][1].startswith("Digest")
    assert [said for path, said in seen if path == "/a.ts"] == [None]


@pytest.mark.parametrize(
    "plan",
    [
        Rtsp(url="rtsp://169.254.169.254/x"),
        Rtsp(url="https://[fe80::1]/x"),
        Rtsp(url="rtmp://0x7f.1/x"),
        WebSocket(url="ws://169.254.169.254/"),
        Irc(server="169.254.169.254", channels=("a",)),
        Irc(server="2130706433", channels=("a",)),
    ],
)
def test_a_place_that_nobody_may_reach_is_a_mistake(plan: Rtsp) -> None:
    with pytest.raises(InputError, match=r"out of reach|no plain spelling"):
        plan.check()


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "http", "ws", "irc"])
def test_sources_keep_to_the_policy(scheme: str) -> None:
    """The name passes a check that asks nobody, and is refused once its address is known."""
    reach.use(NetworkSettings(deny=("127.0.0.0/8",)))
    with server(lambda _: b"") as (port, asked):
        url = f"{scheme}://localhost:{port}/x"
        plans = {
            "ws": lambda: WebSocket(url=url),
            "irc": lambda: Irc(server="localhost", port=port, tls=False, channels=("a",)),
        }
        plan = plans.get(scheme, lambda: Rtsp(url=url))()
        plan.check()
        with pytest.raises(SourceLost, match="out of reach"):
            plan.open(suite.STREAM)
    assert not asked
