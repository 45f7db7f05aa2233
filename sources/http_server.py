"""The little HTTP server to which parts and messages are posted. What it reads comes from strangers: all is bounded.

A client has a few seconds for a whole request, however it spreads its bytes. Where all connections are taken, whoever
has taken longest over one makes room, those that never completed one first: slow ones harm themselves. Requests of web
pages are refused, since any page that a browser on this machine shows could post to it.
"""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, ClassVar, Protocol

from pipeline.core.errors import InputError
from pipeline.core.secrets import redact

log = logging.getLogger(__name__)

_REQUEST_S = 5.0
_IDLE_S = 60.0
_SLOW_S = 1.0  # who has been at a request for so long may be asked to leave
_LINGER_S = 1.0
_MOST_AT_ONCE = 256 << 20  # bytes of all bodies that are being received
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    document: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """What stands before a body."""

    path: str
    query: str
    headers: Message


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.answer = Answer(status, {"error": reason})


class Desk(Protocol):
    """Who takes in what is posted. Called from the threads of many connections."""

    paths: ClassVar[Mapping[str, str]]
    """Where to post, and what a body is there: a `picture`, a `message`."""

    def refusal(self, request: Request) -> Answer | None:
        """Why the body need not be sent at all."""

    def receive(self, request: Request, data: bytes) -> Answer:
        """A body was received whole. May take its time: the connection waits."""


class PostServer:
    """Listens from its making until it is closed. Raises `InputError` where it cannot."""

    def __init__(self, desk: Desk, where: tuple[str, int], *, most_bytes: int, connections: int) -> None:
        host, port = where
        try:
            self._server = _Server(desk, where, most_bytes, connections)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "this is no address"
            raise InputError(f"cannot listen on {host}:{port}: {reason}", "listen") from error
        self._thread = threading.Thread(
            target=lambda: self._server.serve_forever(poll_interval=0.1), name="http", daemon=True
        )
        self._thread.start()
        self._closed = False

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join(timeout=2)


@dataclass(slots=True)
class _Guest:
    """A connection: since when it has been at its request (None: it waits for us), and whether one ever went well."""

    since_s: float | None
    proven: bool = False


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, desk: Desk, where: tuple[str, int], most_bytes: int, connections: int) -> None:
        self.desk = desk
        self.most_bytes = most_bytes
        self._most = connections
        self._lock = threading.Lock()
        self._guests: dict[socket.socket, _Guest] = {}
        self._receiving = 0
        if ":" in where[0]:
            self.address_family = socket.AF_INET6
        super().__init__(where, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own would ask the name service who we are
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    # Connections.

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._admit(request):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.settimeout(0)
            request.send(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        super().shutdown_request(request)

    def _admit(self, request: socket.socket) -> bool:
        now_s = time.monotonic()
        with self._lock:
            if len(self._guests) >= self._most:
                slow = [
                    (guest.proven, guest.since_s, known)
                    for known, guest in self._guests.items()
                    if guest.since_s is not None and now_s - guest.since_s > _SLOW_S
                ]
                if not slow:
                    return False
                leaving = min(slow, key=lambda one: one[:2])[2]
                del self._guests[leaving]
                with suppress(OSError):
                    leaving.shutdown(socket.SHUT_RDWR)  # its thread finds the end, and closes it
            self._guests[request] = _Guest(now_s)
            return True

    def at_work(self, request: socket.socket, working: bool, proven: bool = False) -> None:
        """Whether the connection waits for us, or we for it."""
        with self._lock:
            guest = self._guests.get(request)
            if guest is not None:
                guest.since_s = None if working else time.monotonic()
                guest.proven = guest.proven or proven

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._guests.pop(request, None)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        with self._lock:
            for known in self._guests:
                with suppress(OSError):
                    known.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection broke off", exc_info=True)

    # Bodies.

    def reserve(self, size: int) -> bool:
        with self._lock:
            if self._receiving + size > _MOST_AT_ONCE:
                return False
            self._receiving += size
            return True

    def free(self, size: int) -> None:
        with self._lock:
            self._receiving -= size


class _Patient(io.RawIOBase):
    """Reads a connection until a moment that no trickle of bytes puts off."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._idle = False
        self._end_s = time.monotonic() + _REQUEST_S

    def next_request(self) -> None:
        """Another one may begin at leisure; from its first byte on, time runs."""
        self._idle = True
        self._end_s = time.monotonic() + _IDLE_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left_s)
        count = self._connection.recv_into(buffer)
        if self._idle:
            self._idle = False
            self._end_s = time.monotonic() + _REQUEST_S
        return count


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "thresher"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._patient = _Patient(self.connection)
        self.rfile = io.BufferedReader(self._patient, _BLOCK)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/0.9":  # an answer without a head is no answer on a connection that goes on
            self.send_error(505)
            return False
        return True

    def handle_expect_100(self) -> bool:
        return True  # said once it is clear that the body is wanted

    def do_POST(self) -> None:
        self.server.at_work(self.connection, working=False)
        path, _, query = self.path.partition("?")
        desk = self.server.desk
        what = desk.paths.get(path, "")
        try:
            size = self._size(what)
        except _RefusedError as refused:
            self._refuse(refused.answer)
            return
        request = Request(path, query, self.headers)
        answer = desk.refusal(request)
        if answer is not None:
            self._refuse(answer)
            return
        if not self.server.reserve(size):
            self._refuse(Answer(503, {"error": f"there is no room for a {what} now"}))
            return
        try:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            try:
                data = self.rfile.read(size)
            except TimeoutError:
                self._refuse(Answer(408, {"error": f"the {what} took too long"}))
                return
            if len(data) < size:
                self.close_connection = True
                return
            self.server.at_work(self.connection, working=True)
            answer = desk.receive(request, data)
        finally:
            self.server.free(size)
        self._answer(answer)
        self.server.at_work(self.connection, working=False, proven=answer.status in (200, 202))
        self._patient.next_request()

    def _size(self, what: str) -> int:
        """Of the body to come, in bytes. Raises `_RefusedError`."""
        if self.headers.get("Origin") is not None:
            raise _RefusedError(403, "web pages may post nothing here")
        if not what:
            raise _RefusedError(404, f"post to {' or '.join(self.server.desk.paths)}")
        sizes = self.headers.get_all("Content-Length") or []
        if not sizes or self.headers.get("Transfer-Encoding") is not None:
            raise _RefusedError(411, f"say how long the {what} is: Content-Length")
        if len(sizes) > 1 or not (sizes[0].isascii() and sizes[0].isdigit()) or len(sizes[0]) > 18:
            raise _RefusedError(400, "Content-Length is no number")
        size = int(sizes[0])
        if size > self.server.most_bytes:
            raise _RefusedError(413, f"the {what} is larger than {self.server.most_bytes} bytes")
        return size

    def do_GET(self) -> None:
        known = self.path.partition("?")[0] in self.server.desk.paths
        self._refuse(Answer(405, {"error": "POST it"}) if known else Answer(404, {"error": "nothing is here"}))

    do_PUT = do_GET

    def _refuse(self, answer: Answer) -> None:
        """The body was not read, so no other request can follow. Whoever is still sending it should get to read why."""
        self.close_connection = True
        self._answer(answer)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            end_s = time.monotonic() + _LINGER_S
            while (left_s := end_s - time.monotonic()) > 0:
                self.connection.settimeout(left_s)
                if not self.connection.recv(_BLOCK):
                    return

    def _answer(self, answer: Answer) -> None:
        body = json.dumps(answer.document).encode() + b"\n"
        self.connection.settimeout(_REQUEST_S)
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if answer.status == 405:
            self.send_header("Allow", "POST")
        if answer.status == 503:
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library itself refuses: not HTTP, endless lines, too many headers, unknown methods."""
        self.request_version = self.protocol_version  # it may not have come to that; an answer needs a head
        self._refuse(Answer(code, {"error": "this is no request that can be read"}))

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%s %s", self.client_address[0], redact(format % args))
