"""One stream inside the engine: what it may let in, the order in which its outcomes leave, and both its ledgers.

The bound is here. A stream has `in_flight` places; a window takes one when it is admitted and gives it back when its
outcome leaves, so that every queue further down is bounded by the sum of them and none of them ever has to block. When
no place is free, a stream that can wait waits (`block`); one that cannot sheds its oldest window that no stage has in
hand yet (`drop_oldest`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from pipeline.core.contracts import Generation
from pipeline.core.records import Array, Gap, Outcome, Result, Shed, ShedReason, SourceState, Window
from pipeline.core.snapshot import StreamSnapshot
from pipeline.engine.telemetry import Histogram, Rate
from pipeline.engine.ticket import Lease, Ticket

Emit = Callable[[Ticket, Outcome], None]
Judged = tuple[Array, int, Result]

LIVE_BUDGET_NS = 5_000_000_000
"""A live window that has no verdict after this long is shed even where the user set no budget: order and bounds need
an end to every wait."""


_HELD_POLL_S = 0.005


def _shed(ticket: Ticket, now_ns: int, reason: ShedReason) -> None:
    """Its place in the line stays until its turn; its picture goes at once."""
    ticket.outcome = Shed(ticket.window, now_ns, reason)
    if ticket.lease is not None:
        ticket.lease.image.release()


class Stream:
    """Thread-safe. `emit` is called in the stream's order, under its lock: it must be quick and must not call back."""

    def __init__(
        self,
        name: str,
        cascade: str,
        generation: Generation,
        emit: Emit,
        *,
        in_flight: int,
        block: bool,
        budget_ns: int | None,
        linger_ns: int,
    ) -> None:
        self.name = name
        self.cascade = cascade
        self.generation = generation
        self.budget_ns = budget_ns
        self.block = block
        self._linger_ns = linger_ns
        self._most = in_flight
        self._emit = emit
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._line: deque[Ticket] = deque()  # every window that was admitted and has not left, in order
        self._then: Callable[[], None] | None = None
        self._closed = False
        self.fan_in = threading.Lock()  # of the regions of this stream's windows
        self.judged: deque[Judged] = deque(maxlen=64)
        """What stages judged lately, for the gate: filled here, emptied by the intake."""

        self.state = SourceState.CONNECTING
        self.detail = ""
        self.connects = 0
        self._received = self._sampled_out = self._windows = self._results = self._failed = self._flagged = 0
        self._gaps: Counter[str] = Counter()
        self._shed: Counter[str] = Counter()
        self._decided: Counter[str] = Counter()
        self._latency = Histogram()
        self._received_rate, self._outcome_rate = Rate(), Rate()

    # What comes in.

    def gap(self, gap: Gap) -> None:
        with self._lock:
            self._received += gap.count
            self._gaps[gap.reason] += gap.count

    def sampled_out(self) -> None:
        with self._lock:
            self._received += 1
            self._sampled_out += 1

    def wait_for_room(self, held: Callable[[], bool]) -> None:
        """Wait until a window can be admitted without shedding one, and `held` (a sink is behind) no longer holds;
        or until the stream is closed. For streams that can wait."""
        with self._room:
            while not self._closed:
                if self.full:
                    self._room.wait()
                elif held():
                    self._room.wait(_HELD_POLL_S)
                else:
                    return

    @property
    def full(self) -> bool:
        """Whether no further window can come before one leaves."""
        return len(self._line) >= self._most

    def admit(self, window: Window, lease: Lease | None = None, luma: Array | None = None) -> Ticket:
        """A received frame becomes a window. The ticket may come back settled (there was no room at all).

        `lease` holds its picture for stages and sinks to come; `luma` is what a gate will want to know it by.
        """
        ticket = Ticket(self, window, self.generation)
        ticket.lease = lease
        ticket.luma = luma
        ticket.linger_ns = self._linger_ns
        if self.budget_ns is not None:
            ticket.deadline_ns = window.mono_ns + self.budget_ns
        with self._lock:
            self._received += 1
            self._windows += 1
            if self._closed:
                _shed(ticket, time.monotonic_ns(), ShedReason.SHUTDOWN)
            elif self.full and not self.block:
                victim = next((t for t in self._line if t.outcome is None and not t.running), ticket)
                _shed(victim, time.monotonic_ns(), ShedReason.OVERLOAD)
            self._line.append(ticket)
            self._leave()
        return ticket

    # What goes out.

    def settle(self, ticket: Ticket, outcome: Outcome) -> bool:
        """Give a window its outcome. The first one stands: False means that it had one (it was shed as late)."""
        with self._lock:
            if ticket.outcome is not None:
                return False
            ticket.outcome = outcome
            if ticket.luma is not None and isinstance(outcome, Result) and outcome.carried_from is None:
                self.judged.append((ticket.luma, ticket.window.start_ns, outcome))
            self._leave()
            return True

    def _leave(self) -> None:
        """Whatever at the head of the line is settled leaves, in order. The lock is held."""
        line = self._line
        left = False
        while line and (outcome := line[0].outcome) is not None:
            ticket = line.popleft()
            left = True
            self._count(outcome)
            self._emit(ticket, outcome)
            if ticket.lease is not None:
                ticket.lease.drop()
        if left:
            self._room.notify_all()
        if self._then is not None and not line:
            then, self._then = self._then, None
            then()

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Result):
            self._results += 1
            self._flagged += outcome.flagged
            self._decided[outcome.decided_by] += 1
            self._latency.record(outcome.latency_ns / 1e9)
        elif isinstance(outcome, Shed):
            self._shed[outcome.reason] += 1
        else:
            self._failed += 1

    def expire(self, now_ns: int) -> int | None:
        """Shed what is past its deadline; returns the deadline that comes next, if any waits."""
        with self._lock:
            following = None
            for ticket in self._line:
                if ticket.outcome is not None or ticket.deadline_ns is None:
                    continue
                if ticket.deadline_ns > now_ns:
                    following = ticket.deadline_ns
                    break
                _shed(ticket, now_ns, ShedReason.DEADLINE)
            self._leave()
            return following

    def when_empty(self, then: Callable[[], None]) -> None:
        """Call `then`, under the lock, once everything inside has left: now, or after the last one."""
        with self._lock:
            self._then = then
            self._leave()

    def empty(self) -> bool:
        with self._lock:
            return not self._line

    def close(self) -> None:
        """No more comes in; what is inside and not settled is shed."""
        with self._lock:
            self._closed = True
            now = time.monotonic_ns()
            for ticket in self._line:
                if ticket.outcome is None:
                    _shed(ticket, now, ShedReason.SHUTDOWN)
            self._leave()
            self._room.notify_all()

    # What it says of itself.

    def latency_into(self, total: Histogram) -> None:
        with self._lock:
            total.add(self._latency)

    def snapshot(self, now_s: float) -> StreamSnapshot:
        with self._lock:
            outcomes = self._results + self._failed + sum(self._shed.values())
            return StreamSnapshot(
                stream=self.name,
                cascade=self.cascade,
                state=self.state,
                detail=self.detail,
                received_per_s=self._received_rate.per_s(now_s, self._received),
                outcomes_per_s=self._outcome_rate.per_s(now_s, outcomes),
                received=self._received,
                sampled_out=self._sampled_out,
                damaged=self._gaps["damaged"],
                undecoded=self._gaps["undecoded"],
                windows=self._windows,
                results=self._results,
                failed=self._failed,
                in_flight=len(self._line),
                flagged=self._flagged,
                connects=self.connects,
                shed=dict(self._shed),
                decided_by=dict(self._decided),
                latency=self._latency.latency(),
            )
