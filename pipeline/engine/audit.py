"""The audit of one generation while it runs: windows that a coin picked are judged once more, whole, after their
outcome was emitted. What was emitted stands.

The audit has a thread, a queue and a stage of its own, so nothing live ever stands behind it. While live work waits,
the thread rests after each picture for so long that audits take a small share of its time and no more; else it goes on.
What it may hold is bounded: a window that finds no place is counted as one that may have been anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.core.contracts import Auditor, Word
from pipeline.core.records import Audit, Findings, Outcome, Result, Shed, ShedReason
from pipeline.core.secrets import redact
from pipeline.core.snapshot import AuditSnapshot
from pipeline.engine.telemetry import Rate
from pipeline.engine.ticket import Lease, Ticket

log = logging.getLogger(__name__)

SAVE_S = 3.0  # how much a sudden end may forget of what is counted all the time
SAVE_SOON_S = 0.25  # and of what was found: there is little of that, but it may come at once
_POLL_S = 0.005  # between two looks at whether live work waits
_MOST_KNOWN = 4096  # words that wait to be counted; they are small


@dataclass(frozen=True, slots=True)
class _Picked:
    """A window that is to be judged once more."""

    outcome: Outcome
    lease: Lease
    p: float
    can_wait: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """A window whose whole picture the heavy stage has seen in the ordinary course of things."""

    outcome: Outcome
    findings: Findings


Deliver = Callable[[Audit, Outcome, Lease, bool], None]


class AuditRunner:
    """`busy` says whether live work waits, `deliver` hands an audit to the sinks; `trip` is called once, when the alarm
    goes off. Thread-safe.

    Two locks: one for what the live path touches, held for moments; one for the auditor's book, which may be held as
    long as a bound takes to compute or a disk to write.
    """

    def __init__(
        self, cascade: str, generation: str, auditor: Auditor, *, busy: Callable[[], bool], deliver: Deliver
    ) -> None:
        self.auditor = auditor
        self.trip: Callable[[], None] = lambda: None
        self._cascade, self._generation = cascade, generation
        self._least = auditor.share(None)
        self._busy, self._deliver = busy, deliver
        self._changed = threading.Condition()
        self._reserve: deque[_Picked] = deque()
        self._known: deque[_Known] = deque()
        self._claimed = 0  # places of the reserve, by windows on their way of streams that can wait
        self._in_hand: _Picked | _Known | None = None
        self._over = self._closing = self._ended = False
        self._picked = self._audited = self._units = 0
        self._skipped: Counter[str] = Counter()
        self._due: Counter[float] = Counter()  # words that nobody has heard yet, by p
        self._news = _News()
        self._book = threading.Lock()
        self._unsaved = False
        self._problem = ""
        self._saved_s = self._save_at_s = time.monotonic()
        self._rest_until_s = self._complained_s = 0.0
        self._rate = Rate()
        self._thread = threading.Thread(target=self._run, name=f"audit-{cascade}", daemon=True)

    # What the live path calls.

    def toss(self, unit: str) -> float | None:
        """The unit's toss where its picture has to be kept until it is known whether it is audited."""
        return None if self._over else self.auditor.toss(unit)

    def claim(self, *, at_once: bool = False) -> bool:
        """A place in the reserve, for a window with a toss of a stream that can wait; whether there is one. `at_once`:
        it has waited long enough."""
        with self._changed:
            if self._full() and not at_once and not self._over:
                return False
            self._claimed += 1
            return True

    def left(self, ticket: Ticket, outcome: Outcome) -> None:
        """A window leaves, under its stream's lock. Its lease has one holder for the audit where it has a toss."""
        kept = False
        if ticket.toss is not None and ticket.stream.block:
            with self._changed:
                self._claimed -= 1
        if not self._over and not (isinstance(outcome, Shed) and outcome.reason == ShedReason.SHUTDOWN):
            kept = self._take(ticket, outcome)  # the end of the program says nothing about the cascade: no unit
        if not kept and ticket.toss is not None and ticket.lease is not None:
            ticket.lease.drop()

    def _take(self, ticket: Ticket, outcome: Outcome) -> bool:
        """Count it; whether its picture is kept."""
        result = isinstance(outcome, Result)
        word = ticket.heavy[0] if result and ticket.saw_whole else None
        p = None if ticket.toss is None else self._share(ticket)
        with self._changed:
            if self._over:
                return False
            self._units += 1
            self._news.units += 1
            self._news.reported += isinstance(outcome, Result) and outcome.flagged
            if word is not None:
                if len(self._known) < _MOST_KNOWN:
                    self._known.append(_Known(outcome, word))
                    self._due[1.0] += 1
                    self._changed.notify()
                else:
                    self._news.unseen[1.0] += 1
                return False
            picked = ticket.toss is not None and (p is None or ticket.toss < p)
            return picked and self._pick(ticket, outcome, p)

    def _pick(self, ticket: Ticket, outcome: Outcome, share: float | None) -> bool:
        """Whether its picture is kept. Where its share is not to be had, it counts as the rarest pick would. The lock
        is held."""
        p = self._least if share is None else share
        self._picked += 1
        self._due[p] += 1
        if share is None:
            self._skip("fault", p)
        elif ticket.lease is None:
            self._skip("no picture", p)
        elif self._closing or self._full():
            self._skip("no room", p)
        else:
            self._reserve.append(_Picked(outcome, ticket.lease, p, ticket.stream.block))
            self._changed.notify()
            return True
        return False

    def _share(self, ticket: Ticket) -> float | None:
        """None where the auditor fails. It is the stream's thread that asks: that must not fall over an audit."""
        try:
            return self.auditor.share(ticket.cheap)
        except Exception as error:  # noqa: BLE001 a rule may be a third party's
            self._complain(error)
            return None

    def _waiting(self) -> int:
        return self._picked - self._audited - self._skipped.total()

    def _skip(self, reason: str, p: float) -> None:
        self._skipped[reason] += 1
        self._unseen(p)

    def _unseen(self, p: float) -> None:
        """A word that was due, and will not be had."""
        self._due[p] -= 1
        self._news.unseen[p] += 1

    def _full(self) -> bool:
        return len(self._reserve) + self._claimed >= self.auditor.reserve

    def drained(self) -> bool:
        with self._changed:
            return not self._reserve and not self._known and self._in_hand is None

    # Running it.

    def open(self) -> None:
        """Take up what was known, and begin. Raises `InputError`."""
        self.auditor.open()
        if self.auditor.alarm:
            self._end()
        self._thread.start()

    def join(self, end_s: float) -> None:
        """No window will leave any more. Wait until all that were picked were looked at, until `end_s` by the monotonic
        clock; what is left then counts as unseen. Safe twice and without `open`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(max(0.0, end_s - time.monotonic()))
        with self._changed:
            if self._ended:
                return
            self._ended = True  # whatever a stage that hangs may still say
            left = list(self._reserve)
            self._reserve.clear()
            for one in left:
                self._skip("no time", one.p)
            if isinstance(self._in_hand, _Picked) and self._waiting():
                self._skip("no time", self._in_hand.p)
            known = list(self._known)
            self._known.clear()
        for one in left:
            one.lease.drop()
        for word in known:  # behind a stage that hangs; to count them takes no stage
            self._count(word)
        with self._book:
            if self._thread.ident is not None:
                self._enter()
                self._save()
            self.auditor.close()

    def _run(self) -> None:
        """Whatever happens, it goes on: without it, every pick from then on would wait for good."""
        while True:
            try:
                job = self._next()
                if job is None:
                    return
                self._do(job)
            except Exception as error:  # noqa: BLE001 what is known to fail is dealt with where it does
                self._complain(error)
                time.sleep(_POLL_S)
            finally:
                with self._changed:
                    self._in_hand = None

    def _do(self, job: _Picked | _Known) -> None:
        if isinstance(job, _Known):
            self._count(job)
        else:
            began = time.monotonic()
            try:
                self._look(job)
            finally:
                job.lease.drop()
                took = time.monotonic() - began
                self._rest_until_s = began + took / self.auditor.effort
        if self.auditor.alarm and not self._over:
            self._end()

    def _next(self) -> _Picked | _Known | None:
        """What is to be done next; waits for it. None at the end."""
        while True:
            with self._changed:
                if self._ended:
                    return None
                if self._known:
                    self._in_hand = self._known.popleft()
                elif self._reserve and self._may_look():
                    self._in_hand = self._reserve.popleft()
                elif self._closing and not self._reserve:
                    return None
                else:
                    due_s = max(0.0, self._save_at_s - time.monotonic())
                    self._changed.wait(min(_POLL_S, due_s) if self._reserve else due_s)
                found = self._in_hand
            if time.monotonic() >= self._save_at_s:
                with self._book:
                    self._enter()
                    self._save()
            if found is not None:
                return found

    def _may_look(self) -> bool:
        return self._closing or time.monotonic() >= self._rest_until_s or not self._busy()

    def _count(self, known: _Known) -> None:
        try:
            word = self.auditor.word(known.findings, known.outcome)
        except Exception as error:  # noqa: BLE001 a rule may be a third party's
            self._complain(error)
            with self._changed:
                self._unseen(1.0)
            return
        with self._book:
            with self._changed:
                self._due[1.0] -= 1
            if not self._heard(word, 1.0, audited=False):
                with self._changed:
                    self._due[1.0] += 1
                    self._unseen(1.0)

    def _look(self, picked: _Picked) -> None:
        outcome, auditor = picked.outcome, self.auditor
        try:
            view = picked.lease.payload.view(auditor.stage.spec)
            (findings,) = auditor.stage.score([view])
            word = auditor.word(findings, outcome)
        except Exception as error:  # noqa: BLE001 whatever a picture or a model raises: this one was not seen
            self._complain(error)
            with self._changed:
                if not self._ended:
                    self._skip("fault", picked.p)
            return
        with self._book:
            with self._changed:
                if self._ended:
                    return
                self._audited += 1
                self._due[picked.p] -= 1
            if not self._heard(word, picked.p, audited=True):
                with self._changed:
                    self._audited -= 1
                    self._due[picked.p] += 1
                    self._skip("fault", picked.p)
                return
        if word.detections:
            self._save_at_s = min(self._save_at_s, self._saved_s + SAVE_SOON_S)
        self._deliver(self._record(picked, word), outcome, picked.lease, picked.can_wait)

    def _record(self, picked: _Picked, word: Word) -> Audit:
        return Audit(
            window=picked.outcome.window,
            done_ns=time.monotonic_ns(),
            generation=self._generation,
            outcome=picked.outcome.kind,
            p=picked.p,
            reported=word.reported,
            detections=word.detections,
        )

    def _end(self) -> None:
        """The alarm went off: the path that was audited is no more."""
        with self._changed:
            self._over = True
            left = list(self._reserve)
            self._reserve.clear()
            self._known.clear()
            if left:
                self._skipped["alarm"] += len(left)  # their words stay due: nothing was proved of them
        for one in left:
            one.lease.drop()
        self.trip()
        with self._book:
            self._enter()
            self._unsaved = True
            self._save()
        log.error(
            "%s %s. From now on the heavy stage sees every window whole; what it has no time for is not trusted. It"
            " stays so until another generation is loaded",
            self._generation,
            _WHY.get(self.auditor.alarm, self.auditor.alarm),
        )

    # Its book. The lock is held.

    def _enter(self) -> None:
        """What the live path has counted since the last time, and what is due by now."""
        with self._changed:
            news, self._news = self._news, _News()
            due = +self._due
        self._unsaved |= bool(news.units or news.unseen)
        try:
            self.auditor.waiting(due)
            self.auditor.left(news.units, news.reported)
            news.units = news.reported = 0
            while news.unseen:
                p, count = next(iter(news.unseen.items()))
                self.auditor.unseen(p, count)
                del news.unseen[p]
        except Exception as error:  # noqa: BLE001 what did not get in is tried again
            self._complain(error)
            with self._changed:
                self._news.units += news.units
                self._news.reported += news.reported
                self._news.unseen += news.unseen

    def _heard(self, word: Word, p: float, *, audited: bool) -> bool:
        """Enter a word; whether it got in."""
        self._enter()
        self._unsaved = True
        try:
            self.auditor.heard(word, p, audited=audited)
        except Exception as error:  # noqa: BLE001 then it is as if nobody had looked
            self._complain(error)
            return False
        return True

    def _save(self) -> None:
        """If there is anything new. What cannot be saved now is tried again."""
        self._saved_s = time.monotonic()
        self._save_at_s = self._saved_s + SAVE_S
        if not self._unsaved:
            return
        try:
            self.auditor.save()
        except Exception as error:  # noqa: BLE001 a full disk, or whatever an auditor raises
            reason = redact(getattr(error, "strerror", None) or error)
            if reason != self._problem:
                log.error("%s: what its audit found cannot be saved: %s", self._cascade, reason)
            self._problem = reason
        else:
            self._unsaved, self._problem = False, ""

    def _complain(self, error: Exception) -> None:
        """At most once a second."""
        now = time.monotonic()
        if now - self._complained_s >= 1.0:
            self._complained_s = now
            log.warning("%s: a window could not be audited: %s", self._cascade, redact(error))

    def snapshot(self, now_s: float) -> AuditSnapshot:
        with self._book:
            with self._changed:
                picked, audited, waiting = self._picked, self._audited, self._waiting()
                units, skipped = self._units, dict(self._skipped)
            self._enter()
            return AuditSnapshot(
                cascade=self._cascade,
                generation=self._generation,
                picked=picked,
                audited=audited,
                waiting=waiting,
                report=self.auditor.report(self._rate.per_s(now_s, units)),
                skipped=skipped,
                problem=self._problem,
            )


_WHY = {
    "broken": "is proved to miss more than it may",
    "drift": "has begun to miss more than it may",
}


@dataclass(slots=True)
class _News:
    """What is counted where nothing may be held up, until it is entered in the book."""

    units: int = 0
    reported: int = 0
    unseen: Counter[float] = field(default_factory=Counter)
