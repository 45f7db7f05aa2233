"""From the feed to everybody who listens, on the network loop.

Listeners pull: each has a place in the feed and nothing else, so that one who reads slowly costs no memory, and who
falls behind what is remembered is told of the gap. What is new is handed on at most every `TICK_S`, and listeners at
the same place with the same filter share the very bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.app.web.feed import Feed, Filter, as_json
from pipeline.core.secrets import redact

log = logging.getLogger(__name__)

TICK_S = 0.03
HEARTBEAT_S = 10.0
SNAPSHOT_S = 1.0
MOST = 200
"""How many may listen at the same time."""
_RECORDS, _BYTES = 500, 64 << 10  # of one piece
_SHARED = 64  # pieces of one tick that are kept for the others

Form: TypeAlias = Literal["sse", "messages", "batches"]
"""Server-sent events in one piece, a WebSocket's message for each record, or one for many."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is sent in one go, and the place behind it."""

    place: int
    parts: tuple[bytes, ...]


class Listener:
    """One connection's place in the feed."""

    def __init__(self, wants: Filter, form: Form, place: int, *, snapshots: bool, lost: str = "") -> None:
        """`lost`: what `after` named belongs to another run, and nobody knows how much is gone."""
        self.wants, self.form, self.place, self.snapshots = wants, form, place, snapshots
        self.lost = lost
        self.told_of = place
        """Behind its place, up to where it was told what is gone."""
        self.snapshot_seen = 0


class Full(Exception):
    """As many listen as may."""


class Broadcast:
    """Lives on the network loop; `close` alone may be called from anywhere."""

    def __init__(self, feed: Feed, snapshot: Callable[[], object]) -> None:
        """`snapshot` makes the document that all are told once a second; it is called in a thread, and only while
        somebody wants it."""
        self.feed = feed
        self._make_snapshot = snapshot
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[Listener] = set()
        self._news = asyncio.Event()
        self._horizon = 0
        self._ticked_s = 0.0
        self._due = False
        self._shared: dict[tuple[Form, Filter, int], Piece] = {}
        self._snapshots: asyncio.Task[None] | None = None
        self._snapshot = b""
        self._snapshot_number = 0
        self.closing = False
        self.closed = asyncio.Event()
        """The same, for who waits for it on the loop."""
        self.cut_off = 0
        """How many were, because they did not read."""

    @property
    def listening(self) -> int:
        return len(self._listeners)

    @contextmanager
    def listen(self, listener: Listener) -> Iterator[None]:
        """Raises `Full`."""
        if len(self._listeners) >= MOST:
            raise Full
        self._loop = asyncio.get_running_loop()
        self._listeners.add(listener)
        if len(self._listeners) == 1:
            self._horizon = self.feed.last
            self.feed.wakes(self._wake)
        if listener.snapshots and self._snapshots is None:
            listener.snapshot_seen = self._snapshot_number  # whatever that is, it is old
            self._snapshots = self._loop.create_task(self._keep_snapshots())
        try:
            yield
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self.feed.wakes(None)
                self._shared.clear()

    async def wait(self, listener: Listener) -> bool:
        """Until there is something for `listener`, or it is time for a heartbeat; whether there is something."""
        end_s = time.monotonic() + HEARTBEAT_S
        while not self.closing:
            if listener.lost or listener.place < self._horizon:
                return True
            if listener.snapshots and listener.snapshot_seen < self._snapshot_number:
                return True
            try:
                async with asyncio.timeout(end_s - time.monotonic()):
                    await self._news.wait()
            except TimeoutError:
                return False
        self._horizon = self.feed.last
        return listener.place < self._horizon

    def pull(self, listener: Listener) -> tuple[bytes, ...]:
        """What comes next for `listener`; nothing, where its filter lets nothing through."""
        parts: list[bytes] = []
        start = max(listener.place, listener.told_of)
        last, gone = self.feed.forgotten(start, listener.wants.kinds)
        if listener.lost or gone:
            document = {"gone": None if listener.lost else gone, "run": self.feed.run}
            parts.append(self._framed(listener.form, "gap", as_json(document), listener.place))
            listener.told_of, listener.lost = last, ""
        piece = self._piece(listener)
        listener.place = max(listener.place, piece.place)
        parts += piece.parts
        if listener.snapshots and listener.snapshot_seen < self._snapshot_number:
            listener.snapshot_seen = self._snapshot_number
            parts.append(self._framed(listener.form, "snapshot", self._snapshot, None))
        if listener.form == "sse":
            return (b"".join(parts),) if parts else ()
        return tuple(parts)

    def heartbeat(self, listener: Listener) -> bytes:
        """Says where `listener` is: what its filter held back is not to be looked through again."""
        if listener.form == "sse":
            return b"id: %s\n\n" % self._id(listener.place)
        return self._framed(listener.form, "heartbeat", b"null", listener.place)

    def close(self) -> None:
        """Listeners get what there is, and leave."""
        self.closing = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.closed.set()
        self._tick()

    # What is shared.

    def _piece(self, listener: Listener) -> Piece:
        key = (listener.form, listener.wants, listener.place)
        piece = self._shared.get(key)
        if piece is None:
            piece = self._make(listener.form, listener.wants, listener.place)
            if len(self._shared) >= _SHARED:
                del self._shared[next(iter(self._shared))]
            self._shared[key] = piece
        return piece

    def _make(self, form: Form, wants: Filter, place: int) -> Piece:
        horizon = self._horizon
        found = self.feed.between(place, horizon, wants.kinds, _RECORDS)
        if len(found) == _RECORDS:
            horizon = found[-1].number
        parts: list[bytes] = []
        size = 0
        for told in found:
            if not wants.passes(told):
                continue
            part = self._framed("messages" if form == "batches" else form, told.kind, told.text, told.number)
            parts.append(part)
            size += len(part)
            if size >= _BYTES:
                horizon = told.number
                break
        if form == "batches" and parts:
            parts = [b"[" + b",".join(parts) + b"]"]
        elif form == "sse" and parts:
            parts = [b"".join(parts)]
        return Piece(horizon, tuple(parts))

    def _framed(self, form: Form, kind: str, text: bytes, number: int | None) -> bytes:
        if form == "sse":
            place = b"" if number is None else b"id: %s\n" % self._id(number)
            return b"%sevent: %s\ndata: %s\n\n" % (place, kind.encode(), text)
        place = b"null" if number is None else b'"%s"' % self._id(number)
        message = b'{"id":%s,"kind":"%s","data":%s}' % (place, kind.encode(), text)
        return b"[%s]" % message if form == "batches" else message

    def _id(self, number: int) -> bytes:
        return f"{self.feed.run}-{number}".encode()

    # What is new.

    def _wake(self) -> None:
        """By the sink's thread: one call on the loop, however much comes until it is made."""
        if not self._due and self._loop is not None:
            self._due = True
            self._loop.call_soon_threadsafe(self._soon)

    def _soon(self) -> None:
        wait_s = self._ticked_s + TICK_S - time.monotonic()
        if wait_s <= 0 or self._loop is None:
            self._tick()
        else:
            self._loop.call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._due = False  # first: what is told from here on may not be seen below
        self._ticked_s = time.monotonic()
        self._horizon = self.feed.last
        self._shared.clear()
        self._news.set()
        self._news = asyncio.Event()

    async def _keep_snapshots(self) -> None:
        try:
            while not self.closing and any(one.snapshots for one in self._listeners):
                self._snapshot = as_json(await asyncio.to_thread(self._make_snapshot))
                self._snapshot_number += 1
                self._tick()
                await asyncio.sleep(SNAPSHOT_S)
        except Exception as error:  # noqa: BLE001 the feed goes on without it; the next listener has it tried again
            log.error("the feed has no snapshot: %s", redact(error))
        finally:
            self._snapshots = None


def place_of(feed: Feed, after: str | None) -> tuple[int, str]:
    """The place in the feed behind the id `after`, and the id itself where it is of another run: then it is the
    beginning. Without one, the end; `0` is the beginning. Raises `ValueError` where it is no id at all."""
    if after is None:
        return feed.last, ""
    if after == "0":
        return 0, ""
    run, dash, number = after.rpartition("-")
    if not (dash and run.isalnum() and run.isascii() and number.isascii() and number.isdecimal() and len(after) <= 40):
        raise ValueError("this is no id of the feed: give one as it came (like 3f9a1c20-17), or 0 for all there is")
    if run != feed.run or int(number) > feed.last:
        return 0, after
    return int(number), ""
