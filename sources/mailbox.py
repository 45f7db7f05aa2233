"""Between those who receive and the one who takes: a bounded queue across threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """`most` items wait at a time. Who brings one that finds no room is told so, and decides; `when_room` is called,
    from any thread, once there is some again, or never will be. Thread-safe."""

    def __init__(self, most: int, when_room: Callable[[], None] | None = None) -> None:
        self._most = most
        self.when_room = when_room
        self._refused = False
        self._changed = threading.Condition()
        self._items: list[T] = []
        self._error: Exception | None = None
        self.closed = False

    @property
    def has_room(self) -> bool:
        return not self.closed and len(self._items) < self._most

    def offer(self, items: Sequence[T]) -> bool:
        """Bring them all, if there is room for one of them; whether they were taken."""
        with self._changed:
            if not self.has_room:
                self._refused = True
                return False
            self._items += items
            self._changed.notify()
            return True

    def fail(self, error: Exception) -> None:
        """Nothing more will come: `take` raises `error` behind the last item."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()

    def take(self, most_s: float) -> list[T]:
        """All that waits, or nothing after `most_s` seconds."""
        with self._changed:
            if not self._items and self._error is None and not self.closed:
                self._changed.wait(most_s)
            if not self._items and self._error is not None:
                raise self._error
            items, self._items = self._items, []
            self._invite()
            return items

    def close(self) -> int:
        """Nothing more comes in. How many are left that nobody will take."""
        with self._changed:
            self.closed = True
            left = len(self._items)
            self._items = []
            self._changed.notify_all()
            self._invite()
            return left

    def _invite(self) -> None:
        if self._refused and self.when_room is not None:
            self.when_room()
        self._refused = False
