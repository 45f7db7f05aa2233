"""Parts that are posted, by clients of every kind."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from line_parts import fill, following, noise, png, until

from pipeline.core.errors import InputError
from pipeline.core.records import Chunk, Gap, Item
from sources import http_server, line_posted
from sources.line import Line
from sources.line_posted import PostedReader
from tests.contracts import source_suite as suite


def posted(**options: object) -> Line:
    return Line.model_validate({"trigger": "http", "listen": "127.0.0.1:0"} | options)


class Running:
    """A reader whose parts are taken as they come."""

    def __init__(self, plan: Line) -> None:
        reader = plan.open(suite.STREAM)
        assert isinstance(reader, PostedReader)
        self.reader = reader
        self.port = reader.port
        self.items: list[Item] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        until(lambda: self.reader._inbox.has_room)

    def _read(self) -> None:
        for item in self.reader:
            self.items.append(item)

    def parts(self, how_many: int) -> list[Item]:
        until(lambda: sum(map(suite.count, self.items)) >= how_many)
        return [item for item in self.items if suite.count(item)]

    def close(self) -> None:
        self.reader.close()
        self._thread.join(5)
        assert not self._thread.is_alive()


@contextmanager
def running(**options: object) -> Iterator[Running]:
    with closing(Running(posted(**options))) as line:
        yield line


def post(
    port: int, body: bytes, path: str = "/part", headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, dict[str, Any]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as client:
        client.request(method, path, body, headers or {})
        answer = client.getresponse()
        return answer.status, json.loads(answer.read() or b"{}")


def raw(port: int, text: bytes, timeout_s: float = 15) -> bytes:
    """Whatever is answered to `text`, until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        client.sendall(text)
        answer = b""
        with suppress(ConnectionError):
            while block := client.recv(4096):
                answer += block
        return answer


def test_contract() -> None:
    plan = posted()
    suite.check_plan(plan)
    suite.check_epochs(plan)
    untouched = plan.open(suite.STREAM)
    untouched.close()
    untouched.close()
    assert plan.paced and plan.parts and not plan.live
    with running() as line:
        for n in range(5):
            assert post(line.port, png(100 + n))[0] == 202
        items = line.parts(5)
    suite.check_items(items, received=5)


def blank(side: int) -> bytes:
    """A PNG of `side`² grey pixels, of which only a thousandth are bytes."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes((side + 1) * side), 9)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
              for name, body in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_few_bytes_with_many_pixels_are_too_large() -> None:
    with running() as line:
        status, said = post(line.port, blank(8193))
        assert (status, said["error"]) == (413, "the part has more than 67108864 pixels, or none")
    with running(max_pixels=64 * 48) as line:
        assert post(line.port, png(1, 48, 64))[0] == 202
        assert post(line.port, png(1, 48, 66))[0] == 413
        assert [type(item) for item in line.parts(2)] == [Chunk, Gap]


def test_what_waits_decoded_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_posted, "_MOST_DECODED", 3 * 64 * 48 * 3)
    with closing(posted().open(suite.STREAM)) as reader:
        assert isinstance(reader, PostedReader)
        reader._inbox.open()
        assert [post(reader.port, png(n))[0] for n in range(5)] == [202] * 3 + [503] * 2
        assert reader._inbox.take() is not None
        assert post(reader.port, png(5))[0] == 202


def test_the_answer_names_the_window(tmp_path: Path) -> None:
    with running() as line:
        answers = [
            post(line.port, png(1), "/part?name=board%207.png"),
            post(line.port, png(2), headers={"Part-Name": "b8.png"}),
            post(line.port, png(3), "/part?x=1"),
        ]
        parts = suite.chunks(line.parts(3))
    assert [status for status, _ in answers] == [202] * 3
    assert [answer["id"] for _, answer in answers] == [f"{suite.STREAM}/{line.reader.epoch}/{n}" for n in range(3)]
    assert [(c.seq, c.file) for c in parts] == [(0, "board 7.png"), (1, "b8.png"), (2, "")]


def test_a_connection_carries_many_parts() -> None:
    with running() as line, closing(http.client.HTTPConnection("127.0.0.1", line.port, timeout=15)) as client:
        for n in range(50):
            client.request("POST", "/part", png(n) if n % 10 else b"no picture")
            answer = client.getresponse()
            assert answer.status == (202 if n % 10 else 415)
            answer.read()
        items = line.parts(50)
    suite.check_items(items, received=50, intact=False)
    assert suite.gaps(items, "undecoded") == 5


GARBAGE = random.Random(0).randbytes(20_000)


@pytest.mark.parametrize(
    ("body", "path", "headers", "status", "arrived"),
    [
        (b"", "/part", {}, 415, 1),
        (b"hello", "/part", {}, 415, 1),
        (GARBAGE, "/part", {}, 415, 1),
        (b"\x89PNG" + GARBAGE, "/part", {}, 415, 1),
        (png()[:-30], "/part", {}, 415, 1),
        (b"x" * 2_000_001, "/part", {}, 413, 0),
        (b"x" * 20_000_000, "/part", {}, 413, 0),
        (png(), "/", {}, 404, 0),
        (png(), "/part/", {}, 404, 0),
        (png(), "//evil/part", {}, 404, 0),
        (png(), "/x/../part", {}, 404, 0),
        (png(), "/%70art", {}, 404, 0),
        (png(), "http://127.0.0.1/part", {}, 404, 0),
        (png(), "/part?name=../../etc/passwd", {}, 400, 0),
        (png(), "/part?name=%2e%2e%2fx.png", {}, 400, 0),
        (png(), "/part?name=..%5Cx.png", {}, 400, 0),
        (png(), "/part?name=.hidden", {}, 400, 0),
        (png(), "/part?name=a%00b", {}, 400, 0),
        (png(), "/part?name=a%0Ab", {}, 400, 0),
        (png(), "/part?name=%ff%fe", {}, 400, 0),
        (png(), "/part?name=" + "x" * 201, {}, 400, 0),
        (png(), "/part?" + "&".join(f"a{n}=1" for n in range(100)), {}, 400, 0),
        (png(), "/part", {"Part-Name": "../x"}, 400, 0),
        (png(), "/part", {"Origin": "http://evil.example"}, 403, 0),
        (png(), "/part", {"Content-Length": "-1"}, 400, 0),
        (png(), "/part", {"Content-Length": "1e3"}, 400, 0),
        (png(), "/part", {"Content-Length": "9" * 30}, 400, 0),
        (png(), "/part", {"Transfer-Encoding": "chunked"}, 411, 0),
    ],
)  # fmt: skip
def test_what_is_no_part_is_refused_and_the_line_goes_on(
    body: bytes, path: str, headers: dict[str, str], status: int, arrived: int
) -> None:
    with running(max_mb=2) as line:
        answered, document = post(line.port, body, path, headers)
        assert answered == status and document["error"]
        assert post(line.port, png())[0] == 202
        items = line.parts(arrived + 1)
    suite.check_items(items, received=arrived + 1, intact=False)
    assert suite.gaps(items, "undecoded") == arrived


@pytest.mark.parametrize(("method", "status"), [("GET", 405), ("PUT", 405), ("DELETE", 501), ("PATCH", 501)])
def test_only_posting_is_of_use(method: str, status: int) -> None:
    with running() as line:
        assert post(line.port, b"", method=method)[0] == status
        assert post(line.port, b"", "/elsewhere", method="GET")[0] == 404


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"POST /part\r\n\r\n", b"400"),
        (b"POST /part HTTP/9.9\r\n\r\n", b"505"),
        (b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"POST /part HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(200)) + b"\r\n", b"431"),
        (b"POST /part HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", b"431"),
        (b"POST /part HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello", b"400"),
        (b"POST /part HTTP/1.1\r\n\r\n", b"411"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(text: bytes, status: bytes) -> None:
    with running() as line:
        assert status in raw(line.port, text)[:40]
        assert post(line.port, png())[0] == 202


def test_who_leaves_in_the_middle_leaves_nothing_behind() -> None:
    with running() as line:
        for sent in (b"", b"POST", b"POST /part HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhalf"):
            with socket.create_connection(("127.0.0.1", line.port)) as client:
                client.sendall(sent)
        assert post(line.port, png())[0] == 202
        assert len(line.parts(1)) == 1
        until(lambda: not line.reader._server._server._guests)
        assert line.reader._server._server._receiving == 0


def test_a_slow_client_is_called_off_whatever_it_dribbles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_REQUEST_S", 1.0)
    head = b"POST /part HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"
    with running() as line:
        for beginning in (b"", head):
            with socket.create_connection(("127.0.0.1", line.port), timeout=15) as client:
                client.sendall(beginning)
                began = time.monotonic()
                with suppress(ConnectionError):
                    for _ in range(200):
                        client.sendall(b"x")
                        time.sleep(0.1)
                assert time.monotonic() - began < 15, "a byte now and then must not keep it alive"
        assert post(line.port, png())[0] == 202


def test_slow_clients_on_every_connection_keep_nobody_out() -> None:
    with running(connections=4) as line:
        slow = [socket.create_connection(("127.0.0.1", line.port)) for _ in range(4)]
        try:
            for client in slow:
                client.sendall(b"POST /part HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
            answers: list[int] = []

            def taken() -> bool:
                with suppress(OSError, http.client.HTTPException):
                    answers.append(post(line.port, png())[0])
                return 202 in answers

            until(taken)
            assert set(answers) <= {202, 503}
        finally:
            for client in slow:
                client.close()


def test_fifty_clients_at_once_and_every_answer_is_true() -> None:
    picture = noise(1, 100)

    def client(number: int) -> list[int]:
        return [post(line.port, picture, f"/part?name={number}-{n}")[0] for n in range(4)]

    with running() as line:
        with ThreadPoolExecutor(50) as pool:
            answers = Counter(status for statuses in pool.map(client, range(50)) for status in statuses)
        assert answers.keys() <= {202, 503}
        items = line.parts(answers[202])
    suite.check_items(items, received=answers[202])
    names = [c.file for c in suite.chunks(items)]
    assert len(set(names)) == len(names) and answers[202] >= 50


def test_a_full_line_says_so_and_takes_parts_again_once_it_has_room() -> None:
    with closing(posted(waiting=3).open("s")) as reader:
        assert isinstance(reader, PostedReader)
        assert post(reader.port, png())[0] == 503, "nobody takes parts in yet"
        items = iter(reader)
        next(items)
        statuses = [post(reader.port, png())[0] for _ in range(6)]
        assert statuses == [202, 202, 202, 503, 503, 503]
        following(items, 1)
        assert [post(reader.port, png())[0] for _ in range(2)] == [202, 503]
        assert [c.seq for c in suite.chunks(following(items, 3))] == [1, 2, 3], "what was refused has not arrived"


def test_bodies_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_MOST_AT_ONCE", 100_000)
    with running() as line, socket.create_connection(("127.0.0.1", line.port)) as greedy:
        greedy.sendall(b"POST /part HTTP/1.1\r\nContent-Length: 99990\r\n\r\nx")
        until(lambda: line.reader._server._server._receiving > 0)
        assert post(line.port, png())[0] == 503
        greedy.close()
        until(lambda: post(line.port, png())[0] == 202)


def test_a_client_may_ask_before_it_sends() -> None:
    head = b"POST /part HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    with running(max_mb=1) as line:
        assert raw(line.port, head % 9_000_000).startswith(b"HTTP/1.1 413")
        picture = png()
        with socket.create_connection(("127.0.0.1", line.port), timeout=15) as client:
            client.sendall(head % len(picture))
            assert client.recv(100).startswith(b"HTTP/1.1 100")
            client.sendall(picture)
            assert client.recv(100).startswith(b"HTTP/1.1 202")


# Beside a reference.


def test_posted_parts_beside_the_golden_one(tmp_path: Path) -> None:
    golden = fill(tmp_path, "golden", level=200) / "golden.png"
    with running(reference=golden) as line:
        assert post(line.port, png(90))[0] == 202
        status, answer = post(line.port, png(90, 30, 30))
        assert (status, "differ in size" in answer["error"]) == (422, True)
        part, gap = line.parts(2)
    assert isinstance(part, Chunk) and isinstance(gap, Gap)
    assert [round(float(x)) for x in part.payload.rgb().reshape(-1, 3).mean(axis=0)] == [90, 200, 200]


def test_posted_parts_beside_the_reference_of_their_name(tmp_path: Path) -> None:
    fill(tmp_path, "7_temp", level=200)
    with running(names="*_test", reference=tmp_path / "{stem}_temp.png") as line:
        assert post(line.port, png(90), "/part?name=7_test.png")[0] == 202
        assert post(line.port, png(90), "/part?name=8_test.png")[0] == 422
        assert post(line.port, png(90), "/part?name=7.png")[0] == 400
        assert post(line.port, png(90))[0] == 400
        items = line.parts(2)
    assert [type(item) for item in items] == [Chunk, Gap]


# Listening.


def test_it_listens_to_this_machine_alone_unless_told_otherwise() -> None:
    assert Line(trigger="http").listen == "127.0.0.1:8701"
    assert Line(trigger="http", listen=9001).listen == "127.0.0.1:9001"  # type: ignore[arg-type]


def test_a_taken_port_is_the_users_to_change_and_a_closed_line_frees_it() -> None:
    reader = posted().open("s")
    assert isinstance(reader, PostedReader)
    port = reader.port
    with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
        posted(listen=f"127.0.0.1:{port}").open("s")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST")
        reader.close()
        client.settimeout(5)
        with suppress(ConnectionError):
            assert client.recv(10) == b"", "who is connected is told that it is over"
    posted(listen=f"127.0.0.1:{port}").open("s").close()
