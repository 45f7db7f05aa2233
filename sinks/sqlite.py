"""A SQLite database that is pleasant to query: what was seen, ruled, audited and missed (see `sqlite_schema`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.outages import Outage, outage_document
from pipeline.core.records import (
    Audit,
    Box,
    Event,
    Outcome,
    Result,
    audit_document,
    event_document,
    outcome_document,
)
from pipeline.core.rulings import Ruling, ruling_document
from sinks import sqlite_schema as schema
from sinks.paths import check_file, expanded, make_parents, same_file

Row = tuple[Any, ...]

_WAIT_S = 2.0  # for another writer's lock, before the engine is told to come again
_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)
_NOWHERE: Final = (None, None, None, None)
_NO_SPAN: Final = (None, None)


class Sqlite(Sink):
    """One transaction a batch, in WAL mode with synchronous=FULL: what was acknowledged survives `kill -9` and a loss
    of power, and readers never wait. Writing the same window again replaces its row."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "audits", "rulings", "outages"})

    path: str = Field(default="results.db", min_length=1, description="the database file; made if it is not there")

    def check(self) -> None:
        path = expanded(self.path)
        check_file(path)
        if path.exists() and path.stat().st_size:
            try:
                with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as connection:
                    _version(connection, path)
            except sqlite3.Error as error:
                if not _passes(error):
                    raise _unusable(error, path) from error

    def open(self) -> Writer:
        return _Writer(expanded(self.path))


class _Writer:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        make_parents(path)
        try:
            self._connect()
        except sqlite3.Error as error:
            if _passes(error) and path.is_file():
                raise SinkBusy(f"{path}: {error}") from error
            raise _unusable(error, path) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            version = _version(connection, self._path)
            if (mode := connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
                raise InputError(f"this file system keeps SQLite in {mode} mode; choose a local disk", str(self._path))
            connection.executescript("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            if version != schema.VERSION:
                steps = "".join(schema.UPGRADES[step] for step in range(version or schema.VERSION, schema.VERSION))
                connection.executescript(
                    f"BEGIN IMMEDIATE; {steps} {schema.SCHEMA} PRAGMA application_id = {schema.APPLICATION_ID};"
                    f"PRAGMA user_version = {schema.VERSION}; COMMIT;"
                )
            self._known = self._path.stat()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def write(self, items: Sequence[Delivery]) -> None:
        results: list[Row] = []
        detections: dict[str, list[Row]] = {}  # of the last verdict on each window
        events: list[Row] = []
        rulings: list[Row] = []
        audits: list[Row] = []
        outages: list[Row] = []
        for item in items:
            if isinstance(item, Event):
                events.append(_event_row(item))
            elif isinstance(item, Ruling):
                rulings.append(_ruling_row(item))
            elif isinstance(item, Audit):
                audits.append(_audit_row(item))
            elif isinstance(item, Outage):
                outages.append(tuple(outage_document(item).values()))
            elif isinstance(item, (Outcome, Picture)):
                outcome = item.outcome if isinstance(item, Picture) else item
                results.append(_result_row(outcome))
                if isinstance(outcome, Result):
                    detections[outcome.window.id] = _detection_rows(outcome)
        if not (results or events or rulings or audits or outages):
            return
        told = {schema.PUT_RESULT: results, schema.PUT_EVENT: events, schema.PUT_RULING: rulings}
        told[schema.PUT_OUTAGE] = outages
        try:
            self._commit(told, detections, audits)
        except sqlite3.Error as error:
            if _passes(error):
                raise SinkBusy(f"{self._path}: {error}") from error
            raise SinkRefused(f"{self._path}: {error}") from error
        except (InputError, OSError) as error:  # somebody put something else in its place
            raise SinkBusy(str(error)) from error

    def _commit(self, told: Mapping[str, list[Row]], detections: Mapping[str, list[Row]], audits: list[Row]) -> None:
        connection = self._connection
        if connection is not None and not same_file(self._path, self._known):
            self.close()  # the file was moved or deleted: go on in a new one, not in one that nobody can find
            connection = None
        if connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for put, rows in told.items():
                connection.executemany(put, rows)
            connection.executemany(schema.DROP_DETECTIONS, [(window_id,) for window_id in detections])
            connection.executemany(schema.PUT_DETECTION, chain.from_iterable(detections.values()))
            if audits:  # most files never hold one, and those of older programs lack the table
                connection.execute(schema.AUDITS)
                connection.executemany(schema.PUT_AUDIT, audits)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()  # the last one out writes the log back into the file
            self._connection = None


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Of our tables; 0 where nothing is in it yet. Raises `InputError` for anybody else's, and for newer ones."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if not tables:
        return 0
    if connection.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        raise InputError("is a database of another program; give another file", str(path))
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not 1 <= version <= schema.VERSION:
        raise InputError(
            f"its tables are of version {version}, this program writes version {schema.VERSION}; "
            "update thresher or give another file",
            str(path),
        )
    return version


def _passes(error: sqlite3.Error) -> bool:
    """Whether it may work later: locked, full, gone for the moment."""
    code = getattr(error, "sqlite_errorcode", None)  # extended: the primary code is its low byte
    return code is not None and code & 0xFF in _PASSING


def _unusable(error: sqlite3.Error, path: Path) -> InputError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return InputError("is not a SQLite database; give another file", str(path))
    return InputError(f"cannot be used as a database: {error}", str(path))


def _result_row(outcome: Outcome) -> Row:
    document = outcome_document(outcome)
    reason = document.get("reason")
    return (
        document["id"],
        document["stream"],
        document["epoch"],
        document["seq"],
        outcome.window.start_ns / 1e9,
        document["time"],
        document["outcome"],
        document.get("decided_by"),
        document.get("generation"),
        document.get("certified"),
        document.get("flagged", False),
        document["latency_ms"],
        # SQLite takes no lone surrogates, which file names of another age bring into reasons
        None if reason is None else reason.encode("utf-8", "backslashreplace").decode(),
        document.get("carried_from"),
        document.get("file"),
        document["verdict"],
        document.get("action"),
        document.get("rule"),
        outcome.window.start_ns,
        document.get("trusted", True),
    )


def _detection_rows(result: Result) -> list[Row]:
    return [
        (
            result.window.id,
            n,
            found.label,
            found.score,
            *_corners(found.box),
            *(found.span_ns or _NO_SPAN),
            *(found.chars or _NO_SPAN),
        )
        for n, found in enumerate(result.detections)
    ]


def _event_row(event: Event) -> Row:
    document = event_document(event)
    return (
        event.id,
        event.stream,
        event.label,
        document["start"],
        document["end"],
        event.start_ns / 1e9,
        event.end_ns / 1e9,
        (event.end_ns - event.start_ns) / 1e9,
        event.count,
        event.windows,
        event.kind != "end",
        event.best.score,
        *_corners(event.best.box),
        event.zone or None,
        event.direction,
        event.track or None,
        event.held_back,
        event.start_ns,
        event.end_ns,
        event.kind,
        event.best.label,
        *(event.best.span_ns or _NO_SPAN),
        *(event.best.chars or _NO_SPAN),
    )


def _ruling_row(ruling: Ruling) -> Row:
    document = ruling_document(ruling)
    decision = ruling.kind != "update"  # an update tells of what came later
    return (
        ruling.id,
        ruling.show,
        ruling.action,
        ruling.rule,
        json.dumps(document["targets"]),
        document["start"],
        document["end"],
        ruling.start_ns / 1e9,
        ruling.end_ns / 1e9,
        (ruling.end_ns - ruling.start_ns) / 1e9,
        ruling.kind != "end",
        document.get("latency_ms") if decision else None,
        json.dumps(document["evidence"], ensure_ascii=False) if decision else None,
        json.dumps(document["missing"]),
    )


def _audit_row(audit: Audit) -> Row:
    document = audit_document(audit)
    names = ("audit", "stream", "time", "generation", "outcome", "p", "reported", "heavy_flagged", "missed")
    found = json.dumps(document["detections"], ensure_ascii=False)
    return (*(document[name] for name in names), found)


def _corners(box: Box | None) -> Row:
    return _NOWHERE if box is None else tuple(box)
