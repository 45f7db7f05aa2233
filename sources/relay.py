"""A passage between FFmpeg, which knows nothing of what may be reached, and a server that was checked.

FFmpeg connects to this machine, and this goes on to the address that was checked, over TLS where that is wanted. It
cannot be led elsewhere: a redirect ends the connection. What RTSP answers is read on the way, and written anew, so that
both sides see the same in it: FFmpeg would take as much memory as a `Content-Length` says, and send to whatever address
a `Transport` names.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any

from pipeline.core import reach
from pipeline.core.errors import SourceLost
from pipeline.core.secrets import redact
from sources.network_loop import on_the_network

_BLOCK = 1 << 16
_LONGEST_LINE = 4000  # FFmpeg cuts off longer ones
_MOST_LINES = 100
_LARGEST_BODY = 1 << 20  # a description of a stream takes a few KiB
_DOLLAR, _NEWLINE = 0x24, b"\n"
_STATUS = re.compile(rb"RTSP/\d\.\d +([1-9]\d\d)(?: +(.*))?")
_REQUEST = re.compile(rb"[A-Z_]{3,20} .{0,2000}RTSP/\d\.\d")
_FIELD = re.compile(rb"([A-Za-z0-9_-]{1,64})[ \t]*:[ \t]*(.*)")
_KEPT = frozenset({b"unicast", b"interleaved", b"client_port", b"server_port", b"port", b"ssrc", b"mode"})


class Relay:
    """Goes to `host` at `port`, over TLS where there is a context for it. Raises `SourceLost` where nobody is there, or
    it is out of reach. FFmpeg has to call at `port` here within `timeout_s`. It ends when either side leaves."""

    def __init__(
        self, host: str, port: int, timeout_s: float, *, rtsp: bool, tls: ssl.SSLContext | None = None
    ) -> None:
        self._host, self._far_port, self._timeout_s, self._tls = host, port, timeout_s, tls
        self._rtsp = rtsp
        self.refusal = ""
        """Why it ended the connection, if it did."""
        try:
            self.port = on_the_network(self._open(), timeout_s + 1)
        except (OSError, TimeoutError) as error:
            raise SourceLost(f"cannot connect: {_reason(error)}") from None

    async def _open(self) -> int:
        async with asyncio.timeout(self._timeout_s):
            line = await reach.open_socket(self._host, self._far_port, private=True)
            try:
                name = self._host if self._tls is not None else None
                self._far = await asyncio.open_connection(sock=line, ssl=self._tls, server_hostname=name, limit=_BLOCK)
            except BaseException:
                line.close()
                raise
        peer = line.getpeername()[0]
        self._words = Words(peer) if self._rtsp else None
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        listener.setblocking(False)
        _keep(self._serve(listener))
        return int(listener.getsockname()[1])

    async def _serve(self, listener: socket.socket) -> None:
        reader, writer = self._far
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    near, _ = await asyncio.get_running_loop().sock_accept(listener)
            finally:
                listener.close()  # one caller, and no other
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            near_reader, near_writer = await asyncio.open_connection(sock=near, limit=_BLOCK)
            try:
                there = _keep(_pass_on(near_reader, writer))
                back = _keep(self._hear(reader, near_writer))
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
            finally:
                near_writer.close()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if self._words is None:
                await _pass_on(reader, writer)
                return
            try:
                while block := await reader.read(_BLOCK):
                    for piece in self._words.feed(block):
                        writer.write(piece)
                    await writer.drain()
            except ValueError as error:
                self.refusal = str(error)
            await writer.drain()


_kept: set[asyncio.Task[None]] = set()  # a loop alone does not hold on to what it runs


def _keep(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(work)
    _kept.add(task)
    task.add_done_callback(_kept.discard)
    return task


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()


class Words:
    """What an RTSP server says, in whatever blocks it comes: media as they are, messages written anew. `feed` raises
    `ValueError` for what is not to be passed on."""

    def __init__(self, peer: str) -> None:
        self._peer = peer.encode()
        self._pending = b""
        self._media = 0  # bytes to come that are passed on as they are
        self._lines: list[bytes] = []

    def feed(self, block: bytes) -> Iterator[bytes]:
        data = self._pending + block if self._pending else block
        self._pending = b""
        at = begin = 0
        size = len(data)
        while at < size:
            if self._media:
                step = min(self._media, size - at)
                self._media -= step
                at += step
            elif data[at] == _DOLLAR and not self._lines:  # a packet of media: $, channel, length
                if size - at < 4:
                    break
                self._media = 4 + (data[at + 2] << 8 | data[at + 3])
            else:
                if at > begin:
                    yield data[begin:at]
                end = data.find(_NEWLINE, at)
                if end < 0:
                    begin = at
                    break
                head = self._line(data[at:end])
                at = begin = end + 1
                if head:
                    yield head
        if at > begin:
            yield data[begin:at]
        self._pending = data[at:]
        if len(self._pending) > _LONGEST_LINE:
            raise ValueError("the server sends a line without end")

    def _line(self, line: bytes) -> bytes:
        """Of a message's head; the whole head once it is complete."""
        line = line.replace(b"\r", b"").strip()
        if len(line) > _LONGEST_LINE or len(self._lines) >= _MOST_LINES:
            raise ValueError("the server's answer has an endless head")
        if line:
            if line[0] == _DOLLAR or b"\0" in line:
                raise ValueError("the server does not speak RTSP")
            self._lines.append(line)
            return b""
        if not self._lines:
            return b""
        (first, *rest), self._lines = self._lines, []
        return b"\r\n".join([self._first(first), *self._fields(rest), b"", b""])

    def _first(self, line: bytes) -> bytes:
        found = _STATUS.fullmatch(line)
        if found is None:
            if not _REQUEST.fullmatch(line):
                raise ValueError("the server does not speak RTSP")
            return line
        if found[1].startswith(b"3"):
            raise ValueError("the server redirects elsewhere, which is not followed: give the URL that it leads to")
        return b"RTSP/1.0 %b %b" % (found[1], found[2] or b"-")

    def _fields(self, lines: list[bytes]) -> Iterator[bytes]:
        length = None
        for line in lines:
            found = _FIELD.fullmatch(line)
            if found is None:
                continue  # FFmpeg would not heed it
            name, value = found[1].lower(), found[2]
            if name == b"content-length":
                if length is not None or not value.isdigit() or len(value) > 18:
                    raise ValueError("the server's answer has no length that can be read")
                length = int(value)
                if length > _LARGEST_BODY:
                    raise ValueError(f"the server's answer would take {length} bytes")
            elif name == b"transport":
                value = self._transport(value)
            elif name == b"location":
                continue
            yield b"%b: %b" % (found[1], value)
        self._media = length or 0

    def _transport(self, value: bytes) -> bytes:
        """What it says of ports and channels, and as the address the one that was checked."""
        how, *said = value.split(b",")[0].split(b";")
        kept = [one.strip() for one in said if one.split(b"=")[0].strip() in _KEPT]
        if any(one.startswith(b"server_port") for one in kept):
            kept.append(b"source=" + self._peer)
        return b";".join([how.strip(), *kept])


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({redact(error.verify_message)}); `verify: false` goes without"
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return redact(getattr(error, "strerror", None) or error)
