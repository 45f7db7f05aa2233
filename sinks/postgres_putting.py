"""The running part of the PostgreSQL sink."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import Identifier
from psycopg.types.json import Jsonb

from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.letters import Kind, Letter
from pipeline.core.secrets import redact
from sinks import postgres_hosts
from sinks import postgres_schema as schema
from sinks.postgres_rows import Row, detections_of, document_of, row_of
from sinks.sending import ANSWER_S, BEGIN_S, FOLDERS

if TYPE_CHECKING:
    from sinks.postgres import Postgres

_ITS_FAULT: Final = ("22", "23", "54")  # classes of errors: data, constraints, limits that a row exceeds
_LOCK: Final = 0x54485253  # whoever makes the tables, one at a time


class _Connection(psycopg.Connection[Row]):
    """One that waits for no answer longer than until `deadline`."""

    deadline = float("inf")

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        left = max(self.deadline - time.monotonic(), 0.0)
        try:
            return super().wait(gen, interval, left if timeout is None else min(timeout, left))
        except psycopg.OperationalError:
            if time.monotonic() >= self.deadline:
                self.pgconn.finish()  # at once: whoever tidies up behind this would wait, too
                with suppress(psycopg.Error, RuntimeError):
                    gen.close()
            raise


class Putter:
    most = 256

    def __init__(self, plan: Postgres) -> None:
        self._plan = plan
        self._schema = Identifier(plan.schema_name).as_string()
        self._puts = {kind: schema.put(kind, folder, self._schema) for kind, folder in FOLDERS.items()}
        self._drop_detections = schema.DROP_DETECTIONS.format(s=self._schema)
        self._put_detection = schema.PUT_DETECTION.format(s=self._schema)
        words = conninfo_to_dict(plan.dsn)
        self._where = f"postgresql {words.get('host') or ''}".rstrip()
        self._connection: _Connection | None = None
        self._closed = False

    def send(self, letters: Sequence[Letter]) -> int:
        if self._closed:
            raise SinkBusy(f"{self._where}: closed")
        deadline = time.monotonic() + ANSWER_S + BEGIN_S
        documents, refusal = _documents(letters)
        if not documents and refusal is not None:
            raise refusal
        try:
            connection = self._connected(deadline)
            try:
                self._put(connection, letters, documents)
                return len(documents)
            except psycopg.Error as error:
                if not _at_fault(error):
                    raise
                connection.rollback()
                return self._one_by_one(connection, letters, documents)
        except (psycopg.Error, OSError) as error:
            self._let_go()
            raise SinkBusy(f"{self._where}: {_said(error)}") from None

    def _one_by_one(
        self, connection: _Connection, letters: Sequence[Letter], documents: Sequence[dict[str, Any]]
    ) -> int:
        """Up to the one that cannot be taken."""
        until = connection.deadline - ANSWER_S
        for n, document in enumerate(documents):
            if n and time.monotonic() > until:
                return n
            try:
                self._put(connection, letters[n : n + 1], [document])
            except psycopg.Error as error:
                if n:
                    self._let_go()  # whatever it was: those before it are there
                    return n
                if _at_fault(error):
                    connection.rollback()
                    raise SinkRefused(f"{self._where}: {_said(error)}") from None
                raise
        return len(documents)

    def _put(self, connection: _Connection, letters: Sequence[Letter], documents: Sequence[dict[str, Any]]) -> None:
        """In one transaction."""
        rows: dict[Kind, list[Row]] = {}
        detections: dict[str, list[Row]] = {}  # of the last verdict on each window
        for letter, document in zip(letters, documents, strict=False):
            rows.setdefault(letter.kind, []).append(row_of(letter, document, Jsonb))
            if letter.kind == "outcome" and document["outcome"] == "result":
                detections[document["id"]] = detections_of(document)
        with connection.cursor() as cursor:
            for kind, some in rows.items():
                cursor.executemany(self._puts[kind], some)
            if detections:
                cursor.executemany(self._drop_detections, [(name,) for name in detections])
                cursor.executemany(self._put_detection, [row for some in detections.values() for row in some])
        connection.commit()

    def _connected(self, deadline: float) -> _Connection:
        if self._connection is None or self._connection.closed:
            where = postgres_hosts.pinned(self._plan.dsn)
            connection = _Connection.connect(
                self._plan.dsn,
                **where,
                connect_timeout=max(2, int(ANSWER_S - BEGIN_S) // (where.get("host", "").count(",") + 1)),
                application_name="thresher",
                client_encoding="utf8",
            )
            connection.deadline = deadline
            self._connection = connection
            self._make_tables(self._connection)
        self._connection.deadline = deadline
        return self._connection

    def _make_tables(self, connection: _Connection) -> None:
        """What is there is left alone: whoever may write rows need not be allowed to make tables."""
        there = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = ANY(%s)",
            [self._plan.schema_name, list(schema.TABLES)],
        ).fetchone()
        if there is None or there[0] < len(schema.TABLES):
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            known = connection.execute("SELECT to_regnamespace(%s)", [self._schema]).fetchone()
            if known is None or known[0] is None:
                connection.execute(f"CREATE SCHEMA {self._schema}".encode())
            connection.execute(schema.SCHEMA.format(s=self._schema).encode())
        connection.commit()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        self._closed = True
        self._let_go()


def _documents(letters: Sequence[Letter]) -> tuple[list[dict[str, Any]], SinkRefused | None]:
    """Those of the letters up to the first that has none that could be a row, and what is wrong with that."""
    documents: list[dict[str, Any]] = []
    for letter in letters:
        try:
            document = document_of(letter)
            row_of(letter, document, partial(bool))
            if letter.kind == "outcome" and document["outcome"] == "result":
                detections_of(document)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return documents, SinkRefused(f"no document of this kind: {type(error).__name__}: {redact(error)}")
        documents.append(document)
    return documents, None


def _at_fault(error: psycopg.Error) -> bool:
    """Whether it is the row that is not to be had."""
    return error.sqlstate is not None and error.sqlstate.startswith(_ITS_FAULT)


def _said(error: Exception) -> str:
    return redact(" ".join(str(error).split())) or type(error).__name__
