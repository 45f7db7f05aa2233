"""What is known of a window while it is inside the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from pipeline.core.media import Key, Payload, View
from pipeline.core.records import Array, Findings, Outcome, Region, Window

if TYPE_CHECKING:
    from pipeline.core.places import Place
    from pipeline.core.traces import Trace
    from pipeline.engine.stream import Stream


class Lease:
    """Holds a payload until its last user is done with it."""

    __slots__ = ("_holders", "_lock", "payload")

    def __init__(self, payload: Payload, holders: int) -> None:
        self.payload = payload
        self._holders = holders
        self._lock = Lock()

    def hold(self) -> None:
        """One user more; to be called by one who holds it."""
        with self._lock:
            self._holders += 1

    def drop(self) -> None:
        """One user is done."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.payload.release()


class Ticket:
    """One window on its way."""

    __slots__ = (
        "alone",
        "answer",
        "cheap",
        "deadline_ns",
        "heavy",
        "key",
        "lease",
        "linger_ns",
        "opened",
        "outcome",
        "pending",
        "place",
        "regions",
        "running",
        "sample",
        "size",
        "stream",
        "then",
        "toss",
        "trace",
        "view",
        "window",
    )  # fmt: skip

    def __init__(self, stream: Stream, window: Window) -> None:
        self.stream = stream
        self.window = window
        self.lease: Lease | None = None
        self.sample: Array | None = None
        self.size: tuple[int, int] | None = None  # of its picture, in pixels
        self.deadline_ns: int | None = None
        self.linger_ns = 0
        self.alone = True  # nothing that was there before is in it
        self.answer: Callable[[Outcome], None] | None = None  # who waits for its outcome
        self.place: Place | None = None  # where its source goes on behind it
        self.key: Key | None = None  # what its verdict is remembered by
        self.trace: Trace | None = None  # what is noted of its way, where somebody asked for that
        self.toss: float | None = None  # its toss of the audit's coin, where that may pick it

        self.outcome: Outcome | None = None
        self.view: View | None = None  # what the cheap stage sees; gone once the window is settled
        self.then: Callable[[], None] | None = None  # to be called when it has left
        self.running = False  # a stage has it in hand: it can no longer be shed for want of room
        self.cheap: Findings | None = None
        self.regions: tuple[Region | None, ...] = ()
        self.heavy: list[Findings | None] = []
        self.pending = 0
        self.opened = False  # the rule had no say in what the heavy stage sees: all of it

    @property
    def saw_whole(self) -> bool:
        """Whether the heavy stage has judged the whole window."""
        return len(self.heavy) == 1 and self.regions[0] is None and self.heavy[0] is not None

    def collect(self, index: int, findings: Findings) -> bool:
        """One region came back; whether it was the last."""
        with self.stream.fan_in:
            self.heavy[index] = findings
            self.pending -= 1
            return self.pending == 0


class Job:
    """One view that waits for a stage: of the window, or of the region with this index that a rule asked for."""

    __slots__ = ("can_wait", "index", "launch_ns", "since_ns", "ticket", "urgency_ns")

    def __init__(self, ticket: Ticket, index: int, now_ns: int) -> None:
        self.ticket = ticket
        self.index = index
        self.since_ns = now_ns
        # Where the stream has no place left, no other window of it can come to fill the batch: then why linger?
        self.launch_ns = now_ns if ticket.stream.full else now_ns + ticket.linger_ns
        # A deadline is when a window is given up; what is live is wanted long before. What can wait gets what is left,
        # and a little of the rest (see `StageQueue`).
        self.can_wait = ticket.stream.block and ticket.deadline_ns is None
        soon_ns = now_ns + NEVER_NS if self.can_wait else ticket.window.mono_ns + LIVE_NS
        self.urgency_ns = soon_ns if ticket.deadline_ns is None else min(soon_ns, ticket.deadline_ns)

    def __lt__(self, other: Job) -> bool:
        return self.urgency_ns < other.urgency_ns


LIVE_NS = 250_000_000
NEVER_NS = 1 << 60
