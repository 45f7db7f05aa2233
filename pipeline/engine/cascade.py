"""Runs one generation: batches of views through the cheap stage, what its rule escalates through the heavy one.

Rules decide and stages score; this module only carries. A stage that raises on a batch is asked again view by view, so
that one bad view fails one window. One that hangs fails the windows it has in hand; another thread takes the place of
the one that is stuck.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.core.contracts import Clear, Decision, Escalate, Flag, Generation, Stage
from pipeline.core.errors import StageError, let_go
from pipeline.core.media import View
from pipeline.core.records import Array, Failed, Findings, Result
from pipeline.core.secrets import redact
from pipeline.core.snapshot import StageSnapshot
from pipeline.core.traces import Trace
from pipeline.engine.audit import AuditRunner
from pipeline.engine.stage_queue import StageQueue
from pipeline.engine.ticket import Job, Ticket
from pipeline.engine.verdicts import VerdictCache

log = logging.getLogger(__name__)

HANGING_S = 10.0
_GIVEN_UP_S = 30.0  # a large model may be slow, and a machine busy; and no less than …
_GIVEN_UP_TIMES = 10  # … so many times what a batch usually takes
_FEW = 16
_MOST_STUCK = 3  # threads that hang, and cannot be ended
_MOST_REGIONS = 1024  # of one window: a rule may be a third party's, and go on asking

Answer = Findings | str
"""What a stage made of one view: findings, or why there are none."""


class CascadeRunner:
    """The queues and workers of one generation. `name` is the cascade's.

    Its audit may find that it misses more than it may. From then on (`opened_ns`, by the monotonic clock; 0 before) the
    heavy stage judges every window whole, as far as it has time, and what it did not see whole is not trusted.
    """

    def __init__(self, name: str, generation: Generation, audit: AuditRunner | None = None) -> None:
        self.name = name
        self.generation = generation
        self.audit = audit
        self.opened_ns = 0
        self.cache = VerdictCache(generation.remembers) if generation.remembers else None
        if audit is not None:
            audit.trip = self._fail_open
        self._cheap = _StageRunner(generation.cheap, _whole, self._cheap_done)
        self._heavy = None if generation.heavy is None else _StageRunner(generation.heavy, _crop, self._heavy_done)
        if self._heavy is not None:
            self._cheap.following = self._heavy.following = self._heavy.queue  # a rule may look in rounds

    @property
    def keeps_pictures(self) -> bool:
        """Whether a picture is needed after its first view was made."""
        return self._heavy is not None

    def start(self) -> None:
        for runner in self._runners():
            runner.start()

    def submit(self, ticket: Ticket, view: View) -> None:
        """The window's view waits for the cheap stage from now on."""
        ticket.view = view
        self._cheap.queue.put((Job(ticket, 0, time.monotonic_ns()),))

    def stop(self) -> None:
        for runner in self._runners():
            runner.queue.close()

    def watch(self, now_s: float, paused_s: float = 0.0) -> None:
        """Give up batches that take for ever. Called about once a second; `paused_s` is for how long the whole process
        has stood still meanwhile."""
        for runner in self._runners():
            runner.watch(now_s, paused_s)

    @property
    def hangs(self) -> bool:
        """Whether a stage is at one batch for so long that it will hardly come back."""
        return any(runner.hangs for runner in self._runners())

    def snapshots(self, elapsed_s: float) -> list[StageSnapshot]:
        return [runner.snapshot(self.name, self.generation.id, elapsed_s) for runner in self._runners()]

    def busy(self) -> bool:
        """Whether a view waits for a stage, or is in hand."""
        return any(runner.busy() for runner in self._runners())

    def _fail_open(self) -> None:
        self.opened_ns = time.monotonic_ns()

    def _runners(self) -> list[_StageRunner]:
        return [self._cheap] if self._heavy is None else [self._cheap, self._heavy]

    def _cheap_done(self, job: Job, findings: Findings) -> Sequence[Job]:
        ticket = job.ticket
        ticket.cheap = findings
        if self.opened_ns and self._has_time(ticket):
            ticket.opened = True
            return self._escalate(ticket, Escalate())
        decision = self.generation.rule.decide(findings)
        if isinstance(decision, Escalate):
            if not self.opened_ns:
                return self._escalate(ticket, decision)
            decision = Clear()  # which nobody will take for one, for it is not trusted
        self._settle(ticket, decision, self.generation.cheap.name)
        return ()

    def _reads_context(self, stage: str) -> bool:
        """Whether any stage up to that one sees what was there before."""
        heavy = self.generation.heavy
        asked = heavy is not None and stage == heavy.name and heavy.spec.reads_context
        return asked or self.generation.cheap.spec.reads_context

    def _has_time(self, ticket: Ticket) -> bool:
        """Whether the heavy stage can be expected to judge it before it would be shed."""
        if self._heavy is None or (ticket.stream.full and not ticket.stream.block):
            return False
        return self._heavy.queue.in_time(ticket.deadline_ns, self._heavy.stage.workers)

    def _escalate(self, ticket: Ticket, decision: Escalate) -> Sequence[Job]:
        if self._heavy is None:
            raise StageError("the rule asks for a heavy stage and there is none")
        regions = decision.regions or (None,)
        first = len(ticket.regions)
        if first + len(regions) > _MOST_REGIONS:
            raise StageError(f"the rule asks for more than {_MOST_REGIONS} looks at one window")
        ticket.regions += regions
        ticket.heavy += [None] * len(regions)
        ticket.pending = len(regions)
        ticket.running = False
        now = time.monotonic_ns()
        return [Job(ticket, first + index, now) for index in range(len(regions))]

    def _heavy_done(self, job: Job, findings: Findings) -> Sequence[Job]:
        ticket = job.ticket
        if ticket.collect(job.index, findings):
            assert ticket.cheap is not None
            assert self.generation.heavy is not None
            heavy = [found for found in ticket.heavy if found is not None]
            verdict: Decision | None = self._judged_whole(ticket.cheap, heavy) if ticket.opened else None
            verdict = verdict or self.generation.rule.merge(ticket.cheap, heavy)
            if isinstance(verdict, Escalate):
                return self._escalate(ticket, verdict)
            self._settle(ticket, verdict, self.generation.heavy.name)
        return ()

    def _judged_whole(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag | None:
        return None if self.audit is None else self.audit.auditor.whole(cheap, heavy[0])

    def _settle(self, ticket: Ticket, verdict: object, stage: str) -> None:
        if not isinstance(verdict, (Clear, Flag)):  # a rule may be a third party's
            raise StageError(f"the rule gave {type(verdict).__name__}, which is no verdict")
        if not all(math.isfinite(one.score + sum(one.box or ())) for one in verdict.detections):
            raise StageError("a detection's numbers are not finite")
        heavy = self.generation.heavy
        of_context = heavy is not None and stage == heavy.name and heavy.spec.reads_context and not ticket.alone
        result = Result(
            window=ticket.window,
            done_ns=time.monotonic_ns(),
            decided_by=stage,
            generation=self.generation.id,
            detections=verdict.detections,
            flagged=isinstance(verdict, Flag),
            # the units of a proof come without what was said before, so it is silent on verdicts that knew of it
            certified=self.generation.certified and not self.opened_ns and not of_context,
            trusted=not self.opened_ns or ticket.saw_whole,
        )
        settled = ticket.stream.settle(ticket, result)
        if settled and self.cache is not None and ticket.key is not None and not of_context:
            self.cache.remember(ticket.key, result, for_alone=self._reads_context(stage))


def _fail(ticket: Ticket, reason: str) -> None:
    ticket.stream.settle(ticket, Failed(ticket.window, time.monotonic_ns(), reason))


def _finite(scores: Array) -> bool:
    """Whether all of them are numbers. Numpy's own cost is more than what there is to do for a few."""
    return math.isfinite(sum(scores.tolist()) if scores.size <= _FEW else scores.sum())


def _whole(job: Job, stage: Stage) -> View:
    """The cheap stage's view, made when the window was admitted."""
    if job.ticket.view is None:
        raise StageError("the window was settled meanwhile")
    return job.ticket.view


def _crop(job: Job, stage: Stage) -> View:
    """A view of the region that the rule asked for, made from the leased picture."""
    ticket = job.ticket
    if ticket.lease is None:
        raise StageError("the picture is not held")
    region = ticket.regions[job.index]
    view: View = ticket.lease.payload.view(stage.spec, None if region is None else region.box)
    return view


@dataclass(slots=True)
class _InHand:
    """A batch that a worker is at, and since when."""

    jobs: Sequence[Job]
    began_s: float


class _StageRunner:
    """A stage's queue and its worker threads. `done` takes a job with its findings and gives the jobs that follow for
    the next stage; whatever it raises fails that window alone."""

    def __init__(
        self,
        stage: Stage,
        look: Callable[[Job, Stage], View],
        done: Callable[[Job, Findings], Sequence[Job]],
    ) -> None:
        self.stage = stage
        self.queue = StageQueue(stage.max_batch)
        self.following: StageQueue | None = None
        self._look = look
        self._done = done
        self._complained = 0.0
        self._lock = threading.Lock()
        self._started = 0
        self._in_hand: dict[int, _InHand] = {}  # by worker
        self._stuck: set[int] = set()  # workers that were given up
        self.hangs = False

    def start(self) -> None:
        for _ in range(self.stage.workers):
            self._start_worker()

    def _start_worker(self) -> None:
        worker, self._started = self._started, self._started + 1
        threading.Thread(target=self._work, args=(worker,), name=f"{self.stage.name}-{worker}", daemon=True).start()

    def _work(self, worker: int) -> None:
        while jobs := self.queue.take():
            began = time.monotonic()
            with self._lock:
                self._in_hand[worker] = _InHand(jobs, began)
            answers = self._judge(jobs)
            errors = sum(isinstance(answer, str) for answer in answers)
            with self._lock:
                self._in_hand.pop(worker, None)
                given_up = worker in self._stuck
                self._stuck.discard(worker)
            if given_up:  # its windows have failed, and somebody else does its work
                return
            self.queue.served(time.monotonic() - began, len(jobs), errors)
            self._hand_on(jobs, answers, int(began * 1e9), worker)

    def _hand_on(self, jobs: Sequence[Job], answers: Sequence[Answer], began_ns: int, worker: int) -> None:
        following: list[Job] = []
        for job, answer in zip(jobs, answers, strict=True):
            ticket = job.ticket
            tracer = ticket.stream.tracer
            if tracer is not None and ticket.trace is None and ticket.outcome is None and isinstance(answer, str):
                ticket.trace = tracer.failed(ticket.window)
            if ticket.trace is not None:
                self._note(ticket.trace, job, began_ns, f"{self.stage.name}-{worker}-{began_ns}", len(jobs))
            if isinstance(answer, str):
                _fail(job.ticket, answer)  # one region unseen is a window not judged
                continue
            try:
                following += self._done(job, answer)
            except Exception as error:  # noqa: BLE001 a rule may be a third party's: its fault is this window's, no more
                self._complain(error)
                _fail(job.ticket, f"rule: {redact(error)}")
                let_go(error)
        if following and self.following is not None:
            self.following.put(following)

    def _note(self, trace: Trace, job: Job, began_ns: int, batch: str, size: int) -> None:
        name = self.stage.name
        trace.note("queue", job.since_ns, max(began_ns, job.since_ns), name)
        trace.note("stage", began_ns, time.monotonic_ns(), name, batch=batch, batch_size=size, region=job.index)

    def _judge(self, jobs: Sequence[Job]) -> list[Answer]:
        views: list[View] = []
        where: list[int] = []
        answers: list[Answer] = [""] * len(jobs)
        for i, job in enumerate(jobs):
            try:
                views.append(self._look(job, self.stage))
                where.append(i)
            except Exception as error:  # noqa: BLE001 whatever a decoder's frame may raise is this window's failure
                answers[i] = f"{self.stage.name}: no view could be made: {redact(error)}"
                let_go(error)
        if views:
            for i, answer in zip(where, self._score(views), strict=True):
                answers[i] = answer
        return answers

    def _score(self, views: Sequence[View]) -> Sequence[Answer]:
        try:
            findings = self.stage.score(views)
            if len(findings) != len(views):
                raise StageError(f"gave {len(findings)} answers for {len(views)} views")
            for one in findings:
                if not _finite(one.scores):  # which no threshold would notice
                    raise StageError("the model answered with numbers that are not finite")
            return findings
        except Exception as error:  # noqa: BLE001 a model may raise anything; the window fails, the stage lives on
            if len(views) > 1:
                let_go(error)
                return [answer for view in views for answer in self._score([view])]
            self._complain(error)
            let_go(error)
            return [f"{self.stage.name}: {redact(error)}"]

    def _complain(self, error: Exception) -> None:
        """Failures are counted one by one and logged at most once a second."""
        now = time.monotonic()
        if now - self._complained >= 1.0:
            self._complained = now
            detail = log.isEnabledFor(logging.DEBUG)
            log.warning("%s could not judge: %s", self.stage.name, redact(error), exc_info=detail)

    def busy(self) -> bool:
        return bool(self.queue.waiting() or len(self._in_hand) > len(self._stuck))

    def watch(self, now_s: float, paused_s: float) -> None:
        """Does any batch take for ever? No batch is blamed for a time in which the whole process stood still."""
        with self._lock:
            for one in self._in_hand.values():
                one.began_s += paused_s
            working = {worker: one for worker, one in self._in_hand.items() if worker not in self._stuck}
            oldest_s = now_s - min((one.began_s for one in self._in_hand.values()), default=now_s)
            patience_s = max(_GIVEN_UP_S, _GIVEN_UP_TIMES * self.queue.usual_s)
            lost = {worker: one for worker, one in working.items() if now_s - one.began_s > patience_s}
            replaced = min(len(lost), _MOST_STUCK - len(self._stuck))
            self._stuck |= set(list(lost)[:replaced])
        if oldest_s > HANGING_S and not self.hangs:
            log.error("%s has been at one batch for %.0f s: it hangs", self.stage.name, oldest_s)
        self.hangs = oldest_s > HANGING_S
        for one in lost.values():
            self._give_up(one.jobs)
        for _ in range(replaced):
            self._start_worker()
        if lost and len(lost) == len(working) and not replaced:  # nobody is left who could take what waits
            self._give_up(self.queue.clear())

    def _give_up(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            _fail(job.ticket, f"{self.stage.name} hangs")

    def snapshot(self, cascade: str, generation: str, elapsed_s: float) -> StageSnapshot:
        return self.queue.snapshot(
            cascade=cascade,
            stage=self.stage.name,
            generation=generation,
            worker_s=elapsed_s * self.stage.workers,
            state="hangs" if self.hangs else "ok",
        )
