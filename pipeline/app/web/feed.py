"""What the sinks are told, as documents with numbers: a bounded memory to resume from, and whoever listens.

Written by the thread of one sink, read by connections on the network loop.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import PrivateAttr

from pipeline.core.contracts import Delivery, Sink, Writer
from pipeline.core.outages import Outage, outage_document
from pipeline.core.records import Audit, Event, Outcome, audit_document, event_document, outcome_document
from pipeline.core.rulings import Ruling, ruling_document

Kind: TypeAlias = Literal["result", "event", "audit", "ruling", "outage"]
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Told:
    """One document. `number` counts from 1 and never goes back while the program runs; `text` is its JSON, made once
    for all who listen."""

    number: int
    kind: Kind
    stream: str
    text: bytes


class Feed:
    """Thread-safe. Of what was told the last `kept` are remembered."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._lock = threading.Lock()
        self._told: deque[Told] = deque(maxlen=kept)
        self._number = 0
        self._listeners: set[Callable[[], None]] = set()

    def tell(self, items: Sequence[Delivery]) -> None:
        said = [one for one in map(_documented, items) if one is not None]
        with self._lock:
            for kind, stream, text in said:
                self._number += 1
                self._told.append(Told(self._number, kind, stream, text))
            listeners = list(self._listeners)
        for wake in listeners:
            wake()

    def since(self, number: int) -> tuple[list[Told], int]:
        """All after `number` that is still remembered, and how many after it are not."""
        with self._lock:
            first = self._told[0].number if self._told else self._number + 1
            start = max(0, number + 1 - first)
            told = [self._told[index] for index in range(start, len(self._told))]
            return told, max(0, first - 1 - number)

    @property
    def last(self) -> int:
        with self._lock:
            return self._number

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """`wake` is called, in the sink's thread, when there is something new; what is returned ends that."""
        with self._lock:
            self._listeners.add(wake)

        def leave() -> None:
            with self._lock:
                self._listeners.discard(wake)

        return leave


def _documented(item: Delivery) -> tuple[Kind, str, bytes] | None:
    if isinstance(item, Outcome):
        return "result", item.window.stream, _json(outcome_document(item))
    if isinstance(item, Event):
        return "event", item.stream, _json(event_document(item))
    if isinstance(item, Audit):
        return "audit", item.window.stream, _json(audit_document(item))
    if isinstance(item, Ruling):
        return "ruling", item.show, _json(ruling_document(item))
    if isinstance(item, Outage):
        return "outage", item.stream, _json(outage_document(item))
    return None


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


class FeedSink(Sink):
    """The sink behind a `Feed`: made by the program itself, never by a config."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "audits", "rulings", "outages"})
    _feed: Feed = PrivateAttr()

    @classmethod
    def into(cls, feed: Feed) -> Self:
        sink = cls()
        sink._feed = feed
        return sink

    def open(self) -> Writer:
        return _Writer(self._feed)


class _Writer:
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def write(self, items: Sequence[Delivery]) -> None:
        self._feed.tell(items)

    def close(self) -> None:
        pass
