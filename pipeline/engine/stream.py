"""One stream inside the engine: what it may let in, the order in which its outcomes leave, and both its ledgers.

The bound is here. A stream has `in_flight` places for windows without a verdict; every queue further down is bounded by
the sum of them and none of them ever has to block. When no place is free, a stream that can wait waits (`block`); one
that cannot sheds its oldest window that no stage has in hand yet (`drop_oldest`). Windows that have their verdict and
wait for an older one are bounded too: when their line is full, the one they wait for is shed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from pipeline.core.contracts import Generation
from pipeline.core.outages import Outage
from pipeline.core.places import Place
from pipeline.core.records import Array, Failed, Gap, Outcome, Result, Shed, ShedReason, SourceState, Window
from pipeline.core.snapshot import StreamSnapshot
from pipeline.core.traces import Trace, Tracer
from pipeline.engine.audit import AuditRunner
from pipeline.engine.telemetry import Histogram, Rate
from pipeline.engine.ticket import Lease, Ticket

Emit = Callable[[Ticket, Outcome], None]
Mark = Callable[[Outcome], Outcome]
Judged = tuple[Array, Result]

LIVE_BUDGET_NS = 5_000_000_000
"""A live window that has no verdict after this long is shed even where the user set no budget: order and bounds need
an end to every wait."""


_HELD_POLL_S = 0.005
_MOST_SETTLED = 64  # windows with a verdict that wait for their turn: their pictures may still be held for a sink
_NOTEWORTHY_NS = 1_000_000


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
        audit: AuditRunner | None = None,
        mark: Mark | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`mark` has a last look at each outcome: what it makes of it is what leaves, and what is answered."""
        self.name = name
        self.cascade = cascade
        self.generation = generation
        self.budget_ns = budget_ns
        self.block = block
        self._linger_ns = linger_ns
        self._most = in_flight
        self._longest_line = in_flight + _MOST_SETTLED
        self._emit = emit
        self._mark = mark
        self.audit = audit
        self.tracer = tracer
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._line: deque[Ticket] = deque()  # every window that was admitted and has not left, in order
        self._unsettled = 0  # of these
        self._closed = self._over = False
        self.fan_in = threading.Lock()  # of the regions of this stream's windows
        self.judged: deque[Judged] = deque(maxlen=64)
        """What stages judged lately, for the gate: filled here, emptied by the intake."""

        self.state = SourceState.CONNECTING
        self.detail = ""
        self.connects = 0
        self._outages, self._outage_s = 0, 0.0
        self._received = self._sampled_out = self._windows = self._results = self._failed = self._flagged = 0
        self._gaps: Counter[str] = Counter()
        self._shed: Counter[str] = Counter()
        self._decided: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._latency = Histogram()
        self._received_rate, self._outcome_rate = Rate(), Rate()

    # What comes in.

    def gap(self, gap: Gap) -> None:
        with self._lock:
            if self._over:
                return
            self._received += gap.count
            self._gaps[gap.reason] += gap.count
            self._verdicts["unknown"] += gap.count

    def sampled_out(self) -> None:
        with self._lock:
            if self._over:
                return
            self._received += 1
            self._sampled_out += 1

    def missed(self, outage: Outage) -> None:
        with self._lock:
            self._outages += 1
            self._outage_s += (outage.end_wall_ns - outage.start_wall_ns) / 1e9

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
        """Whether no further window can come before one is settled or leaves."""
        return self._unsettled >= self._most or len(self._line) >= self._longest_line

    def admit(
        self,
        window: Window,
        lease: Lease | None = None,
        sample: Array | None = None,
        *,
        outcome: Outcome | None = None,
        toss: float | None = None,
        answer: Callable[[Outcome], None] | None = None,
        place: Place | None = None,
        size: tuple[int, int] | None = None,
        trace: Trace | None = None,
    ) -> Ticket:
        """A received frame becomes a window: one that is to be judged, or one that has its `outcome` already.

        `lease` holds its picture for stages and sinks to come; `sample` is what a gate will want to know it by, `size`
        that of its picture; with a `toss`, the lease has a holder for the audit. The ticket may come back settled:
        there was no room at all, or it is too late already.
        """
        ticket = Ticket(self, window)
        ticket.lease = lease
        ticket.sample = sample
        ticket.toss = toss
        ticket.answer = answer
        ticket.place = place
        ticket.size = size
        ticket.trace = trace
        ticket.linger_ns = self._linger_ns if self._windows else 0  # the very first verdict is waited for
        if self.budget_ns is not None:
            ticket.deadline_ns = window.mono_ns + self.budget_ns
        with self._lock:
            if self._over:
                self._turn_away(ticket)
                return ticket
            self._received += 1
            self._windows += 1
            self._unsettled += 1
            now = time.monotonic_ns()
            if not self.block and self.full:
                self._make_room(now)
            self._line.append(ticket)
            if self._closed:
                self._drop(ticket, now, ShedReason.SHUTDOWN)
            elif outcome is not None:
                self._set(ticket, outcome)
            elif ticket.deadline_ns is not None and ticket.deadline_ns <= now:
                self._drop(ticket, now, ShedReason.DEADLINE)
            elif self._unsettled > self._most and not self.block:
                victim = next((t for t in self._line if t.outcome is None and not t.running), ticket)
                self._drop(victim, now, ShedReason.OVERLOAD)
            self._leave()
        return ticket

    def _turn_away(self, ticket: Ticket) -> None:
        """The books are closed: its reader was stuck in the very moment in which the stream was removed."""
        ticket.outcome = Shed(ticket.window, time.monotonic_ns(), ShedReason.SHUTDOWN)
        if ticket.answer is not None:
            ticket.answer(ticket.outcome)
        if self.audit is not None:
            self.audit.left(ticket, ticket.outcome)
        if ticket.lease is not None:
            ticket.lease.payload.release()

    def _make_room(self, now_ns: int) -> None:
        """The line is as long as it may get: the window at its head, which all others wait for, goes."""
        if len(self._line) >= self._longest_line:
            self._drop(self._line[0], now_ns, ShedReason.OVERLOAD)
            self._leave()

    def _drop(self, ticket: Ticket, now_ns: int, reason: ShedReason) -> None:
        """Its place in the line stays until its turn; what it holds goes at once, unless it may be audited."""
        self._set(ticket, Shed(ticket.window, now_ns, reason))
        if ticket.lease is not None and ticket.toss is None:
            ticket.lease.payload.release()

    def _set(self, ticket: Ticket, outcome: Outcome) -> None:
        ticket.outcome = outcome
        ticket.view = None
        self._unsettled -= 1

    # What goes out.

    def settle(self, ticket: Ticket, outcome: Outcome) -> bool:
        """Give a window its outcome. The first one stands: False means that it had one (it was shed as late).

        A verdict that comes after the deadline is none: no outcome is ever both late and a result.
        """
        with self._lock:
            if ticket.outcome is not None:
                return False
            if ticket.deadline_ns is not None and outcome.done_ns > ticket.deadline_ns:
                self._drop(ticket, outcome.done_ns, ShedReason.DEADLINE)
                self._leave()
                return False
            self._set(ticket, outcome)
            if ticket.sample is not None and isinstance(outcome, Result):
                self.judged.append((ticket.sample, outcome))
            self._leave()
            return True

    def _leave(self) -> None:
        """Whatever at the head of the line is settled leaves, in order. The lock is held."""
        line = self._line
        if not line or line[0].outcome is None:
            self._room.notify_all()  # a verdict frees a place even where it has to wait for its turn
            return
        now = time.monotonic_ns()
        while line and (outcome := line[0].outcome) is not None:
            ticket = line.popleft()
            trace = ticket.trace
            if trace is None and self.tracer is not None and isinstance(outcome, Failed):
                trace = ticket.trace = self.tracer.failed(ticket.window)
            if now - outcome.done_ns > _NOTEWORTHY_NS:  # it waited for an older one: that, too, is latency
                if trace is not None:
                    trace.note("order", outcome.done_ns, now)
                outcome = replace(outcome, done_ns=now)
            if self._mark is not None:
                outcome = self._mark(outcome)
            self._count(outcome)
            self._emit(ticket, outcome)
            if trace is not None:
                trace.left(outcome, now)
            if ticket.answer is not None:
                ticket.answer(outcome)
            if self.audit is not None:
                self.audit.left(ticket, outcome)
            if ticket.lease is not None:
                ticket.lease.drop()
            if ticket.then is not None:
                ticket.then()
        self._room.notify_all()

    def _count(self, outcome: Outcome) -> None:
        self._verdicts[outcome.verdict] += 1
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
                self._drop(ticket, now_ns, ShedReason.DEADLINE)
            self._leave()
            return following

    def after_last(self, then: Callable[[], None]) -> None:
        """Call `then`, under the lock, behind the last window that is inside now: at once if there is none."""
        with self._lock:
            if self._line:
                self._line[-1].then = then
            else:
                then()

    def if_empty(self, then: Callable[[], None]) -> None:
        """Call `then`, under the lock, if no window is inside."""
        with self._lock:
            if not self._line:
                then()

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
                    self._drop(ticket, now, ShedReason.SHUTDOWN)
            self._leave()
            self._room.notify_all()

    def end(self, now_s: float) -> StreamSnapshot:
        """What it has counted, once it is closed and empty; it counts nothing more."""
        with self._lock:
            self._over = True
        return self.snapshot(now_s)

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
                outages=self._outages,
                outage_s=self._outage_s,
                shed=dict(self._shed),
                decided_by=dict(self._decided),
                verdicts=dict(self._verdicts),
                latency=self._latency.latency(),
            )
