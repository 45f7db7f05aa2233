"""What a connection may do before there is a request, and while its answer is on the way.

uvicorn waits for the head of a request for as long as it takes, of whatever length, and for a reader that does not
read for ever. Here a head has ten seconds and 32 KiB, and who reads nothing for twenty seconds is cut off. How many
connections there are is bounded where they are accepted, before TLS and before any of it is read: a stranger with
many of them costs a stream none of its file descriptors.

Whoever streams gets the connection's own transport, to let go of it with all that waits in it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from starlette.requests import HTTPConnection
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pipeline.app.web.allowance import neighbour

_MOST = 1024
_HEAD_S = 10.0
_LARGEST_HEAD = 32 << 10
_PER_BYTE = 8  # of a body that comes in pieces of one byte: length, byte, line ends
_STALLED_S = 20.0


class Door(socket.socket):
    """A listening socket that has at most `most` connections open at a time, half of them from one address (all, from
    this machine: a proxy may speak for everybody). What comes beyond that is closed at once."""

    def __init__(self, listening: socket.socket, most: int | None = None) -> None:
        super().__init__(fileno=listening.detach())
        self._most = _spare() if most is None else most
        self._guests: list[tuple[socket.socket, str]] = []

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = super().accept()
        host = neighbour(address[0])
        self._guests = [one for one in self._guests if one[0].fileno() != -1]
        mine = sum(other == host for _, other in self._guests)
        if len(self._guests) >= self._most or (mine >= self._most // 2 and host not in {"127.0.0.1", "::1"}):
            connection.close()
            raise ConnectionAbortedError  # to asyncio: whoever it was has gone again
        self._guests.append((connection, host))
        return connection, address


def _spare() -> int:
    """How many connections there may be: half of the files that this process may open are left to the streams."""
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return _MOST
    return max(16, min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))


def break_off(connection: HTTPConnection) -> None:
    """Close it at once, whatever the client has not read yet."""
    if (transport := _transport(connection)) is not None:
        transport.abort()


def is_gone(connection: HTTPConnection) -> bool:
    """Whether it has broken off: known here before whoever serves it is told, and to write more is no use."""
    transport = _transport(connection)
    return transport is not None and transport.is_closing()


def _transport(connection: HTTPConnection) -> asyncio.Transport | None:
    found: asyncio.Transport | None = connection.scope.get("state", {}).get("transport")
    return found


class _Reading(asyncio.Protocol):
    """Cuts off who does not read."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(_STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._let_go()

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        super().connection_lost(exc)

    def _let_go(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class WebSocketConnection(_Reading, WebSocketsSansIOProtocol):
    """uvicorn's, but cut off when nobody reads, or when what comes is no WebSocket."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            # the whole head came at once (`HttpConnection`): its parser passes over it without a word
            self.transport.write(_answer(b"400 Bad Request", "this is no request for a WebSocket"))
            self.transport.close()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # it spoke before it was let in: there is no way to say why it is not
            self.transport.abort()
            return
        super().handle_parser_exception()


class HttpConnection(_Reading, HttpToolsProtocol):
    """uvicorn's, with bounds on the head of a request, and on what stands around its body: a name for each piece of it,
    headers behind it. Whoever asks for a WebSocket has no body: until that is sure, all is head."""

    _head: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _body_bytes = 0
    _around_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}  # a WebSocket that it turns into has it, too
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_ends()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._head_begins()  # also where it begins with empty lines, which the parser passes over
        inside = self._in_body
        super().data_received(data)
        if inside and self._in_body:
            self._around_bytes += len(data)
            if self._around_bytes > _LARGEST_HEAD + _PER_BYTE * self._body_bytes:
                self._turn_away(b"431 Request Header Fields Too Large", "there is too much around this body")
        if self._head is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD:
                self._turn_away(
                    b"431 Request Header Fields Too Large", f"headers have {_LARGEST_HEAD >> 10} KiB at most"
                )

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begins()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        self._in_body, self._body_bytes, self._around_bytes = True, 0, 0
        self._head_ends()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._head_ends()
        super().handle_websocket_upgrade()

    def _head_begins(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(_HEAD_S, self._too_slow)
            self._head_bytes = 0

    def _head_ends(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._turn_away(b"408 Request Timeout", f"a request begins within {_HEAD_S:g} s")

    def _turn_away(self, status: bytes, detail: str) -> None:
        self._head_ends()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # this would come to stand within another answer
        elif not self.transport.is_closing():
            self.transport.write(_answer(status, detail))
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._turn_away(b"400 Bad Request", "this is no request that can be read")


def _answer(status: bytes, detail: str) -> bytes:
    body = b'{"detail": "%s"}' % detail.encode()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (status, len(body)) + body
