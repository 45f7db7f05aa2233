"""WebSockets with real clients and servers on the loopback: the `websockets` library's blocking ones."""

from __future__ import annotations

import json
import pickle
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import pytest
from pydantic import ValidationError
from talk_parts import Reading, running, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.secrets import redact
from sources import websocket_links
from sources.websocket import WebSocket, WebSocketReader
from tests.contracts import source_suite as suite


def listening(**options: Any) -> WebSocket:
    return WebSocket.model_validate({"listen": "127.0.0.1:0"} | options)


@contextmanager
def taking(**options: Any) -> Iterator[tuple[Reading, str]]:
    reader = listening(**options).open(suite.STREAM)
    assert isinstance(reader, WebSocketReader)
    with closing(Reading(reader)) as reading:
        yield reading, f"ws://127.0.0.1:{reader.port}"


def client(url: str, **options: Any) -> ClientConnection:
    end = time.monotonic() + 5
    while True:
        try:
            return connect(url, proxy=None, compression=None, open_timeout=5, **options)
        except ConnectionRefusedError:  # a pipeline that starts opens its sources a moment later
            assert time.monotonic() < end
            time.sleep(0.02)


def test_contract() -> None:
    plan = listening()
    suite.check_plan(plan)
    suite.check_epochs(plan)
    untouched = plan.open(suite.STREAM)
    untouched.close()
    untouched.close()
    assert plan.live and not plan.paced and plan.medium == "text"
    with taking() as (reading, url), client(url) as one:
        for n in range(5):
            one.send(f"message {n}")
        suite.check_items(reading.received(5), received=5)
        time.sleep(0.6)
    assert any(suite.count(item) == 0 for item in reading.items), "watermarks"


def test_frames_are_plain_or_json_and_of_any_kind() -> None:
    with taking() as (reading, url), client(url) as one, client(url) as two:
        one.send("héllo")
        one.send('{"text": "from ann", "user": "ann"}')
        one.send('[{"text": "a"}, {"text": "b"}]')
        reading.received(4)
        two.send(b"zwei")
        two.send("")
        two.send(b"\xff\xfe")
        two.send("drei")
        reading.received(7)
    assert reading.said == ["héllo", "from ann", "a", "b", "zwei", "drei"]
    assert suite.gaps(reading.items, "damaged") == 1


def test_text_that_is_no_utf8_costs_no_connection() -> None:
    with taking() as (reading, url), client(url) as one:
        frame = struct.pack("!BB", 0x81, 0x82) + b"\0\0\0\0" + b"\xff\xfe"  # a text frame, masked with zeros
        one.socket.sendall(frame)
        one.send("still here")
        reading.received(2)
    assert reading.said == ["still here"] and suite.gaps(reading.items, "damaged") == 1


def test_a_frame_that_is_too_large_ends_its_sender_alone() -> None:
    with taking() as (reading, url), client(url) as good, client(url) as bad:
        with suppress(ConnectionClosed):
            bad.send("x" * 10_000_000)
        with pytest.raises(ConnectionClosed):
            bad.recv(timeout=5)
        good.send("unharmed")
        reading.received(2)
    assert reading.said == ["unharmed"] and suite.gaps(reading.items, "damaged") == 1


def test_who_may_connect() -> None:
    with taking(token="s3cret-token") as (reading, url):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \u00e9"}):
            with pytest.raises(InvalidStatus, match="401"):
                client(url, additional_headers=headers)
        with client(url, additional_headers={"Authorization": "Bearer s3cret-token"}) as one:
            one.send("hi")
            reading.received(1)
    with taking() as (_, url), pytest.raises(InvalidStatus, match="403"):
        client(url, origin="http://localhost")
    with taking(connections=2) as (_, url), client(url), client(url), pytest.raises(InvalidStatus, match="503"):
        client(url)


def test_a_thousand_connections_harm_nobody() -> None:
    with taking(connections=16) as (reading, url):
        port = int(url.rpartition(":")[2])
        idle: list[socket.socket] = []
        with suppress(OSError):
            idle.extend(socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(1000))

        def served() -> bool:
            try:
                with client(url) as one:
                    one.send("in")
                return True
            except (OSError, EOFError, ConnectionClosed, InvalidStatus, Exception):  # noqa: BLE001 the house is full
                return False

        until(served, 15)
        for one in idle:
            one.close()
        until(served)
        reading.received(2)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_clients_are_told_what_became_of_their_messages() -> None:
    port = free_port()
    with running(listening(listen=port, verdicts=True, longest=64)):
        with client(f"ws://127.0.0.1:{port}") as one, client(f"ws://127.0.0.1:{port}") as two:
            one.send("this is bad")
            two.send("this is fine")
            two.send("Nothing but good words in here, you see. " * 8 + "And a bad one.")
            two.send("")
            two.send(b"\xff")
            two.send("[]")
            first = json.loads(one.recv(timeout=10))
            rest = [json.loads(two.recv(timeout=10)) for _ in range(5)]
        assert first["flagged"] is True and first["verdict"] == "reject"
        assert {one.get("flagged") for one in rest if "pieces" not in one and "error" not in one} == {False}
        assert [one["flagged"] for one in rest if "pieces" in one] == [True]
        assert len([one for one in rest if "error" in one]) == 3


def test_a_client_that_never_reads_is_put_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket_links, "_DEAF_S", 1.0)
    port = free_port()
    with running(listening(listen=port, verdicts=True)) as (pipeline, _), client(f"ws://127.0.0.1:{port}") as good:
        deaf = socket.create_connection(("127.0.0.1", port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        deaf.setblocking(False)
        left = b""

        def put_out() -> bool:
            nonlocal left
            try:
                while True:
                    left = left or b"\x81\x85\0\0\0\0hello" * 1000
                    left = left[deaf.send(left) :]
            except BlockingIOError:
                return False
            except OSError:
                return True

        until(put_out, 20)
        deaf.close()
        assert "did not read" in caplog.text
        good.send("a bad word")
        assert json.loads(good.recv(timeout=20))["flagged"] is True
        stream = pipeline.snapshot().streams[0]
        assert stream.received == stream.windows == stream.results + sum(stream.shed.values()) + stream.in_flight


def test_who_reads_is_told_all_however_much_it_asks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_links, "_MOST_UNTOLD", 16)
    port = free_port()
    with running(listening(listen=port, verdicts=True)), client(f"ws://127.0.0.1:{port}") as one:
        frame = json.dumps([{"text": "hello"}] * 256)
        for _ in range(12):
            one.send(frame)
        told = [json.loads(one.recv(timeout=10)) for _ in range(12 * 256)]
        assert {document["verdict"] for document in told} == {"accept"}
        one.send(json.dumps([{"text": "hello"}] * 257))
        assert json.loads(one.recv(timeout=10)) == {"error": "at most 256 messages in one frame"}


def test_many_wait_for_room_without_asking_again_and_again() -> None:
    with closing(listening(waiting=1).open(suite.STREAM)) as reader:
        assert isinstance(reader, WebSocketReader)
        offered = 0
        offer = reader._mailbox.offer

        def counted(items: Any) -> bool:
            nonlocal offered
            offered += 1
            return offer(items)

        reader._mailbox.offer = counted  # type: ignore[method-assign]
        with ExitStack() as stack:
            for n in range(40):
                stack.enter_context(client(f"ws://127.0.0.1:{reader.port}")).send(str(n))
            time.sleep(0.5)
            assert offered <= 3
            with closing(Reading(reader)) as reading:
                reading.received(40)
            assert offered <= 100
    assert sorted(reading.said, key=int) == [str(n) for n in range(40)]


def test_a_full_house_makes_senders_wait() -> None:
    with closing(listening(waiting=4).open(suite.STREAM)) as reader:
        assert isinstance(reader, WebSocketReader)
        with client(f"ws://127.0.0.1:{reader.port}") as one:
            for n in range(200):
                one.send(str(n))
            time.sleep(0.3)
            assert len(reader._mailbox._items) <= 4
            with closing(Reading(reader)) as reading:
                reading.received(200)
    assert reading.said == [str(n) for n in range(200)]


# The client.


@contextmanager
def server(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    with serve(handler, "127.0.0.1", 0, **options) as running_server:
        assert isinstance(running_server, Server)
        thread = threading.Thread(target=running_server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{running_server.socket.getsockname()[1]}/feed"
        finally:
            running_server.shutdown()
            thread.join(5)


def test_the_client_reads_subscribes_and_loses() -> None:
    heard: list[str | bytes] = []
    asked: list[str] = []

    def feed(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request.headers["Authorization"])
        heard.append(connection.recv())
        for n in range(300):
            connection.send(f"message {n}")
        connection.send(b"\xff\xfe")
        connection.close(1012, "see you token=s3cret")

    with server(feed) as url:
        plan = WebSocket(url=url, token="s3cret-key", say=("subscribe all",))
        suite.check_plan(plan)
        with closing(Reading(plan.open(suite.STREAM))) as reading:
            until(lambda: reading.error)
    assert asked == ["Bearer s3cret-key"] and heard == ["subscribe all"]
    assert reading.said == [f"message {n}" for n in range(300)] and suite.gaps(reading.items, "damaged") == 1
    assert isinstance(reading.error, SourceLost) and "1012: see you" in str(reading.error)
    assert plan.live and plan.paced
    assert "s3cret-key" not in repr(plan) and redact("s3cret-key") == "***"


def test_what_the_server_sends_is_bounded() -> None:
    def flood(connection: ServerConnection) -> None:
        connection.send("ok")
        connection.send("x" * 10_000_000)
        with suppress(ConnectionClosed):
            connection.recv()

    with server(flood) as url, closing(Reading(WebSocket(url=url).open(suite.STREAM))) as reading:
        until(lambda: reading.error)
    assert reading.said == ["ok"] and suite.gaps(reading.items, "damaged") == 1


def test_nobody_is_followed_elsewhere() -> None:
    def elsewhere(connection: ServerConnection, request: Any) -> Any:
        response = connection.respond(302, "over there\n")
        response.headers["Location"] = "ws://127.0.0.1:1/"
        return response

    with server(lambda connection: None, process_request=elsewhere) as url, pytest.raises(SourceLost, match="302"):
        WebSocket(url=url).open(suite.STREAM)


def test_nobody_there() -> None:
    with pytest.raises(SourceLost, match="cannot connect"):
        WebSocket(url=f"ws://127.0.0.1:{free_port()}").open(suite.STREAM)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(SourceLost, match="cannot connect"):
            WebSocket(url=f"ws://127.0.0.1:{mute.getsockname()[1]}", connect_s=0.5).open(suite.STREAM)


@pytest.mark.parametrize(
    "options",
    [{}, {"listen": 1, "url": "ws://x"}, {"url": "ws://x", "verdicts": True}, {"listen": 1, "say": ["x"]}],
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebSocket.model_validate(options)


@pytest.mark.parametrize("url", ["http://x", "ws:/x", "ws://", "ws://x:99999", "wss://[x"])
def test_malformed_urls_are_mistakes(url: str) -> None:
    with pytest.raises(InputError, match="should be a URL"):
        WebSocket(url=url).check()


def test_a_taken_port_is_a_mistake() -> None:
    with closing(listening().open("a")) as reader:
        assert isinstance(reader, WebSocketReader)
        with pytest.raises(InputError, match="cannot listen"):
            listening(listen=reader.port).open("b")
    assert pickle.loads(pickle.dumps(listening())) == listening()
