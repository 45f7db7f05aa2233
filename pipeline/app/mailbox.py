"""From the thread of a sink to whoever reads, in a loop or on an event loop: bounded, and the sink waits while it is
full. Then its backlog fills, and the engine does what it does for any slow sink: what can wait waits, of what cannot
the oldest goes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pipeline.app.own_sinks import OwnSink
from pipeline.core.contracts import Delivery

T = TypeVar("T")
_ROOM = 64


class Mailbox(Generic[T]):
    """`pick` makes of what a sink is handed what is put in here; of None, nothing. One reads, and one writes."""

    def __init__(self, pick: Callable[[Delivery], T | None], room: int = _ROOM) -> None:
        self.pick = pick
        self._room = room
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._over = False
        self._left = False
        self._wake: Callable[[], None] | None = None

    # Who writes.

    def put(self, item: T) -> None:
        """Waits for room, or until nobody reads any more."""
        with self._changed:
            while len(self._items) >= self._room and not self._left:
                self._changed.wait()
            if self._left:
                return
            self._items.append(item)
            self._tell()

    def end(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._over = True
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    # Who reads.

    def take(self) -> list[T]:
        """What is there, waited for; empty at the end."""
        with self._changed:
            while not self._items and not self._over and not self._left:
                self._changed.wait()
            return self._taken()

    async def arrived(self) -> list[T]:
        """The same on an event loop."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody reads
                loop.call_soon_threadsafe(news.set)

        with self._changed:
            self._wake = wake
        try:
            while True:
                with self._changed:
                    if self._items or self._over or self._left:
                        return self._taken()
                    news.clear()
                await news.wait()
        finally:
            with self._changed:
                self._wake = None

    def _taken(self) -> list[T]:
        items = [self._items.popleft()] if self._items else []
        self._changed.notify_all()
        return items

    def leave(self) -> None:
        """Nobody reads any more: whatever comes is let go."""
        with self._changed:
            self._left = True
            self._items.clear()
            self._tell()


class Boxes:
    """Of all who read. Thread-safe."""

    def __init__(self) -> None:
        self._boxes: tuple[Mailbox[Any], ...] = ()
        self._over = False
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Mailbox[Any]]:
        return iter(self._boxes)

    def add(self, box: Mailbox[Any]) -> None:
        with self._lock:
            self._boxes = (*self._boxes, box)
            if self._over:
                box.end()

    def remove(self, box: Mailbox[Any]) -> None:
        with self._lock:
            self._boxes = tuple(one for one in self._boxes if one is not box)

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            for box in self._boxes:
                made = box.pick(item)
                if made is not None:
                    box.put(made)

    def close(self) -> None:
        with self._lock:
            self._over = True
            for box in self._boxes:
                box.end()


class Mail(OwnSink):
    """The sink that puts what it takes into the boxes of all who want it."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events"})
    backlog: ClassVar[int] = 256


class PictureMail(Mail):
    """With the pictures, which are the decoder's own, and it has few."""

    takes: ClassVar[frozenset[str]] = frozenset({"pictures", "events"})
    backlog: ClassVar[int] = 8
