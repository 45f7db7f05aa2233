"""Hands outcomes and events to sinks. One thread and one bounded backlog a sink: a slow one stalls no stage.

When a backlog is full, streams that can wait are held at their intake (`full`), and for those that cannot the
oldest item goes, counted. The items of a batch that a sink could not take are written again, in order, until it can.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from pipeline.core.backoff import backoff
from pipeline.core.contracts import Delivery, Observer, Sink, Writer
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.secrets import redact
from pipeline.core.snapshot import SinkSnapshot, Snapshot
from pipeline.engine.ticket import Lease

log = logging.getLogger(__name__)

BATCH = 256
OBSERVE_S = 0.25
_PUZZLED = 3  # times a sink may fail in a way it does not explain before the items count as refused

Item = tuple[Delivery, Lease | None]


class SinkRunner:
    """A sink's backlog and its thread."""

    def __init__(self, name: str, sink: Sink, snapshot: Callable[[], Snapshot]) -> None:
        self.name = name
        self.takes = sink.takes
        self._sink = sink
        self._snapshot = snapshot
        self._size = sink.backlog
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._give_up = False
        self._writing = 0
        self._written = self._dropped = self._refused = self._retries = 0
        self._state, self._detail = "ok", ""
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._writer: Writer | None = None

    def open(self) -> None:
        """Raises `InputError` where the sink can never work; one that is merely busy is opened again later."""
        try:
            self._writer = self._sink.open()
        except SinkBusy as error:
            self._trouble(error)
        except InputError as error:
            raise InputError(error.message, error.place or f"sinks.{self.name}") from error
        self._thread.start()

    def put(self, item: Delivery, lease: Lease | None, can_wait: bool) -> None:
        """Never blocks. A stream that can wait is never the reason for a drop: it stops at `full`."""
        with self._changed:
            if self._give_up:
                self._drop((item, lease))
                return
            if len(self._items) >= self._size and not can_wait:
                self._drop(self._items.popleft())
            self._items.append((item, lease))
            if len(self._items) == 1:
                self._changed.notify()

    def full(self) -> bool:
        return len(self._items) >= self._size

    def drained(self) -> bool:
        with self._changed:
            return not self._items and not self._writing

    def close(self, timeout_s: float) -> None:
        """Write what waits, for at most `timeout_s`; then count the rest as dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._join(timeout_s)
        with self._changed:
            self._give_up = True
            while self._items:
                self._drop(self._items.popleft())
            self._changed.notify()
        self._join(0.5)

    def _join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def snapshot(self) -> SinkSnapshot:
        with self._changed:
            return SinkSnapshot(
                sink=self.name,
                state=self._state,
                detail=self._detail,
                waiting=len(self._items) + self._writing,
                written=self._written,
                dropped=self._dropped,
                refused=self._refused,
                retries=self._retries,
            )

    def _drop(self, item: Item) -> None:
        self._dropped += 1
        if item[1] is not None:
            item[1].drop()

    def _run(self) -> None:
        observed = 0.0
        try:
            while True:
                batch = self._next()
                if batch:
                    self._deliver(batch)
                elif self._closing:
                    break
                if time.monotonic() - observed >= OBSERVE_S:
                    observed = time.monotonic()
                    self._observe()
            self._observe()
        finally:
            if self._writer is not None:
                try:
                    self._writer.close()
                except Exception as error:  # noqa: BLE001 closing is the last thing; say what went wrong and go
                    log.error("sink %s: it could not be closed: %s", self.name, redact(error))
            with self._changed:
                self._state = "closed"

    def _observe(self) -> None:
        """Show the writer how things are, if it wants to see."""
        writer: object = self._writer
        if not isinstance(writer, Observer):
            return
        try:
            writer.observe(self._snapshot())
        except Exception as error:  # noqa: BLE001 a table that cannot be drawn must not stop what it shows
            log.error("sink %s could not show the state: %s", self.name, redact(error))

    def _next(self) -> list[Item]:
        with self._changed:
            if not self._items and not self._closing:
                self._changed.wait(OBSERVE_S)
            batch = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
            self._writing = len(batch)
            return batch

    def _deliver(self, batch: Sequence[Item]) -> None:
        deliveries = [item for item, _ in batch]
        waits, puzzled = backoff(0.1, 5.0), 0
        written = refused = 0
        while not self._give_up:
            try:
                if self._writer is None:
                    self._writer = self._sink.open()
                self._writer.write(deliveries)
                written = len(batch)
                break
            except SinkBusy as error:
                self._trouble(error)
            except (SinkRefused, InputError) as error:
                log.error("sink %s refused %d items: %s", self.name, len(batch), redact(error))
                refused = len(batch)
                break
            except Exception as error:
                puzzled += 1
                log.warning("sink %s: %s: %s", self.name, type(error).__name__, redact(error), exc_info=puzzled == 1)
                if puzzled >= _PUZZLED:
                    refused = len(batch)
                    break
                self._trouble(error)
            self._retries += 1
            self._pause(next(waits))
        with self._changed:
            self._written += written
            self._refused += refused
            self._dropped += len(batch) - written - refused
            self._writing = 0
            if written:
                self._state, self._detail = "ok", ""
        for _, lease in batch:
            if lease is not None:
                lease.drop()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            while not self._give_up and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _trouble(self, error: Exception) -> None:
        with self._changed:
            if self._state != "busy":
                log.warning("sink %s is busy and will be tried again: %s", self.name, redact(error))
            self._state, self._detail = "busy", redact(error)
