"""Messages over WebSockets: from clients that connect here, or from a server that this connects to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, model_validator

from pipeline.core import reach
from pipeline.core.contracts import Reader
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.records import Item, Watermark
from pipeline.core.secrets import redact, remember, remember_url
from pipeline.core.settings import Listen
from sources.conversation import Conversation, Talk
from sources.ffmpeg import new_epoch
from sources.mailbox import Mailbox
from sources.verdicts import Verdict

if TYPE_CHECKING:
    from sources.websocket_links import Arrived, Link

_TICK_S = 0.5
_MOST_MESSAGES = 256
_BUDGET_MS = 5000.0


class WebSocket(Conversation):
    """One message a frame, plain or as JSON, or several as a JSON array. Text and binary frames are the same.

    With `listen`, anybody who can reach it may connect and send, and with `verdicts` gets the outcome of each of their
    messages back, as sinks have it; a frame may then hold 256. Who sends faster than messages are taken in, or reads
    more slowly, has to wait; who does not read what comes back is put out; web pages (`Origin`) are refused. With
    `url`, this is the client: what a firehose sends faster than it can be judged is shed. Redirects are not followed.
    """

    live: ClassVar[bool] = True

    listen: Listen | None = Field(None, description="host:port to answer at; whoever can reach it can send")
    url: str | None = Field(None, repr=False, description="ws:// or wss:// of a server to read from")
    token: str | None = Field(
        None, repr=False, description="sent, or asked for, as `Authorization: Bearer …`; give it as ${VARIABLE}"
    )
    say: tuple[str, ...] = Field((), repr=False, description="with `url`: what to send once connected, to subscribe")
    verdicts: bool = Field(False, description="with `listen`: send clients the outcomes of their messages")
    connections: int = Field(1024, ge=1, le=65536, description="with `listen`: who may be connected at once")
    waiting: int = Field(1024, ge=1, le=65536, description="frames that may wait to be taken in")
    connect_s: PositiveFloat = Field(5.0, le=600, description="how long a handshake may take")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.listen is None) == (self.url is None):
            raise ValueError("give a `listen` address to be the server, or the `url` of one")
        if self.url is not None and self.verdicts:
            raise ValueError("`verdicts` go to clients: they need `listen`")
        if self.listen is not None and self.say:
            raise ValueError("`say` is said to a server: it needs `url`")
        if self.listen is not None and self.latency_budget_ms is None:
            object.__setattr__(self, "latency_budget_ms", _BUDGET_MS)
        return self

    def model_post_init(self, _context: object) -> None:
        self._remember()

    def _remember(self) -> None:
        if self.url is not None:
            remember_url(self.url)
        if self.token:
            remember(self.token)

    @property
    def paced(self) -> bool:
        return self.listen is None

    @property
    def answers_at(self) -> str | None:
        return self.listen

    def check(self) -> None:
        if self.url is not None:
            try:
                parts = urlsplit(self.url)
                sound = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and (parts.port or 1) > 0
            except ValueError:
                sound = False
            if not sound:
                raise InputError("should be a URL like wss://host/path", "url")
            try:
                reach.check(parts.hostname or "", private=True)
            except reach.OutOfReachError as error:
                raise InputError(redact(error), "url") from None
        _library()

    def open(self, stream: str) -> Reader:
        self._remember()  # again: this may be another process
        self.check()
        return WebSocketReader(self, stream)


def _library() -> None:
    try:
        import websockets  # noqa: F401
    except ImportError:
        raise MissingPart("needs the package websockets: pip install 'thresher[chat]'") from None


class WebSocketReader:
    """The running part of both. Frames are received on the network's loop and read here."""

    def __init__(self, plan: WebSocket, stream: str) -> None:
        from sources.websocket_links import Connected, Listening

        self.epoch = new_epoch()
        self._stream = stream
        self._talk = Talk(plan, stream, self.epoch)
        self._mailbox: Mailbox[Arrived] = Mailbox(plan.waiting)
        self._start_ns = time.monotonic_ns()
        self._closed = False
        self._link: Link = (Connected if plan.listen is None else Listening)(plan, self._mailbox)

    @property
    def port(self) -> int:
        return self._link.port

    def __iter__(self) -> Iterator[Item]:
        start_ns = self._start_ns
        while not self._closed:
            arrived = self._mailbox.take(_TICK_S)
            if not arrived:
                yield Watermark(self._stream, time.monotonic_ns() - start_ns)
            for one in arrived:
                yield from self._items(one)

    def _items(self, one: Arrived) -> Iterator[Item]:
        data, mono_ns, wall_ns, client = one
        moment = mono_ns, wall_ns, mono_ns - self._start_ns
        if data is None:
            yield self._talk.damaged()
            return
        if client is None:
            yield from self._talk.data(data, moment)
            return
        messages = self._talk.read(data)
        if messages is None:
            client.tell({"error": "it is no message that can be read: UTF-8 is needed, and not too much of it"})
            yield self._talk.damaged()
            return
        if not messages:
            client.tell({"error": "it says nothing"})
            return
        if len(messages) > _MOST_MESSAGES:
            client.tell({"error": f"at most {_MOST_MESSAGES} messages in one frame"})
            yield self._talk.damaged()
            return
        for said in messages:
            verdict = Verdict(client.tell)
            items = self._talk.said(said, moment, verdict)
            if items:
                verdict.expect(len(items))
                yield from items
            else:
                client.tell({"error": "it says nothing"})

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._mailbox.close()
            self._link.close()
