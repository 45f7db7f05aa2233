"""How many events a stream may tell of: none is dropped in silence."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from pipeline.core.records import Event

log = logging.getLogger(__name__)

_MINUTE_NS = 60_000_000_000


class EventLimit:
    """Lets `most` events of a label open in any minute of media time. One that finds no room waits, and opens with its
    first word after there is some; one that ends before that is held back: counted, and told with the next that opens.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._opened: dict[str, deque[int]] = {}  # by label: media times
        self._waiting: dict[str, str] = {}  # by id: the label it would have opened under
        self.held: Counter[str] = Counter()
        """Held back and not told yet, by label."""
        self._now_ns = 0

    def let(self, events: Iterable[Event]) -> Iterator[Event]:
        if self._most is None:
            yield from events
            return
        for event in events:
            if (told := self._one(event)) is not None:
                yield told

    def _one(self, event: Event) -> Event | None:
        self._now_ns = max(self._now_ns, event.end_ns)
        if event.kind == "end" and event.id in self._waiting:
            self.held[self._waiting.pop(event.id)] += 1
            return None
        if event.kind != "new" and event.id not in self._waiting:
            return event
        label = self._waiting.get(event.id, event.label)
        opened = self._opened.setdefault(label, deque())
        while opened and opened[0] <= self._now_ns - _MINUTE_NS:
            opened.popleft()
        if self._most is not None and len(opened) >= self._most:
            self._waiting[event.id] = label
            return None
        self._waiting.pop(event.id, None)
        opened.append(self._now_ns)
        return replace(event, kind="new", held_back=self.held.pop(label, 0))

    def reconnected(self) -> None:
        """Media time begins anew. What was told a moment ago stays a moment ago, so that a camera that comes and goes
        does not get a fresh minute each time."""
        self._opened = {label: deque(at - self._now_ns for at in times) for label, times in self._opened.items()}
        self._now_ns = 0

    def say_rest(self, stream: str) -> None:
        """The stream is over for now: what no event has told of is said in the log."""
        for label, count in self.held.items():
            log.warning(
                "%s: %d events of %s were held back by most_per_minute; the next one will say so", stream, count, label
            )

    def state(self) -> dict[str, Any]:
        return {
            "opened": {label: list(times) for label, times in self._opened.items()},
            "waiting": dict(self._waiting),
            "held": dict(self.held),
            "now_ns": self._now_ns,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._opened = {label: deque(times) for label, times in state["opened"].items()}
        self._waiting, self.held = dict(state["waiting"]), Counter(state["held"])
        self._now_ns = state["now_ns"]
