"""Hands outcomes and events to sinks. One thread and one bounded backlog a sink: a slow one stalls no stage.

When a backlog is full, streams that can wait are held at their intake (`full`); of those that cannot, the oldest
outcome goes, counted: never another stream's that can wait, and events, audits, rulings and outages last. The last end
of each rule's actions always finds room: a sink that does what is ruled would do it for ever. The items of a batch that
a sink could not take are written again, in order, until it can; of a batch that it refuses, each is offered by itself.

Barriers stand between the items and take no room: one is passed once all before it were written, refused for good, or
dropped as said above. What is dropped because the program ends is not done with, and nothing behind it is passed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pipeline.core.backoff import backoff
from pipeline.core.contracts import Delivery, Forgetting, Observer, Remote, Sink, Writer
from pipeline.core.errors import InputError, SinkBusy, SinkGone, SinkRefused, let_go
from pipeline.core.outages import Outage
from pipeline.core.records import Audit, Event
from pipeline.core.rulings import Ruling
from pipeline.core.secrets import redact
from pipeline.core.snapshot import SinkSnapshot, Snapshot
from pipeline.core.tapes import Recording
from pipeline.core.traces import Trace
from pipeline.engine.checkpoints import Barrier, Noted
from pipeline.engine.dispatch import Dispatch
from pipeline.engine.ticket import Lease

log = logging.getLogger(__name__)

BATCH = 256
OBSERVE_S = 0.25
_PUZZLED = 3  # times a sink may fail in a way it does not explain before the items count as refused


@dataclass(frozen=True, slots=True)
class _Item:
    delivery: Delivery
    lease: Lease | None
    can_wait: bool  # its stream is held while this sink is behind, so it need not go for want of room
    number: int  # among all that was ever put
    after: Noted | None = None  # nobody hears of it before that
    trace: Trace | None = None

    @property
    def lasts(self) -> bool:
        """Of these there are few, and each one counts."""
        return (
            isinstance(self.delivery, (Event, Audit, Ruling, Outage, Recording))
            or getattr(self.delivery, "audit", None) is not None
        )

    @property
    def ends(self) -> tuple[str, str] | None:
        """Whose action it ends: a rule, of a show."""
        one = self.delivery
        return (one.show, one.rule) if isinstance(one, Ruling) and one.kind == "end" else None


class SinkRunner:
    """A sink's backlog and its thread."""

    def __init__(self, name: str, sink: Sink, snapshot: Callable[[], Snapshot]) -> None:
        self.name = name
        self.takes = sink.takes
        self._dispatch = Dispatch(name, sink, snapshot) if isinstance(sink, Remote) else None
        self._open_writer = sink.open if self._dispatch is None else self._dispatch.open
        self._snapshot = snapshot
        self._size = sink.backlog
        self._fleeting = sink.fleeting
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._end_s = 0.0
        self._give_up = False
        self._writing = 0
        self._put = 0
        self._barriers: deque[tuple[int, Barrier]] = deque()  # each with the number of the item before it
        self._abandoned: int | None = None  # the first item for which there was no time at the end
        self._written = self._dropped = self._passed_over = self._refused = self._retries = 0
        self._state, self._detail = "ok", ""
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._writer: Writer | None = None
        self.gone = False
        """Whether nobody wants what it writes any more."""

    def open(self) -> None:
        """Raises `InputError` where the sink can never work; one that is merely busy is opened again later."""
        try:
            self._writer = self._open_writer()
        except SinkBusy as error:
            self._trouble(error)
        except InputError as error:
            raise InputError(str(error), f"sinks.{self.name}") from error
        self._thread.start()

    def put(
        self,
        delivery: Delivery,
        lease: Lease | None,
        can_wait: bool,
        after: Noted | None = None,
        trace: Trace | None = None,
    ) -> None:
        """Never blocks. It is written `after` that was waited for, by the sink's thread. `trace` is told of it."""
        if trace is not None:
            trace.handed(self.name)
        can_wait = can_wait and not self._fleeting
        with self._changed:
            self._put += 1
            item = _Item(delivery, lease, can_wait, self._put, after, trace)
            if self._give_up:
                self._abandon(item)
                return
            if len(self._items) >= self._size and not can_wait and not self._make_room(item):
                return
            self._items.append(item)
            if len(self._items) == 1:
                self._changed.notify()

    def mark(self, barrier: Barrier) -> None:
        """Put `barrier` behind all that was put so far. Never blocks."""
        with self._changed:
            self._barriers.append((self._put, barrier))
            self._changed.notify()

    def forget(self, stream: str) -> None:
        """The stream was removed: the writer is told so behind all that was put so far, if it wants to know."""
        self.mark(Barrier(0, partial(self._tell_removed, stream)))

    def _tell_removed(self, stream: str) -> None:
        writer: object = self._writer
        if not isinstance(writer, Forgetting):
            return
        try:
            writer.forget(stream)
        except Exception as error:  # noqa: BLE001 what it kept of a stream that is no more is no reason to lose others
            log.error("sink %s could not let go of %s: %s", self.name, stream, redact(error))

    def _make_room(self, item: _Item) -> bool:
        """Drop the oldest outcome that may go, or, where there is none, the oldest event or this very item; whether
        there is room for it now. Only an end of an action may go beyond what there is room for, one a rule."""
        oldest = self._oldest(lambda old: not old.lasts)
        if oldest is None and item.lasts:
            oldest = self._oldest(lambda old: old.ends is None)
        if oldest is None and item.ends is not None:
            oldest = self._oldest(lambda old: old.ends == item.ends)
            if oldest is None:
                return True
        if oldest is None:
            self._drop(item)
            return False
        self._items.remove(oldest)
        self._drop(oldest)
        return True

    def _oldest(self, may_go: Callable[[_Item], bool]) -> _Item | None:
        """Of those whose stream cannot wait. As a rule it is among the first: the rest is not looked at."""
        return next((old for old in self._items if not old.can_wait and may_go(old)), None)

    def full(self) -> bool:
        """Whether streams that can wait have to."""
        return not self._fleeting and len(self._items) >= self._size

    def drained(self) -> bool:
        with self._changed:
            if self._items or self._writing:
                return False
        return self._dispatch is None or self._dispatch.settled()

    @property
    def alive(self) -> bool:
        """Whether its threads run: also the one that sends, where there is an outbox."""
        return self._thread.is_alive() and (self._dispatch is None or self._dispatch.alive)

    def finish(self, end_s: float) -> None:
        """Nothing more will be put; returns at once. What waits is written until `end_s` by the monotonic clock."""
        with self._changed:
            self._end_s = end_s
            self._closing = True
            self._changed.notify()

    def join(self, end_s: float) -> None:
        """Wait until all is written and the sink is closed, until `end_s` by the monotonic clock."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._dispatch is not None:
            self._dispatch.join(end_s)

    def give_up(self) -> None:
        """What is still waiting counts as dropped."""
        with self._changed:
            self._give_up = True
            while self._items:
                self._abandon(self._items.popleft())
            self._changed.notify()

    def snapshot(self) -> SinkSnapshot:
        with self._changed:
            said = SinkSnapshot(
                sink=self.name,
                state=self._state,
                detail=self._detail,
                waiting=len(self._items) + self._writing,
                written=self._written,
                dropped=self._dropped,
                refused=self._refused,
                retries=self._retries,
                passed_over=self._passed_over,
            )
        return self._with_outbox(said)

    def _with_outbox(self, said: SinkSnapshot) -> SinkSnapshot:
        """What waits for the receiver itself, and why."""
        if self._dispatch is None:
            return said
        trouble = self._dispatch.detail
        return replace(
            said,
            state="busy" if trouble and said.state == "ok" else said.state,
            detail=said.detail or trouble,
            retries=said.retries + self._dispatch.retries,
            refused=said.refused + self._dispatch.refused,
            outbox=self._dispatch.snapshot(),
        )

    def _abandon(self, item: _Item) -> None:
        self._abandoned = min(self._abandoned or item.number, item.number)
        self._drop(item)

    def _drop(self, item: _Item) -> None:
        if self._fleeting:
            self._passed_over += 1
        else:
            self._dropped += 1
        if item.lease is not None:
            item.lease.drop()
        if item.trace is not None:
            item.trace.written(self.name, 0, "dropped")

    def _run(self) -> None:
        observed = 0.0
        try:
            while True:
                batch = self._next()
                if batch:
                    self._deliver(batch)
                self._pass_barriers()
                if not batch and self._closing:
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
            if self._dispatch is not None:
                self._dispatch.finish(self._end_s)
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

    def _next(self) -> list[_Item]:
        with self._changed:
            if not self._items and not self._closing:
                self._changed.wait(OBSERVE_S)
            batch = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
            self._writing = len(batch)
            return batch

    def _deliver(self, batch: Sequence[_Item]) -> None:
        began_ns = time.monotonic_ns()
        if waits := [item.after for item in batch if item.after is not None]:
            waits[-1]()  # what is on the disk up to the last is there for all
        fates = [fate for part in self._offer(batch) for fate in (["refused"] if part is None else ["written"] * part)]
        refused = fates.count("refused")
        written = len(fates) - refused
        with self._changed:
            self._written += written
            self._refused += refused
            self._dropped += len(batch) - written - refused
            if written + refused < len(batch):
                self._abandoned = min(self._abandoned or batch[0].number, batch[0].number)
            self._writing = 0
            if written:
                self._state, self._detail = "ok", ""
        for index, item in enumerate(batch):
            if item.lease is not None:
                item.lease.drop()
            if item.trace is not None:  # behind the last that was offered, there was no time left
                item.trace.written(self.name, began_ns, fates[index] if index < len(fates) else "dropped")

    def _pass_barriers(self) -> None:
        """Those that nothing is before any more. Called with nothing in hand."""
        with self._changed:
            first = self._items[0].number if self._items else self._put + 1
            first = min(first, self._abandoned or first)
            passed = []
            while self._barriers and self._barriers[0][0] < first:
                passed.append(self._barriers.popleft()[1])
        for barrier in passed:
            barrier.passed()

    def _offer(self, batch: Sequence[_Item]) -> Iterator[int | None]:
        """Write `batch`: how many items of it were written, None for one that was refused."""
        try:
            if self._write(batch):
                yield len(batch)
        except SinkGone as error:
            if not self.gone:
                log.error("sink %s: %s", self.name, redact(error))
            self.gone, self._detail = True, redact(error)
            let_go(error)
            yield from [None] * len(batch)
        except SinkRefused as error:
            if len(batch) > 1:  # what the sink minds may be one of them
                let_go(error)
                for item in batch:
                    yield from self._offer([item])
            else:
                log.error("sink %s refused an item: %s", self.name, redact(error))
                let_go(error)
                yield None

    def _write(self, batch: Sequence[_Item]) -> bool:
        """Until the sink took it; False if there was no time left for that. Raises `SinkRefused`."""
        waits, puzzled = backoff(0.1, 5.0), 0
        while not self._give_up:
            try:
                if self._writer is None:
                    self._writer = self._open_writer()
                self._writer.write([item.delivery for item in batch])
                return True
            except SinkBusy as error:
                self._trouble(error)
                let_go(error)
            except SinkRefused:
                raise
            except InputError as error:
                raise SinkRefused(str(error)) from error
            except Exception as error:
                puzzled += 1
                log.warning("sink %s: %s: %s", self.name, type(error).__name__, redact(error), exc_info=puzzled == 1)
                if puzzled >= _PUZZLED:
                    raise SinkRefused(f"{type(error).__name__}: {redact(error)}") from error
                self._trouble(error)
                let_go(error)
            self._retries += 1
            self._pause(next(waits))
        return False

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
