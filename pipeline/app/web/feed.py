"""What the sinks are told, with numbers: a bounded memory to resume from.

Written by the thread of one sink, read on the network loop (`broadcast.py`). Records are kept as they are; their JSON
is made when the first listener asks for it, once for all. Results have a memory of their own, so that a flood of them
washes no event away.
"""

from __future__ import annotations

import heapq
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, Literal, TypeAlias, get_args

from pipeline.app.own_sinks import OwnSink
from pipeline.core.contracts import Delivery
from pipeline.core.outages import Outage, outage_document
from pipeline.core.records import Audit, Event, Outcome, Result, audit_document, event_document, outcome_document
from pipeline.core.rulings import Ruling, ruling_document

Kind: TypeAlias = Literal["result", "event", "audit", "ruling", "outage"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Record: TypeAlias = Outcome | Event | Audit | Ruling | Outage
_RESULTS, _OTHERS = 10_000, 5_000


class Told:
    """One record and its number, which counts from 1 and never goes back while the program runs."""

    __slots__ = ("_text", "kind", "number", "record")

    def __init__(self, number: int, kind: Kind, record: Record) -> None:
        self.number, self.kind, self.record = number, kind, record
        self._text: bytes | None = None

    @property
    def text(self) -> bytes:
        """Its document as JSON on one line."""
        if self._text is None:
            self._text = as_json(_document(self.record))
        return self._text


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listener wants. Empty sets: any. `labels` lets through what tells of one of them, so no outage;
    `flagged` speaks of results alone."""

    kinds: frozenset[str] = frozenset(KINDS)
    streams: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    flagged: bool | None = None

    def passes(self, told: Told) -> bool:
        if told.kind not in self.kinds:
            return False
        record = told.record
        if isinstance(record, Outcome) and self.flagged is not None and _flagged(record) != self.flagged:
            return False
        if self.streams and self.streams.isdisjoint(_streams(record)):
            return False
        return not self.labels or not self.labels.isdisjoint(_labels(record))


class Feed:
    """Thread-safe. Of what was told, the last 10,000 results and the last 5,000 of all else are remembered."""

    def __init__(self, results: int = _RESULTS, others: int = _OTHERS) -> None:
        self.run = secrets.token_hex(4)
        """Tells this program's numbers from those of the run before it."""
        self._lock = threading.Lock()
        self._results: deque[Told] = deque(maxlen=results)
        self._others: deque[Told] = deque(maxlen=others)
        self._forgot_result = self._forgot_other = 0  # the number of the last that is no longer remembered
        self._number = 0
        self._wake: Callable[[], None] | None = None

    def write(self, items: Sequence[Delivery]) -> None:
        known = [item for item in items if isinstance(item, (Outcome, Event, Audit, Ruling, Outage))]
        with self._lock:
            for record in known:
                self._number += 1
                self._keep(Told(self._number, kind_of(record), record))
            wake = self._wake
        if wake is not None and known:
            wake()

    def close(self) -> None:
        """What it remembers stays."""

    def _keep(self, told: Told) -> None:
        if told.kind == "result":
            if len(self._results) == self._results.maxlen:
                self._forgot_result = self._results[0].number
            self._results.append(told)
        else:
            if len(self._others) == self._others.maxlen:
                self._forgot_other = self._others[0].number
            self._others.append(told)

    def between(self, after: int, last: int, kinds: Iterable[str], most: int) -> list[Told]:
        """The first `most` of what is remembered of these kinds, with numbers in `(after, last]`, in order."""
        kinds = frozenset(kinds)
        with self._lock:
            results = _behind(self._results, after) if "result" in kinds else []
            others = _behind(self._others, after) if kinds - {"result"} else []
        merged = heapq.merge(results, others, key=attrgetter("number")) if results and others else results or others
        found: list[Told] = []
        for told in merged:
            if told.number > last or len(found) == most:
                break
            if told.kind in kinds:
                found.append(told)
        return found

    def forgotten(self, after: int, kinds: Iterable[str]) -> tuple[int, int]:
        """Behind `after`, the number of the last record of these kinds that is no longer remembered, and how many are
        not: that many at most, where not all kinds are asked for. `(after, 0)` where all of them are."""
        kinds = frozenset(kinds)
        with self._lock:
            last = max(self._forgot_result if "result" in kinds else 0, self._forgot_other if kinds - {"result"} else 0)
            if last <= after:
                return after, 0
            kept = sum(_within(ring, after, last) for ring in (self._results, self._others))
        return last, last - after - kept

    @property
    def last(self) -> int:
        with self._lock:
            return self._number

    def wakes(self, wake: Callable[[], None] | None) -> None:
        """`wake` is called, by whoever tells something, when there is something new."""
        with self._lock:
            self._wake = wake


def _behind(ring: deque[Told], after: int) -> list[Told]:
    """As a rule there is little behind `after`: look from the end."""
    found: list[Told] = []
    for told in reversed(ring):
        if told.number <= after:
            break
        found.append(told)
    found.reverse()
    return found


def _within(ring: deque[Told], after: int, last: int) -> int:
    """How many lie in `(after, last]`: they are at the beginning."""
    count = 0
    for told in ring:
        if told.number > last:
            break
        count += told.number > after
    return count


def kind_of(record: Record) -> Kind:
    if isinstance(record, Outcome):
        return "result"
    if isinstance(record, Event):
        return "event"
    if isinstance(record, Audit):
        return "audit"
    return "ruling" if isinstance(record, Ruling) else "outage"


def _document(record: Record) -> object:
    if isinstance(record, Outcome):
        return outcome_document(record)
    if isinstance(record, Event):
        return event_document(record)
    if isinstance(record, Audit):
        return audit_document(record)
    return ruling_document(record) if isinstance(record, Ruling) else outage_document(record)


def _flagged(outcome: Outcome) -> bool:
    return isinstance(outcome, Result) and outcome.flagged


def _streams(record: Record) -> tuple[str, ...]:
    """Of a ruling its targets, and those that its evidence comes from."""
    if isinstance(record, (Outcome, Audit)):
        return (record.window.stream,)
    if isinstance(record, Ruling):
        return (*record.targets, *(one.stream for one in record.evidence))
    return (record.stream,)


def _labels(record: Record) -> tuple[str, ...]:
    if isinstance(record, (Result, Audit)):
        return tuple(one.label for one in record.detections)
    if isinstance(record, Event):
        return (record.label,)
    return tuple(one.label for one in record.evidence) if isinstance(record, Ruling) else ()


def as_json(document: object) -> bytes:
    """On one line, in UTF-8. What UTF-8 cannot hold (half a character in a file's name) is written as an escape."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


class FeedSink(OwnSink):
    """The sink that writes into a `Feed`."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "audits", "rulings", "outages"})
