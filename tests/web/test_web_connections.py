"""How many may be connected, and how long anybody is waited for who does not read."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from pipeline.app.web import connections
from pipeline.app.web.connections import Door
from tests.web.serving import Served, serving


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server with room for eight."""
    monkeypatch.setattr(connections, "_spare", lambda: 8)
    monkeypatch.setattr(connections, "_STALLED_S", 0.5)
    with serving() as it:
        yield it


def is_let_in(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def test_no_more_than_there_is_room_for(served: Served) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
        assert not is_let_in(served.port)
    end = time.monotonic() + 20
    while not is_let_in(served.port):
        assert time.monotonic() < end, "nobody is let in any more"


def test_one_address_does_not_take_all_the_room() -> None:
    """A loopback address of our own making stands for a stranger."""
    with socket.create_server(("127.0.0.2", 0)) as listening:
        door = Door(listening, most=4)
    with door, ExitStack() as stack:
        door.settimeout(10)

        def come(host: str) -> bool:
            stack.enter_context(socket.create_connection(door.getsockname(), source_address=(host, 0)))
            try:
                stack.enter_context(door.accept()[0])
            except ConnectionAbortedError:
                return False
            return True

        assert [come("127.0.0.3") for _ in range(3)] == [True, True, False]
        assert [come("127.0.0.1") for _ in range(3)] == [True, True, False]


@pytest.mark.slow
def test_who_does_not_read_is_cut_off(served: Served) -> None:
    """However much is still waiting for it."""

    @served.app.get("/api/test/large")
    async def large() -> str:
        return "x" * (32 << 20)

    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(20)
        line.connect(("127.0.0.1", served.port))
        line.sendall(b"GET /api/test/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3)
        got = 0
        with suppress(ConnectionResetError):
            while block := line.recv(1 << 20):
                got += len(block)
    assert 0 < got < 32 << 20
    assert is_let_in(served.port)


def test_what_begins_to_speak_tls_and_does_not_go_on_costs_a_place_and_no_more(served: Served) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 10))
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with pytest.raises((ssl.SSLError, OSError)):
                context.wrap_socket(line)
        assert is_let_in(served.port)
