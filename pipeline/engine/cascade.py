"""Runs one generation: batches of views through the cheap stage, what its rule escalates through the heavy one.

Rules decide and stages score; this module only carries. A stage that raises on a batch is asked again view by view, so
that one bad view fails one window.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from pipeline.core.contracts import Clear, Escalate, Flag, Generation, Stage
from pipeline.core.errors import StageError
from pipeline.core.payloads import View
from pipeline.core.records import Failed, Findings, Result
from pipeline.core.secrets import redact
from pipeline.core.snapshot import StageSnapshot
from pipeline.engine.stage_queue import StageQueue
from pipeline.engine.ticket import Job, Ticket

log = logging.getLogger(__name__)

Answer = Findings | str
"""What a stage made of one view: findings, or why there are none."""


class CascadeRunner:
    """The queues and workers of one generation. `name` is the cascade's."""

    def __init__(self, name: str, generation: Generation) -> None:
        self.name = name
        self.generation = generation
        self._cheap = _StageRunner(generation.cheap, self._cheap_done)
        self._heavy = None if generation.heavy is None else _StageRunner(generation.heavy, self._heavy_done)

    @property
    def keeps_pictures(self) -> bool:
        """Whether a picture is needed after its first view was made."""
        return self._heavy is not None

    def warm(self) -> None:
        """Run every batch size of every stage once."""
        for stage in self.generation.stages:
            stage.warm()

    def start(self) -> None:
        for runner in self._runners():
            runner.start()

    def submit(self, ticket: Ticket, view: View) -> None:
        """The window's view waits for the cheap stage from now on."""
        self._cheap.queue.put((Job(ticket, view, 0, time.monotonic_ns()),))

    def stop(self) -> None:
        for runner in self._runners():
            runner.queue.close()

    def snapshots(self, elapsed_s: float) -> list[StageSnapshot]:
        return [runner.snapshot(self.name, self.generation.id, elapsed_s) for runner in self._runners()]

    def _runners(self) -> list[_StageRunner]:
        return [self._cheap] if self._heavy is None else [self._cheap, self._heavy]

    def _cheap_done(self, jobs: Sequence[Job], answers: Sequence[Answer]) -> None:
        escalated: list[Job] = []
        for job, answer in zip(jobs, answers, strict=True):
            ticket = job.ticket
            if isinstance(answer, str):
                _fail(ticket, answer)
                continue
            decision = self._decide(ticket, answer)
            if isinstance(decision, Escalate):
                escalated += self._escalate(ticket, answer, decision)
            elif decision is not None:
                self._settle(ticket, decision, self.generation.cheap.name)
        if escalated and self._heavy is not None:
            self._heavy.queue.put(escalated)

    def _decide(self, ticket: Ticket, findings: Findings) -> Clear | Flag | Escalate | None:
        try:
            return self.generation.rule.decide(findings)
        except Exception as error:  # noqa: BLE001 a rule may be a third party's: its fault is this window's, no more
            _fail(ticket, f"rule: {redact(error)}")
            return None

    def _escalate(self, ticket: Ticket, cheap: Findings, decision: Escalate) -> list[Job]:
        if self._heavy is None:
            _fail(ticket, "rule: it asked for a heavy stage and there is none")
            return []
        ticket.cheap = cheap
        ticket.regions = decision.regions or (None,)
        ticket.heavy = [None] * len(ticket.regions)
        ticket.pending = len(ticket.regions)
        ticket.running = False
        now = time.monotonic_ns()
        return [Job(ticket, None, index, now) for index in range(len(ticket.regions))]

    def _heavy_done(self, jobs: Sequence[Job], answers: Sequence[Answer]) -> None:
        for job, answer in zip(jobs, answers, strict=True):
            ticket = job.ticket
            if isinstance(answer, str):
                _fail(ticket, answer)  # one region unseen is a window not judged
                continue
            if ticket.collect(job.index, answer):
                self._merge(ticket)

    def _merge(self, ticket: Ticket) -> None:
        heavy = [findings for findings in ticket.heavy if findings is not None]
        assert ticket.cheap is not None
        assert self.generation.heavy is not None
        try:
            verdict = self.generation.rule.merge(ticket.cheap, heavy)
        except Exception as error:  # noqa: BLE001 as in _decide
            _fail(ticket, f"rule: {redact(error)}")
            return
        self._settle(ticket, verdict, self.generation.heavy.name)

    def _settle(self, ticket: Ticket, verdict: Clear | Flag, stage: str) -> None:
        result = Result(
            window=ticket.window,
            done_ns=time.monotonic_ns(),
            decided_by=stage,
            generation=self.generation.id,
            detections=verdict.detections,
            flagged=isinstance(verdict, Flag),
            certified=self.generation.certified,
        )
        ticket.stream.settle(ticket, result)


def _fail(ticket: Ticket, reason: str) -> None:
    ticket.stream.settle(ticket, Failed(ticket.window, time.monotonic_ns(), reason))


class _StageRunner:
    """A stage's queue and its worker threads."""

    def __init__(self, stage: Stage, done: Callable[[Sequence[Job], Sequence[Answer]], None]) -> None:
        self.stage = stage
        self.queue = StageQueue(stage.max_batch)
        self._done = done
        self._complained = 0.0

    def start(self) -> None:
        for i in range(self.stage.workers):
            threading.Thread(target=self._work, name=f"{self.stage.name}-{i}", daemon=True).start()

    def _work(self) -> None:
        while jobs := self.queue.take():
            began = time.perf_counter()
            answers = self._judge(jobs)
            errors = sum(isinstance(answer, str) for answer in answers)
            self.queue.served(time.perf_counter() - began, len(jobs), errors)
            self._done(jobs, answers)

    def _judge(self, jobs: Sequence[Job]) -> list[Answer]:
        views: list[View] = []
        where: list[int] = []
        answers: list[Answer] = [""] * len(jobs)
        for i, job in enumerate(jobs):
            try:
                views.append(job.view if job.view is not None else self._crop(job))
                where.append(i)
            except Exception as error:  # noqa: BLE001 whatever a decoder's frame may raise is this window's failure
                answers[i] = f"{self.stage.name}: no view could be made: {redact(error)}"
        if views:
            for i, answer in zip(where, self._score(views), strict=True):
                answers[i] = answer
        return answers

    def _crop(self, job: Job) -> View:
        ticket = job.ticket
        if ticket.lease is None:
            raise StageError("the picture is not held")
        region = ticket.regions[job.index]
        return ticket.lease.image.view(self.stage.spec, None if region is None else region.box)

    def _score(self, views: Sequence[View]) -> Sequence[Answer]:
        try:
            findings = self.stage.score(views)
            if len(findings) != len(views):
                raise StageError(f"gave {len(findings)} answers for {len(views)} views")
            return findings
        except Exception as error:  # noqa: BLE001 a model may raise anything; the window fails, the stage lives on
            if len(views) > 1:
                return [answer for view in views for answer in self._score([view])]
            self._complain(error)
            return [f"{self.stage.name}: {redact(error)}"]

    def _complain(self, error: Exception) -> None:
        """Failures are counted one by one and logged at most once a second."""
        now = time.monotonic()
        if now - self._complained >= 1.0:
            self._complained = now
            log.warning(
                "%s could not judge: %s", self.stage.name, redact(error), exc_info=log.isEnabledFor(logging.DEBUG)
            )

    def snapshot(self, cascade: str, generation: str, elapsed_s: float) -> StageSnapshot:
        queue = self.queue
        service = queue.service.latency()
        return StageSnapshot(
            cascade=cascade,
            stage=self.stage.name,
            generation=generation,
            waiting=queue.waiting(),
            batches=service.count,
            views=queue.views,
            errors=queue.errors,
            busy_share=service.sum_s / (elapsed_s * self.stage.workers) if elapsed_s > 0 else 0.0,
            service=service,
            batch_sizes=dict(sorted(queue.batch_sizes.copy().items())),
        )
