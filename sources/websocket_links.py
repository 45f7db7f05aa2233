"""Both ends of a WebSocket, on the network's loop: what they receive goes into a mailbox, bounded all the way.

A full mailbox makes senders wait, each for its turn, by TCP's own means. What clients are told waits in a line each;
while that is long nothing more is received of them, and who takes nothing of it for a while is put out.
"""

from __future__ import annotations

import asyncio
import hmac
import http
import json
import logging
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from pipeline.core import reach
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Outcome
from pipeline.core.secrets import redact
from pipeline.core.settings import address
from sources.mailbox import Mailbox
from sources.network_loop import network_loop, on_the_network
from sources.verdicts import joined

if TYPE_CHECKING:
    from sources.websocket import WebSocket

log = logging.getLogger(__name__)
_library = logging.getLogger("sources.websocket.library")  # it logs every handshake that fails, with its trace
_library.setLevel(logging.CRITICAL)

_FRAMES = 4  # that wait at a connection
_MOST_UNTOLD = 1024  # answers that wait at one before it has to wait, too
_DEAF_S = 10.0  # for so long nothing could be sent to one
_UNSENT = 1 << 16  # bytes of answers that the system holds for one
_AT_ONCE = struct.pack("ii", 1, 0)
_PING_S = 20.0
_CLOSE_S = 2.0

Told: TypeAlias = Mapping[str, Any] | Sequence[Outcome]


class Link(Protocol):
    port: int

    def close(self) -> None: ...


class Guest:
    """A client that is told what becomes of its messages."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._heard = asyncio.Event()
        self._untold: deque[Told] = deque()
        self._woken = self._gone = False

    def tell(self, said: Told) -> None:
        """From any thread; returns at once and raises nothing."""
        if self._gone:
            return
        self._untold.append(said)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._news.set)

    async def send(self) -> None:
        """Until it is gone."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                self._woken = False
                while self._untold:
                    said = self._untold.popleft()
                    async with asyncio.timeout(_DEAF_S):
                        await self._connection.send(json.dumps(said if isinstance(said, Mapping) else joined(said)))
                    self._heard.set()
        except ConnectionClosed:
            pass
        except TimeoutError:
            log.warning("a client did not read what it was told, and was put out")
            self._put_out()
        finally:
            self.leave()

    def _put_out(self) -> None:
        """At once: the system would keep what it did not take, and try for minutes."""
        transport = self._connection.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        transport.abort()

    async def keeps_up(self) -> None:
        """Wait until little is left to tell it, or it is gone."""
        while len(self._untold) >= _MOST_UNTOLD:
            self._heard.clear()
            await self._heard.wait()

    def leave(self) -> None:
        self._gone = True
        self._untold.clear()
        self._heard.set()


Arrived: TypeAlias = tuple[bytes | None, int, int, Guest | None]
"""A frame (None: it was too large), `mono_ns` and `wall_ns` of its arrival, and whom to tell what becomes of it."""


class Door:
    """Where frames wait for room in the mailbox, in the order in which they came."""

    def __init__(self, mailbox: Mailbox[Arrived]) -> None:
        self.mailbox = mailbox
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._loop = network_loop()
        mailbox.when_room = self._invite

    async def receive(self, connection: Connection, guest: Guest | None = None) -> None:
        """Until the connection ends."""
        try:
            while not self.mailbox.closed:
                if guest is not None:
                    await guest.keeps_up()
                # bytes, also of text: whether they are UTF-8 is not to cost a client its connection
                data = await connection.recv(decode=False)
                await self._bring((data, time.monotonic_ns(), time.time_ns(), guest))
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                await self._bring((None, time.monotonic_ns(), time.time_ns(), None))

    def _invite(self) -> None:
        self._loop.call_soon_threadsafe(self._room.set)

    async def _bring(self, one: Arrived) -> None:
        async with self._turn:
            while not self.mailbox.closed:
                self._room.clear()  # before it is asked: what becomes free from now on is told
                if self.mailbox.offer((one,)):
                    return
                await self._room.wait()


class Listening:
    """The server. Raises `InputError` where it cannot listen."""

    def __init__(self, plan: WebSocket, mailbox: Mailbox[Arrived]) -> None:
        assert plan.listen is not None
        self._plan = plan
        self._door = Door(mailbox)
        self._guests = 0
        host, port = address(plan.listen)
        try:
            self._server = on_the_network(self._open(host, port), plan.connect_s)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "this is no address"
            raise InputError(f"cannot listen on {host}:{port}: {reason}", "listen") from error
        self.port: int = next(iter(self._server.sockets)).getsockname()[1]
        log.info("connect to ws://%s:%d", host, self.port)

    async def _open(self, host: str, port: int) -> Server:
        most = 2 * self._plan.connections

        class Bounded(ServerConnection):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                line = transport.get_extra_info("socket")
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT)  # else megabytes wait for who is deaf
                if len(self.server.all_connections) > most:  # those that have not said yet what they want among them
                    self.transport.abort()

        return await serve(
            self._handle,
            host,
            port,
            compression=None,  # a few bytes must not become many
            process_request=self._refusal,
            server_header=None,
            open_timeout=self._plan.connect_s,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            close_timeout=_CLOSE_S,
            max_size=self._plan.largest_bytes,
            max_queue=_FRAMES,
            logger=_library,
            create_connection=Bounded,
        )

    def _refusal(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Origin" in request.headers:
            return connection.respond(http.HTTPStatus.FORBIDDEN, "web pages may not connect here\n")
        if self._plan.token is not None:
            said = request.headers.get_all("Authorization")
            asked = f"Bearer {self._plan.token}".encode()
            if len(said) != 1 or not hmac.compare_digest(said[0].encode("utf-8", "replace"), asked):
                return connection.respond(http.HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer …\n")
        if self._guests >= self._plan.connections:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "there is no room for a client now\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        self._guests += 1
        guest = sender = None
        if self._plan.verdicts:
            guest = Guest(connection)
            sender = asyncio.create_task(guest.send())
        try:
            await self._door.receive(connection, guest)
        finally:
            self._guests -= 1
            if guest is not None and sender is not None:
                guest.leave()
                sender.cancel()

    def close(self) -> None:
        async def closed() -> None:
            self._server.close()
            await self._server.wait_closed()

        with suppress(TimeoutError):
            on_the_network(closed(), _CLOSE_S + 1)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """None is followed: whoever answers there might lead a token elsewhere."""
        return exc


class Connected:
    """The client. Raises `SourceLost` where nobody answers."""

    port = 0

    def __init__(self, plan: WebSocket, mailbox: Mailbox[Arrived]) -> None:
        self._plan = plan
        self._mailbox = mailbox
        try:
            self._connection = on_the_network(self._open(), 2 * plan.connect_s)
        except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError, ValueError) as error:
            raise SourceLost(f"cannot connect: {_reason(error)}") from None
        self._task = asyncio.run_coroutine_threadsafe(self._run(), network_loop())

    async def _open(self) -> ClientConnection:
        plan = self._plan
        assert plan.url is not None
        there = urlsplit(plan.url)
        async with asyncio.timeout(plan.connect_s):
            port = there.port or (443 if there.scheme == "wss" else 80)
            line = await reach.open_socket(there.hostname or "", port, private=True)
        connection = await _Connect(
            plan.url,
            sock=line,
            additional_headers=None if plan.token is None else {"Authorization": f"Bearer {plan.token}"},
            compression=None,
            proxy=None,
            user_agent_header=None,
            open_timeout=plan.connect_s,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            close_timeout=_CLOSE_S,
            max_size=plan.largest_bytes,
            max_queue=64,
            logger=_library,
        )
        for word in plan.say:
            await connection.send(word)
        return connection

    async def _run(self) -> None:
        try:
            await Door(self._mailbox).receive(self._connection)
        finally:
            self._mailbox.fail(SourceLost(_ending(self._connection)))

    def close(self) -> None:
        with suppress(TimeoutError):
            on_the_network(self._connection.close(), _CLOSE_S + 1)


def _ending(connection: Connection) -> str:
    code, reason = connection.close_code, redact(connection.close_reason or "")[:200]
    return f"the connection ended ({code}{': ' + reason if reason else ''})"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return redact(getattr(error, "strerror", None) or error)
