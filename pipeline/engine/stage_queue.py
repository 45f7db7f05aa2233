"""Where views of all streams wait for one stage, and where micro-batches form.

Earliest deadline first. A batch leaves when it is full, when its most pressing job has to start to be in time (deadline
less the measured service time), or when it has lingered as long as its stream allows, whichever comes first. Streams
that can wait get what the live ones leave, but never less than one view a batch every quarter of a second. Workers that
have nothing to do share what there is, so that the regions of one part are looked at side by side. The queue needs no
size of its own: every stream lets in a bounded number of windows, and its rule names a bounded number of
regions in each.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Sequence

from pipeline.core.snapshot import StageSnapshot
from pipeline.engine.telemetry import Histogram
from pipeline.engine.ticket import Job

_MARGIN = 1.5  # of the usual service time: what a batch may take when it goes slowly
_MEMORY = 0.1  # share of the latest batch in the usual service time
_NEVER_NS = 1 << 62
_LEAST_NS = 250_000_000  # between two views of streams that can wait, while live ones take all there is
_COMPACT_AT = 256


class StageQueue:
    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self._heap: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._idle = 0
        self._wake_ns = _NEVER_NS  # when the next idle worker wakes by itself
        self._compact_at = _COMPACT_AT
        self._waited_ns = 0  # when a stream that can wait last had its turn
        self._usual_s = 0.0
        self._service = Histogram()
        self._batch_sizes: dict[int, int] = {}
        self._views = 0
        self._errors = 0

    def put(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            if len(self._heap) >= self._compact_at:
                self._compact()
            for job in jobs:
                heapq.heappush(self._heap, job)
            if self._idle and (len(self._heap) >= self.max_batch or (self._start_ns() or 0) < self._wake_ns):
                self._changed.notify()  # otherwise a worker sleeps until just the right moment already

    def _compact(self) -> None:
        """Forget jobs whose window was shed: a stage that hangs must not gather them without end."""
        self._heap = [job for job in self._heap if job.ticket.outcome is None]
        heapq.heapify(self._heap)
        self._compact_at = max(_COMPACT_AT, 2 * len(self._heap))

    def waiting(self) -> int:
        return len(self._heap)

    @property
    def usual_s(self) -> float:
        """What a batch usually takes; 0 before the first."""
        return self._usual_s

    def clear(self) -> list[Job]:
        """Take all that waits, whoever should have judged it."""
        with self._changed:
            jobs, self._heap = self._heap, []
            return jobs

    def in_time(self, deadline_ns: int | None, workers: int) -> bool:
        """Whether a view that comes now can be expected back before its deadline, by what batches usually take: behind
        those that wait, and those that are in hand."""
        if deadline_ns is None:
            return True
        rounds = 1 + -(-(len(self._heap) + 1) // (self.max_batch * workers))
        return time.monotonic_ns() + int(rounds * self._usual_s * _MARGIN * 1e9) <= deadline_ns

    def snapshot(self, *, cascade: str, stage: str, generation: str, worker_s: float, state: str) -> StageSnapshot:
        """`worker_s`: the time that the stage's workers had."""
        with self._changed:
            service = self._service.latency()
            return StageSnapshot(
                cascade=cascade,
                stage=stage,
                generation=generation,
                waiting=len(self._heap),
                batches=service.count,
                views=self._views,
                errors=self._errors,
                busy_share=service.sum_s / worker_s if worker_s > 0 else 0.0,
                service=service,
                batch_sizes=dict(sorted(self._batch_sizes.items())),
                state=state,
            )

    def take(self) -> list[Job]:
        """The next batch; waits for one. Empty once the queue was closed.

        The jobs' tickets are marked as running; jobs whose window was settled meanwhile are left out.
        """
        with self._changed:
            while not self._closed:
                now = time.monotonic_ns()
                start_ns = self._start_ns()
                if start_ns is not None and (len(self._heap) >= self.max_batch or start_ns <= now):
                    batch = self._pop()
                    if batch:
                        return batch
                    continue
                self._idle += 1
                self._wake_ns = _NEVER_NS if start_ns is None else start_ns
                self._changed.wait(None if start_ns is None else (start_ns - now) / 1e9)
                self._wake_ns = _NEVER_NS
                self._idle -= 1
            return []

    def _start_ns(self) -> int | None:
        """When the batch has to leave, full or not; None when nothing waits."""
        if not self._heap:
            return None
        launch = min(job.launch_ns for job in self._heap[: self.max_batch])
        deadline = self._heap[0].ticket.deadline_ns
        if deadline is None:
            return launch
        return min(launch, deadline - int(self._usual_s * _MARGIN * 1e9))

    def _pop(self) -> list[Job]:
        batch: list[Job] = []
        now = time.monotonic_ns()
        if now - self._waited_ns > _LEAST_NS and len(self._heap) > self.max_batch:
            patient = min((job for job in self._heap if job.can_wait and job.ticket.outcome is None), default=None)
            if patient is not None:
                self._heap.remove(patient)
                heapq.heapify(self._heap)
                patient.ticket.running = True
                batch.append(patient)
        most = min(self.max_batch, -(-(len(self._heap) + len(batch)) // (self._idle + 1)))
        while self._heap and len(batch) < most:
            job = heapq.heappop(self._heap)
            if job.ticket.outcome is None:
                job.ticket.running = True
                batch.append(job)
        if any(job.can_wait for job in batch):
            self._waited_ns = now
        if self._heap and self._idle:
            if most < self.max_batch:  # the rest would have left with these
                self._heap[0].launch_ns = now
            self._changed.notify()  # another worker may have it
        return batch

    def served(self, seconds: float, views: int, errors: int) -> None:
        """A batch was judged: how long it took."""
        with self._changed:
            self._service.record(seconds)
            self._usual_s += (seconds - self._usual_s) * (_MEMORY if self._usual_s else 1.0)
            self._batch_sizes[views] = self._batch_sizes.get(views, 0) + 1
            self._views += views
            self._errors += errors

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
