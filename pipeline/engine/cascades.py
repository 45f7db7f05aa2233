"""The cascades in use: one runner a generation, made for the first stream that it judges, stopped behind the last."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline.core.contracts import Generation, Stage
from pipeline.core.errors import InputError
from pipeline.core.records import Audit, Outcome
from pipeline.core.snapshot import AuditSnapshot, StageSnapshot
from pipeline.engine.audit import AuditRunner
from pipeline.engine.cascade import CascadeRunner
from pipeline.engine.ticket import Lease


class _Used:
    """A runner, and how many streams it judges."""

    def __init__(self, runner: CascadeRunner) -> None:
        self.runner = runner
        self.streams = 0
        self.opened = self.warm = False
        self.since_s = time.monotonic()

    def stages(self) -> Iterator[Stage]:
        yield from self.runner.generation.stages
        if self.runner.audit is not None:
            yield self.runner.audit.auditor.stage


class Cascades:
    """Thread-safe. Whoever looks at what runs takes no lock that somebody who warms a model holds."""

    def __init__(self, deliver: Callable[[Audit, Outcome, Lease, bool], None]) -> None:
        self._deliver = deliver
        self._used: dict[str, _Used] = {}  # replaced, never changed
        self._lock = threading.Lock()
        self._coming_and_going = threading.Lock()  # of models: one at a time, and that may take a while

    def take(self, cascade: str, generation: Generation) -> CascadeRunner:
        """The runner of `generation`, for one stream more. Raises `InputError` where another one has its id."""
        with self._lock:
            used = self._used.get(generation.id)
            if used is not None and used.runner.generation is not generation:
                raise InputError(f"two generations have the id {generation.id}")
            if used is None:
                used = _Used(CascadeRunner(cascade, generation, self._auditing(cascade, generation)))
                self._used = {**self._used, generation.id: used}
            used.streams += 1
            return used.runner

    def _auditing(self, cascade: str, generation: Generation) -> AuditRunner | None:
        auditor = generation.auditor
        if auditor is None:
            return None
        return AuditRunner(cascade, generation.id, auditor, busy=self.busy, deliver=self._deliver)

    def give_back(self, generation: str, end_s: float) -> None:
        """One stream less: nothing of it is inside any more. With the last one, what was picked for an audit is looked
        at until `end_s` by the monotonic clock, and all of it is let go."""
        with self._lock:
            used = self._used[generation]
            if used.streams > 1:  # there is nothing to be let go, so nobody who loads a model is waited for
                used.streams -= 1
                return
        with self._coming_and_going:
            with self._lock:
                used.streams -= 1
                if used.streams:
                    return
                self._used = {name: one for name, one in self._used.items() if one is not used}
            used.runner.stop()
            if used.runner.audit is not None:
                used.runner.audit.join(end_s)

    def open(self, generations: Collection[str] | None = None) -> None:
        """Take up what their audits knew. Raises `InputError`."""
        with self._coming_and_going:
            self._open(self._chosen(generations))

    def warm(self, generations: Collection[str] | None = None) -> None:
        """Run every batch size of every stage once that is not warm yet, all stages at the same time; then they judge.
        Raises whatever a model does."""
        if all(used.warm for used in self._chosen(generations)):
            return
        with self._coming_and_going:
            chosen = self._chosen(generations)
            cold = [used for used in chosen if not used.warm]
            self._open(cold)
            warm = {id(stage) for used in self._used.values() if used.warm for stage in used.stages()}
            stages = {id(stage): stage for used in cold for stage in used.stages() if id(stage) not in warm}
            if stages:
                with ThreadPoolExecutor(len(stages), "warm") as pool:
                    for warmed in [pool.submit(stage.warm) for stage in stages.values()]:
                        warmed.result()
            for used in cold:
                used.warm, used.since_s = True, time.monotonic()
                used.runner.start()

    def _chosen(self, generations: Collection[str] | None) -> list[_Used]:
        return [used for name, used in self._used.items() if generations is None or name in generations]

    @staticmethod
    def _open(chosen: Collection[_Used]) -> None:
        for used in chosen:
            if not used.opened and used.runner.audit is not None:
                used.runner.audit.open()
            used.opened = True

    def stop(self) -> None:
        for runner in self.runners:
            runner.stop()

    def join(self, end_s: float) -> None:
        """Audits look at what they picked, until `end_s` by the monotonic clock."""
        for audit in self.audits:
            audit.join(end_s)

    def watch(self, now_s: float, paused_s: float) -> None:
        for runner in self.runners:
            runner.watch(now_s, paused_s)

    # What runs.

    @property
    def runners(self) -> tuple[CascadeRunner, ...]:
        return tuple(used.runner for used in self._used.values())

    @property
    def audits(self) -> tuple[AuditRunner, ...]:
        return tuple(runner.audit for runner in self.runners if runner.audit is not None)

    def generation(self, name: str) -> Generation | None:
        used = self._used.get(name)
        return None if used is None else used.runner.generation

    def busy(self) -> bool:
        """Whether a view waits for any stage, or is in hand."""
        return any(runner.busy() for runner in self.runners)

    @property
    def hang(self) -> bool:
        """Whether any stage is at one batch for so long that it will hardly come back."""
        return any(runner.hangs for runner in self.runners)

    def drained(self) -> bool:
        return all(audit.drained() for audit in self.audits)

    def stages(self, now_s: float) -> Iterator[StageSnapshot]:
        for used in self._used.values():
            yield from used.runner.snapshots(now_s - used.since_s)

    def audited(self, now_s: float) -> Iterator[AuditSnapshot]:
        for audit in self.audits:
            yield audit.snapshot(now_s)
