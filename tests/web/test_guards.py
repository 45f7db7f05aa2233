"""What never gets as far as a route, what every answer says to a browser, and how mistakes are told."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest
from fastapi import Body, WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipeline.app.web import connections
from pipeline.core.errors import InputError, InputErrors, ThresherError
from pipeline.core.secrets import remember
from tests.web.serving import Served, serving

SECRET = "pl4nted-in-a-route"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """With routes that go wrong in all the ways in which a route can."""
    remember(SECRET)
    with serving({"origins": ["https://studio.example"], "hosts": ["cams.example"]}) as site:

        @site.app.get("/api/test/bug")
        async def bug() -> None:
            raise RuntimeError(f"the key is {SECRET}")

        @site.app.get("/api/test/{what}")
        def wrong(what: str, number: int = 0) -> str:
            if what == "one":
                raise InputError("should be less", "sources.dock.url")
            if what == "two":
                raise InputErrors([InputError("is needed", "a"), InputError(f"holds {SECRET}", "b.c")])
            if what == "failed":
                raise ThresherError("the line is dead")
            return what

        @site.app.post("/api/test")
        async def post(body: dict[str, int] = Body()) -> int:  # noqa: B008  # FastAPI's way
            return len(body)

        @site.app.post("/whep/a/b/test")
        async def whip() -> str:
            return "in"

        @site.app.websocket("/api/test/ws")
        async def socket_route(line: WebSocket) -> None:
            await line.accept()
            await line.send_text("hello")
            await line.close()

        yield site


# Whom it is for.


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8642", "192.0.2.7", "cams.example", "cams.example.:443"]
)
def test_names_that_are_ours(served: Served, host: str) -> None:
    assert httpx.get(served.url + "/api/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8642", "0.0.0.0"])
def test_a_name_that_was_led_here_by_somebody_else(served: Served, host: str) -> None:
    refused = httpx.get(served.url + "/api/health", headers={"Host": host})
    assert refused.status_code == 403 and "web.hosts" in refused.json()["detail"]


@pytest.mark.parametrize("head", [b"", b"Host:\r\n", b"Host: a b\r\n", b"Host: localhost\r\nHost: evil\r\n"])
def test_no_name_or_two(served: Served, head: bytes) -> None:
    assert served.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n").startswith(b"HTTP/1.1 400")


# Who sent it.


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "OWN"},
        {"Origin": "https://cams.example"},  # a proxy gave it another `Host`
    ],
)
def test_our_own_page_and_programs_may_change_things(served: Served, headers: dict[str, str]) -> None:
    sent = {name: served.url if value == "OWN" else value for name, value in headers.items()}
    assert httpx.post(served.url + "/api/test", json={}, headers=sent).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another server of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://studio.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},  # a form
    ],
)
def test_pages_of_other_sites_may_not(served: Served, headers: dict[str, str]) -> None:
    refused = httpx.post(served.url + "/api/test", json={}, headers=headers)
    assert refused.status_code == 403 and "another site" in refused.json()["detail"]


def test_nor_read_anything_but_by_a_link_that_a_person_follows(served: Served) -> None:
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert httpx.get(served.url + "/api/snapshot", headers=picture).status_code == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert httpx.get(served.url, headers=link).status_code == 200
    read = httpx.get(served.url + "/api/health", headers={"Origin": "https://evil.example"})
    assert not [name for name in read.headers if name.startswith("access-control-")]


def test_sockets_of_other_sites_are_refused(served: Served) -> None:
    url = served.url.replace("http", "ws") + "/api/test/ws"
    with connect(url) as line:
        assert line.recv() == "hello"
    with connect(url, origin=served.url) as line:  # type: ignore[arg-type]  # a new type of str
        assert line.recv() == "hello"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, origin="https://evil.example")  # type: ignore[arg-type]  # the same
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as astray:
        connect(url, additional_headers={"Host": "evil.example"})
    assert astray.value.response.status_code in {400, 403}


@pytest.mark.parametrize("path", ["/api/test", "/whep/a/b/test"])
def test_no_preflight_is_answered_by_default(served: Served, path: str) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for more in ({}, {"Sec-Fetch-Site": "cross-site"}):
        refused = httpx.options(served.url + path, headers=asked | more)
        assert refused.status_code in {403, 405}
        assert "access-control-allow-origin" not in refused.headers


def test_a_site_that_is_named_may_publish_and_no_more(served: Served) -> None:
    asked = {"Origin": "https://studio.example", "Sec-Fetch-Site": "cross-site"}
    preflight = asked | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = httpx.options(served.url + "/whep/a/b/test", headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://studio.example"
    assert "access-control-allow-credentials" not in allowed.headers
    posted = httpx.post(served.url + "/whep/a/b/test", headers=asked)
    assert posted.status_code == 200 and "Location" in posted.headers["access-control-expose-headers"]
    assert httpx.options(served.url + "/api/test", headers=preflight).status_code == 403
    assert httpx.post(served.url + "/api/test", json={}, headers=asked).status_code == 403


# What every answer says.


@pytest.mark.parametrize("path", ["/", "/api/snapshot", "/api/nothing", "/api/test/bug", "/%00"])
def test_headers_of_every_answer(served: Served, path: str) -> None:
    headers = httpx.get(served.url + path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=(self)" in headers["permissions-policy"]
    assert headers["cache-control"] == ("no-cache" if path in {"/", "/%00"} else "no-store")
    assert "server" not in headers and "strict-transport-security" not in headers


# What cannot be read.


@pytest.mark.parametrize(
    "path",
    [
        "//", "//evil.example/", "/api//snapshot", "/../etc/passwd", "/api/../../etc/passwd", "/%2e%2e/etc/passwd",
        "/api/%2E%2e/snapshot", "/..%2f..%2fetc/passwd", "/.%2e/x", "/api/./snapshot", "/..", "/a%00b", "/a%0d%0ab",
        "/a\\b", "/..%5c..%5cwindows", "/%ff%fe",
    ],
)  # fmt: skip
def test_paths_that_are_none(served: Served, path: str) -> None:
    said = served.raw(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
    assert said.startswith(b"HTTP/1.1 400"), said[:200]
    assert b'{"detail":' in said


@pytest.mark.parametrize("path", ["/%252e%252e/etc/passwd", "/app.py", "/index.html/x", "/page/index.html", "/api"])
def test_paths_where_nothing_is(served: Served, path: str) -> None:
    assert httpx.get(served.url + path).status_code == 404


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 414),
        (b"GET /?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 414),
        (b"GET /" + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 100_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400),  # TLS
        (b"SSH-2.0-x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /api/test HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /api/test HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /api/test HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400),
    ],
)
def test_requests_that_are_none(served: Served, sent: bytes, status: int) -> None:
    said = served.raw(sent)
    assert said.startswith(b"HTTP/1.1 %d" % status), said[:200]
    assert b'{"detail":' in said
    assert httpx.get(served.url + "/api/health").status_code == 200


# How much of it.


def test_a_body_that_is_too_large_is_refused_and_not_read(served: Served) -> None:
    before = psutil.Process().memory_info().rss
    block, sent = b"x" * (1 << 20), 0
    with socket.create_connection(("127.0.0.1", served.port), 10) as line:
        line.sendall(b"POST /api/test HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (100 << 20))
        with suppress(OSError):
            while sent < 100:
                line.sendall(block)
                sent += 1
        said = line.recv(65536)
    assert said.startswith(b"HTTP/1.1 413") and b"65536 bytes" in said and b"connection: close" in said
    assert sent < 50  # what the system's own buffers take
    assert psutil.Process().memory_info().rss - before < 32 << 20


def test_nor_one_that_does_not_say_how_large_it_is(served: Served) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    refused = httpx.post(served.url + "/api/test", content=endless())
    assert refused.status_code == 413
    ended = httpx.post(served.url + "/api/test", content=iter([b"{", b" " * 65_000, b"}"]))
    assert ended.status_code == 200


@pytest.mark.parametrize("around", [b"0\r\nX: ", b"2;"])
def test_nor_what_stands_around_it_is_without_end(served: Served, around: bytes) -> None:
    """A header behind a body, and what may stand beside the length of a piece."""
    head = b"POST /api/test HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    block, sent = b"x" * 60_000, 0
    with socket.create_connection(("127.0.0.1", served.port), 10) as line:
        line.sendall(head + around)
        with suppress(OSError):
            while sent < 500:
                line.sendall(block)
                sent += 1
    assert sent < 400  # what the system's own buffers take
    small = b"".join(b"1\r\n%c\r\n" % sign for sign in b"{" + b" " * 60_000 + b"}") + b"0\r\n\r\n"
    assert served.raw(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + small).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "more",
    [
        b"Content-Length: 3\r\n\r\nabc",
        b"Content-Length: 300000\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"X: 1\r\n" * 200 + b"\r\n",
        b"X: " + b"x" * 10_000 + b"\r\n\r\n",
        b"\r\n" + b"\x01\x81\0\0\0\0a" * 100_000,  # too much for one read, and before it is let in
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_who_asks_for_a_socket_and_goes_on_otherwise_holds_no_place(
    served: Served, method: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "_HEAD_S", 1.0)
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    head = b" /api/feed/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    begun = time.monotonic()
    served.raw(method + head + key + more)
    assert time.monotonic() - begun < 10
    assert not [one for one in caplog.records if one.exc_info]


@pytest.mark.slow
def test_who_is_slow_is_sent_away(served: Served) -> None:
    """A head and a body have ten seconds, however their bytes are spread."""
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
    body = b"POST /api/test HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n{"
    again = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lines = [socket.create_connection(("127.0.0.1", served.port), 30) for _ in range(4)]
    begun = time.monotonic()
    lines[0].sendall(head)
    lines[1].sendall(body)
    lines[2].sendall(again)
    first = b""
    while not first.endswith(b'"}'):
        first += lines[2].recv(65536)
    assert first.startswith(b"HTTP/1.1 200")
    said = [b""] * len(lines)
    while not all(said) and time.monotonic() - begun < 25:
        for number, line in enumerate(lines[:3]):
            if time.monotonic() - begun < 8:  # what is sent into a closed connection may take the answer with it
                line.sendall(b"\r\n" if number == 2 else b"x")
        for number, line in enumerate(lines):
            line.settimeout(0.05)
            with suppress(OSError):
                said[number] = said[number] or line.recv(65536) or b"closed"
    assert [one[:12] for one in said] == [b"HTTP/1.1 408"] * 4
    for line in lines:
        line.close()


def test_too_many_changes_at_once() -> None:
    with serving({"changes_per_s": 0.1}) as served:
        assert httpx.delete(served.url + "/api/session").status_code == 204
        refused = httpx.delete(served.url + "/api/session")
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 10
        assert httpx.get(served.url + "/api/health").status_code == 200  # to look is another matter


# How mistakes are told.


def test_one_shape_for_all_mistakes(served: Served) -> None:
    def said(path: str, method: str = "GET", **given: object) -> tuple[int, object]:
        answer = httpx.request(method, served.url + path, **given)  # type: ignore[arg-type]  # as httpx takes them
        return answer.status_code, answer.json()

    assert said("/api/nothing") == (404, {"detail": "there is nothing at /api/nothing"})
    assert said("/api/health", "PUT") == (405, {"detail": "PUT means nothing here: GET does"})
    one = {"place": "sources.dock.url", "message": "should be less"}
    assert said("/api/test/one") == (422, {"detail": "sources.dock.url: should be less", "errors": [one]})
    status, two = said("/api/test/two")
    assert isinstance(two, dict)
    assert status == 422 and [error["place"] for error in two["errors"]] == ["a", "b.c"] and SECRET not in str(two)
    assert said("/api/test/failed") == (503, {"detail": "the line is dead"})
    status, number = said("/api/test/x?number=many")
    assert isinstance(number, dict)
    assert status == 422 and number["errors"][0]["place"] == "number" and "many" not in str(number)
    assert said("/api/test", "POST", content=b"{") == (400, {"detail": "the body is no JSON"})
    assert said("/api/test", "POST", json=[])[0] == 422


def test_a_body_is_json_also_as_curl_sends_it(served: Served) -> None:
    for kind in ({}, {"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "application/json"}):
        answer = httpx.post(served.url + "/api/test", content=b'{"a": 1}', headers=kind)
        assert (answer.status_code, answer.json()) == (200, 1)
    for kind in ({"Content-Type": "text/xml"}, {"Content-Type": "multipart/form-data; boundary=x"}):
        assert httpx.post(served.url + "/api/test", content=b"<a/>", headers=kind).status_code == 415


def test_a_bug_is_a_number_to_whoever_asked_and_a_trace_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = httpx.get(served.url + "/api/test/bug")
    assert answer.status_code == 500
    assert SECRET not in answer.text and "RuntimeError" not in answer.text and "Traceback" not in answer.text
    number = answer.json()["detail"].rpartition(" ")[2]
    [record] = caplog.records
    assert number in record.getMessage() and record.exc_info is not None
