"""Questions to the database of the `sqlite` sink, while that writes it: newest first, a page at a time.

A connection a question, opened read-only and closed again: while one is open, the sink's log is not written back into
its file. Few questions at a time, and each has an end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from anyio import CapacityLimiter, to_thread

from pipeline.app.web import rows
from sinks import sqlite_schema as schema

Found: TypeAlias = dict[str, Any]
T = TypeVar("T")

_AT_ONCE = 4
_LONGEST_S = 3.0
_WAIT_S = 2.0
_LOOK = 20_000  # instructions of SQLite's machine between two looks at the clock: a few milliseconds
_FEW = 5_000
"""Of a label that is rarer than this all windows are fetched; of others the newest windows are looked through."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_BIGGEST = 1 << 63


def stored_time(when: datetime) -> str:
    """As the store writes times: ISO 8601 in UTC, to the microsecond. Raises `OverflowError`."""
    return when.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


class StoreBusy(Exception):
    """It cannot be answered now, or not within the time that a question has; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ResultQuery:
    """None: any. Times as the store writes them, `to` exclusive."""

    stream: str | None = None
    label: str | None = None
    since: str | None = None
    to: str | None = None
    outcome: Literal["result", "shed", "failed"] | None = None
    flagged: bool | None = None
    verdict: Literal["accept", "reject", "unknown"] | None = None
    decided_by: str | None = None


@dataclass(frozen=True, slots=True)
class EventQuery:
    """The same for events: those that lie in part at least between `since` and `to`."""

    stream: str | None = None
    label: str | None = None
    since: str | None = None
    to: str | None = None
    open: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    found: list[Found]
    next: str | None
    """Where the next one begins; None where there is no more."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind a row in the order of time: rows that come or change meanwhile move nothing."""

    time: str
    row: int

    def written(self) -> str:
        return base64.urlsafe_b64encode(json.dumps([self.time, self.row]).encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Raises `ValueError`."""
        try:
            time_, row = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError, RecursionError):
            raise ValueError("this is no cursor: give `next` of the page before, as it is") from None
        if not (isinstance(time_, str) and _TIME.fullmatch(time_) and type(row) is int and 0 < row < _BIGGEST):
            raise ValueError("this is no cursor: give `next` of the page before, as it is")
        return cls(time_, row)


class Store:
    """Thread-safe. Whatever is asked takes a thread for a while, and may raise `StoreBusy`; on the loop, `ask`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, work: Callable[[], T]) -> T:
        """What `work` says, which asks something here, in a thread: few at a time, so that questions to the store take
        no thread from anything else."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._places.acquire()
        except TimeoutError:
            raise StoreBusy("the store has questions enough: ask again in a moment") from None
        try:
            return await to_thread.run_sync(work, limiter=CapacityLimiter(1))
        finally:
            self._places.release()

    def results(self, query: ResultQuery, after: Cursor | None, limit: int) -> Page:
        with self.reading() as connection:
            wanted = _Wanted("r", "time")
            # rare things have indices of their own; the plus keeps SQLite from the one over all of a stream
            rare = query.flagged is True or "unknown" in {query.verdict, _UNJUDGED.get(query.outcome or "")}
            wanted.add("r.flagged", query.flagged is True)
            wanted.add("NOT r.flagged", query.flagged is False)
            wanted.add("r.verdict = 'unknown'", _UNJUDGED.get(query.outcome or "") == "unknown")
            if query.verdict == "unknown":
                wanted.add("r.verdict = 'unknown'")  # spelled out, or its index is not used
            else:
                wanted.equal("r.verdict", query.verdict)
            wanted.equal("+r.stream" if rare else "r.stream", query.stream)
            wanted.equal("r.outcome", query.outcome)
            wanted.equal("r.decided_by", query.decided_by)
            wanted.from_to("r.time", query.since, query.to)
            tables = "results r"
            if query.label is not None:
                tables = self._labelled(connection, query.label, wanted)
            found = wanted.ask(connection, f"SELECT r.rowid AS row, r.* FROM {tables}", after, limit)  # noqa: S608
            return _page(complete(connection, found[:limit]), found, limit, "time")

    def _labelled(self, connection: sqlite3.Connection, label: str, wanted: _Wanted) -> str:
        few = "SELECT count(*) FROM (SELECT 1 FROM detections WHERE label = ? LIMIT ?)"
        if connection.execute(few, (label, _FEW)).fetchone()[0] == _FEW:
            wanted.add("EXISTS (SELECT 1 FROM detections d WHERE d.result_id = r.id AND d.label = ?)", True, label)
            return "results r"
        wanted.lead(label)
        return (
            "(SELECT DISTINCT result_id FROM detections WHERE label = ?) d CROSS JOIN results r ON r.id = d.result_id"
        )

    def result(self, name: str) -> Found | None:
        with self.reading() as connection:
            found = connection.execute("SELECT * FROM results WHERE id = ?", (name,)).fetchall()
            return next(iter(complete(connection, found)), None)

    def events(self, query: EventQuery, after: Cursor | None, limit: int) -> Page:
        with self.reading() as connection:
            wanted = _Wanted("e", "start_time")
            wanted.equal("e.stream", query.stream)
            wanted.equal("e.label", query.label)
            wanted.add("e.open", query.open is True)
            wanted.add("NOT e.open", query.open is False)
            wanted.add("e.end_time >= ?", query.since is not None, query.since)
            wanted.add("e.start_time < ?", query.to is not None, query.to)
            found = wanted.ask(connection, "SELECT e.rowid AS row, e.* FROM events e", after, limit)
            return _page([rows.event_document(row) for row in found[:limit]], found, limit, "start_time")

    def event(self, name: str) -> Found | None:
        with self.reading() as connection:
            row = connection.execute("SELECT * FROM events WHERE id = ?", (name,)).fetchone()
            return None if row is None else rows.event_document(row)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the database, for as long as a question may take. Raises `StoreBusy`."""
        end_s = time.monotonic() + _LONGEST_S
        try:
            with closing(self._connect()) as connection:
                connection.row_factory = sqlite3.Row
                connection.set_progress_handler(lambda: time.monotonic() > end_s, _LOOK)
                connection.execute("BEGIN")
                yield connection
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise StoreBusy(
                    f"this takes longer than {_LONGEST_S:g} s: narrow it down by time (from, to) or stream"
                ) from None
            raise StoreBusy(f"the store cannot be read now: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=ro", uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if connection.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
                raise StoreBusy("the store is not there yet: ask again in a moment")
            if version != schema.VERSION:
                raise StoreBusy(f"the store's tables are of version {version}, and its sink has not opened it yet")
        except BaseException:
            connection.close()
            raise
        return connection


def complete(connection: sqlite3.Connection, found: Sequence[sqlite3.Row]) -> list[Found]:
    """Results with their detections."""
    marks = ",".join("?" * len(found))
    of = connection.execute(
        f"SELECT * FROM detections WHERE result_id IN ({marks}) ORDER BY result_id, n",  # noqa: S608 (marks alone)
        [row["id"] for row in found],
    )
    detections: dict[str, list[sqlite3.Row]] = {}
    for row in of:
        detections.setdefault(row["result_id"], []).append(row)
    return [rows.result_document(row, detections.get(row["id"], [])) for row in found]


class _Wanted:
    """Conditions and what they are asked with. `lead` comes before all others."""

    def __init__(self, table: str, order: str) -> None:
        self._order = f"{table}.{order}", f"{table}.rowid"
        self._terms: list[str] = []
        self._values: list[Any] = []
        self._leading: list[Any] = []

    def add(self, term: str, holds: bool = True, *values: Any) -> None:
        if holds:
            self._terms.append(term)
            self._values += values

    def equal(self, column: str, value: str | None) -> None:
        self.add(f"{column} = ?", value is not None, value)

    def from_to(self, column: str, since: str | None, to: str | None) -> None:
        self.add(f"{column} >= ?", since is not None, since)
        self.add(f"{column} < ?", to is not None, to)

    def lead(self, value: Any) -> None:
        self._leading.append(value)

    def ask(self, connection: sqlite3.Connection, select: str, after: Cursor | None, limit: int) -> list[sqlite3.Row]:
        """One row more than `limit`, where there is one."""
        if after is not None:
            self.add(f"({', '.join(self._order)}) < (?, ?)", True, after.time, after.row)
        where = f" WHERE {' AND '.join(self._terms)}" if self._terms else ""
        order = ", ".join(f"{column} DESC" for column in self._order)
        asked = f"{select}{where} ORDER BY {order} LIMIT ?"
        return connection.execute(asked, [*self._leading, *self._values, limit + 1]).fetchall()


def _page(documents: list[Found], found: Sequence[sqlite3.Row], limit: int, time_: str) -> Page:
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return Page(documents, None if last is None else Cursor(last[time_], last["row"]).written())


_UNJUDGED: Mapping[str, str] = {"shed": "unknown", "failed": "unknown"}
