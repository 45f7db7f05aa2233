"""Chat rooms on IRC, Twitch's among them."""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, ClassVar, Self

from pydantic import Field, PositiveFloat, StringConstraints, model_validator

from pipeline.core import reach
from pipeline.core.contracts import Reader
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Item, Watermark
from pipeline.core.secrets import redact, remember
from sources.conversation import Conversation, Moment, Talk
from sources.ffmpeg import new_epoch
from sources.irc_lines import Line, parse_line, said_by
from sources.line_splitter import LineSplitter

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_LONGEST_LINE = 16384  # tags and message
_TICK_S = 0.5
_PING_S = 60.0
_TWITCH = "twitch.tv"
_REFUSALS = ("login authentication failed", "improperly formatted auth", "login unsuccessful")  # Twitch's own words
_MOST_NICKS = 4
_FULL = "471"
_NOT_JOINED = {"403", "405", _FULL, "473", "474", "475", "476", "477"}  # no such one, full, invited only, banned, …

Word = Annotated[str, StringConstraints(pattern=r"^[^\s\x00:,][^\s\x00,]*$", max_length=200)]


class Irc(Conversation):
    """What is said in the channels of an IRC server, each a room; private messages and notices are not read.

    On Twitch (irc.chat.twitch.tv, port 6697, `tls: true`) no nick or password is needed to read; names and times come
    from its tags. A message that is no UTF-8 is damaged. Nothing is ever said by this program.
    """

    live: ClassVar[bool] = True

    server: str = Field(min_length=1, max_length=253, pattern=r"^[^\s/@]+$", description="host name")
    port: int | None = Field(None, ge=1, le=65535, description="default: 6697 with TLS, else 6667")
    tls: bool = Field(True, description="encrypted, with the server's certificate checked")
    channels: tuple[Word, ...] = Field(min_length=1, max_length=100, description="rooms to join, like #chat")
    nick: Word | None = Field(None, description="default: a guest's name")
    password: str | None = Field(None, repr=False, description="of the server; give it as ${VARIABLE}")
    connect_s: PositiveFloat = Field(10.0, le=600, description="how long connecting, and logging in, may take")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.password is not None:
            if any(sign in self.password for sign in "\r\n\0"):
                raise ValueError("the password holds an end of line")
            if not self.tls and self.server not in {"localhost", "127.0.0.1", "::1"}:
                raise ValueError("a password is sent with `tls: true` only")
        return self

    def model_post_init(self, _context: object) -> None:
        self._remember()

    def _remember(self) -> None:
        if self.password:
            remember(self.password)

    def check(self) -> None:
        try:
            reach.check(self.server, private=True)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "server") from None

    def open(self, stream: str) -> Reader:
        self._remember()  # again: this may be another process
        return IrcReader(self, stream)


class IrcReader:
    """The running part: one socket, read by whoever iterates."""

    def __init__(self, plan: Irc, stream: str) -> None:
        self.epoch = new_epoch()
        self._plan = plan
        self._stream = stream
        self._talk = Talk(plan.model_copy(update={"format": "plain"}), stream, self.epoch)
        self._splitter = LineSplitter(_LONGEST_LINE)
        self._start_ns = time.monotonic_ns()
        self._joined = self._closed = False
        self._nicks = 0
        self._refused: dict[str, str] = {}
        self._socket = _connected(plan)
        try:
            self._log_in()
        except BaseException:
            self._socket.close()
            raise

    def _log_in(self) -> None:
        plan = self._plan
        twitch = plan.server.lower().endswith(_TWITCH)
        self._send("CAP REQ :twitch.tv/tags" if twitch else "CAP REQ :server-time", "CAP END")
        if plan.password is not None:
            self._send(f"PASS {plan.password}")
        guest = f"justinfan{random.randrange(10000, 99999)}" if twitch else f"thresher{random.randrange(1000, 9999)}"
        self._nick = plan.nick or guest
        self._send(f"NICK {self._nick}", f"USER {self._nick} 0 * :{self._nick}")

    def _send(self, *lines: str) -> None:
        """Raises `SourceLost` also where the server does not read."""
        try:
            self._socket.settimeout(self._plan.connect_s)
            self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())
        except OSError as error:
            raise SourceLost(_reason(error)) from None

    def __iter__(self) -> Iterator[Item]:
        heard_s = began_s = time.monotonic()
        asked = False
        while not self._closed:
            block = self._receive()
            now_s = time.monotonic()
            if block is None:
                if not self._joined and now_s - began_s > self._plan.connect_s:
                    raise SourceLost("the server did not let us in in time")
                if now_s - heard_s > 2 * _PING_S:
                    raise SourceLost("the server does not answer any more")
                if now_s - heard_s > _PING_S and not asked:
                    asked = True
                    self._send("PING :thresher")
                yield Watermark(self._stream, time.monotonic_ns() - self._start_ns)
                continue
            heard_s, asked = now_s, False
            yield from self._items(block)

    def _receive(self) -> bytes | None:
        try:
            self._socket.settimeout(_TICK_S)
            block = self._socket.recv(_BLOCK)
        except TimeoutError:
            return None
        except OSError as error:
            raise SourceLost(_reason(error)) from None
        if not block:
            raise SourceLost("the server closed the connection")
        return block

    def _items(self, block: bytes) -> Iterator[Item]:
        mono_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        moment = mono_ns, wall_ns, mono_ns - self._start_ns
        whole, too_long = self._splitter.feed(block)
        for data in whole.split(b"\n"):
            yield from self._line(data, moment)
        if too_long:
            yield from self._line(self._splitter.lost, moment, whole=False)

    def _line(self, data: bytes, moment: Moment, *, whole: bool = True) -> list[Item]:
        """Whatever the server says otherwise is no message, and none is damaged where that is too long or no UTF-8."""
        whole = whole and len(data) <= _LONGEST_LINE
        try:
            line = parse_line(data[:_LONGEST_LINE].decode())
        except UnicodeDecodeError:
            line, whole = parse_line(data[:_LONGEST_LINE].decode("utf-8", "replace")), False
        if line is None:
            return []
        if line.command != "PRIVMSG":
            if whole:
                self._heed(line)
            return []
        said = said_by(line)
        if said is None:
            return []
        return self._talk.said(said, moment) if whole else [self._talk.damaged()]

    def _heed(self, line: Line) -> None:
        """What the server wants of us, or tells us. Raises `SourceLost`, and `InputError` where it never lets us in."""
        command, words = line.command, line.words
        text = words[-1] if words else ""
        if command == "PING":
            self._send(f"PONG :{text}")
        elif command == "001":
            self._joined = True
            for channel in self._plan.channels:
                self._send(f"JOIN {_channel(channel)}")
        elif command in {"432", "433", "436"} and not self._joined:
            self._nicks += 1
            if self._nicks >= _MOST_NICKS:
                raise SourceLost("every nick like ours is taken")
            self._nick = f"{self._nick[:20]}{random.randrange(100)}"
            self._send(f"NICK {self._nick}")
        elif command == "464" or (command == "NOTICE" and not self._joined and text.lower().startswith(_REFUSALS)):
            raise InputError("the server refuses the password", "password")
        elif command in _NOT_JOINED and len(words) > 2:
            self._shut_out(words[1], text, command)
        elif command == "RECONNECT":
            raise SourceLost("the server asks us to connect again")
        elif command == "ERROR":
            raise SourceLost(f"the server closed the connection: {redact(text)[:200]}")

    def _shut_out(self, channel: str, why: str, command: str) -> None:
        """One channel is not to be had. The others are still worth reading; where there is none left, raises
        `SourceLost` if that may pass, else `InputError`."""
        word = f"the server does not let us into {redact(channel)[:200]}: {redact(why)[:200]}"
        self._refused[_channel(channel).lower()] = command
        if self._refused.keys() >= {_channel(name).lower() for name in self._plan.channels}:
            if _FULL in self._refused.values():
                raise SourceLost(word)
            raise InputError(word, "channels")
        log.warning("%s: %s", self._stream, word)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with suppress(OSError):
                self._socket.settimeout(0)
                self._socket.send(b"QUIT\r\n")
            self._socket.close()


def _channel(name: str) -> str:
    return name if name[0] in "#&+!" else f"#{name}"


def _connected(plan: Irc) -> socket.socket:
    """Raises `SourceLost`."""
    port = plan.port or (6697 if plan.tls else 6667)
    try:
        connection = reach.create_connection((plan.server, port), plan.connect_s, private=True)
    except (OSError, UnicodeError) as error:
        raise SourceLost(f"cannot connect: {_reason(error)}") from None
    if not plan.tls:
        return connection
    try:
        return ssl.create_default_context().wrap_socket(connection, server_hostname=plan.server)
    except (OSError, ValueError) as error:
        connection.close()
        raise SourceLost(f"cannot connect: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return redact(getattr(error, "strerror", None) or error)
