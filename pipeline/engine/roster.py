"""The sources that run: they come, pause, change and go while the others go on.

Whoever looks at what there is sees one table or the next, whole, and waits for nobody. To warm a model or to drain a
stream holds up nobody but who asked for it; only who removes the last stream of a cascade waits for a model that is
being loaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

from pipeline.core.errors import InputError
from pipeline.core.places import Place
from pipeline.core.snapshot import StreamSnapshot, together
from pipeline.engine.assembly import Assembly, Running
from pipeline.engine.checkpoints import Checkpoints
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.plans import StreamPlan, can_wait
from pipeline.engine.policy_settings import PolicySettings
from pipeline.engine.show import Show, clocked
from pipeline.engine.show_clock import ClockedStream
from pipeline.engine.stream import Stream
from pipeline.engine.supervisor import SourceRunner
from pipeline.engine.telemetry import Histogram

_LAST_S = 0.2  # for what a reader has in hand, once nobody holds it up


class Roster:
    """Thread-safe. Sources have the names of their own streams; those of their tracks are taken with them."""

    def __init__(
        self,
        assembly: Assembly,
        sinks: Sequence[SinkRunner],
        checkpoints: Checkpoints | None,
        policy: PolicySettings | None,
        show: Show | None,
    ) -> None:
        self._assembly, self._cascades, self._sinks = assembly, assembly.cascades, sinks
        self._checkpoints, self._policy, self._show = checkpoints, policy, show
        self._lock = threading.Lock()  # of what there is; held for moments
        self._started = self._closed = False
        self._names: set[str] = set()  # taken: of streams that run, and of those that come or go
        self._coming: set[str] = set()
        self._leaving: set[str] = set()
        self._table: Mapping[str, Running] = {}
        self.runners: tuple[SourceRunner, ...] = ()
        self.streams: tuple[Stream, ...] = ()
        self.timed: tuple[Stream, ...] = ()
        """Those whose windows are given up when they are late."""
        self._removed: StreamSnapshot | None = None
        self._removed_latency = Histogram()

    # Looking.

    @property
    def all_wait(self) -> bool:
        """Whether there is no stream that cannot."""
        return all(can_wait(one.plan.source) for one in self._table.values())

    def __iter__(self) -> Iterator[StreamPlan]:
        return (one.plan for one in self._table.values())

    def counted(self, latency: Histogram) -> tuple[tuple[Stream, ...], StreamSnapshot | None]:
        """What there is, and what was removed; `latency` is told of both."""
        with self._lock:
            streams, removed = self.streams, self._removed
            latency.add(self._removed_latency)
        for stream in streams:
            stream.latency_into(latency)
        return streams, removed

    # All of them.

    def start(self) -> None:
        """What is added from now on starts by itself."""
        with self._lock:
            self._started = True
            for runner in self.runners:
                runner.start()

    def close(self) -> None:
        """Nothing can be added any more."""
        with self._lock:
            self._closed = True

    def drain(self, began_s: float, drain_s: float) -> None:
        _drain(list(self._table.values()), began_s, drain_s)

    # One of them.

    @property
    def changing(self) -> bool:
        """Whether something comes or goes at this moment: that nothing runs then does not mean that all is over."""
        return bool(self._coming or self._leaving)

    def add(self, plan: StreamPlan, *, paused: bool = False) -> None:
        self._reserve([one.name for one in plan.all], plan.name)
        with self._lock:
            self._coming.add(plan.name)
        try:
            self._enter(plan, None, paused)
        finally:
            with self._lock:
                self._coming.discard(plan.name)

    def remove(self, name: str, drain_s: float) -> None:
        running = self._leave(name)
        try:
            self._end(running, drain_s)
            if self._checkpoints is not None:
                for line in running.lines:
                    if line.progress is not None:
                        line.progress.forget()
                    self._checkpoints.forget(line.stream.name)()
        finally:
            self._free(running.plan)

    def change(self, plan: StreamPlan, drain_s: float, *, paused: bool | None = None) -> None:
        running = self._leave(plan.name)
        old = {one.name: one for one in running.plan.all}
        new = [one.name for one in plan.all if one.name not in old]
        held: list[str] = []
        try:
            self._reserve(new, plan.name)
            try:
                if self._show is not None:
                    self._show.check(self._of_show(plan))
                for one in plan.all:
                    self._cascades.take(one.cascade, one.generation)
                    held.append(one.generation.id)
                if self._started:
                    self._cascades.warm(held)
            except BaseException:
                self._forget_names(new)
                raise
        except BaseException:
            self._give_back(held, 0.0)
            with self._lock:
                self._leaving.discard(plan.name)
            raise
        try:
            self._end(running, drain_s, {one.name for one in plan.all})
            self._forget_names(old.keys() - {one.name for one in plan.all})
            same = {one.name for one in plan.all if one.name in old and one.generation is old[one.name].generation}
            goes_on = not plan.source.live
            places = {k: v for k, v in running.places.items() if goes_on and (k in same or plan.source.endless)}
            self._enter(plan, places, running.runner.paused if paused is None else paused)
        finally:
            with self._lock:
                self._leaving.discard(plan.name)
            self._give_back(held, 0.0)

    def pause(self, name: str) -> None:
        self._named(name).runner.pause()

    def resume(self, name: str) -> None:
        self._named(name).runner.resume()

    # How one comes.

    def _reserve(self, names: Sequence[str], source: str) -> None:
        with self._lock:
            if len({*names} - self._names) < len(names):
                raise InputError("two streams have the same name", f"sources.{source}")
            self._names.update(names)

    def _enter(self, plan: StreamPlan, places: Mapping[str, Place] | None, paused: bool) -> None:
        """Its names are taken; they are given back where it fails."""
        running: Running | None = None
        try:
            if self._show is not None:
                self._show.join(self._of_show(plan))
            running = self._assembly.source(plan, places)
            running.runner.paused = paused
            if self._started:
                self._cascades.warm(running.generations)
            with self._lock:
                if self._closed:
                    raise InputError("the program is ending: nothing can be added any more", f"sources.{plan.name}")
                self._set({**self._table, plan.name: running})
                if self._started:
                    running.runner.start()
        except BaseException:
            if running is not None:
                self._give_back(running.generations, 0.0)
            self._part(plan)
            self._free(plan)
            raise

    def _of_show(self, plan: StreamPlan) -> list[ClockedStream]:
        """Its streams that take part in the show: all, or those that the policy names."""
        policy = self._policy
        if policy is None:
            return []
        taking_part = [one.name for one in plan.all if policy.streams is None or one.name in policy.streams]
        return [clocked(name, plan.name, plan.source, policy) for name in taking_part]

    def _set(self, table: Mapping[str, Running]) -> None:
        """The lock is held."""
        self._table = table
        self.runners = tuple(one.runner for one in table.values())
        self.streams = tuple(stream for one in table.values() for stream in one.streams)
        self.timed = tuple(stream for stream in self.streams if stream.budget_ns is not None)

    # How one goes.

    def _named(self, name: str) -> Running:
        running = self._table.get(name)
        if running is None:
            raise InputError("there is no such stream", f"sources.{name}")
        return running

    def _leave(self, name: str) -> Running:
        """Nobody else removes or changes it from now on."""
        with self._lock:
            running = self._named(name)
            if name in self._leaving:
                raise InputError("it is being removed or changed already", f"sources.{name}")
            self._leaving.add(name)
            return running

    def _end(self, running: Running, drain_s: float, stay: Collection[str] = ()) -> None:
        """Drain it and take it away. Its names stay taken; those that `stay` are of streams that come back at once."""
        began = time.monotonic()
        _drain([running], began, drain_s)
        with self._lock:
            self._set({name: one for name, one in self._table.items() if one is not running})
            counted = [stream.end(began) for stream in running.streams]
            self._removed = together([*counted, *([] if self._removed is None else [self._removed])])
            for stream in running.streams:
                stream.latency_into(self._removed_latency)
        self._part(running.plan)
        self._give_back(running.generations, began + drain_s)
        for sink in self._sinks:
            for stream in running.streams:
                if stream.name not in stay:
                    sink.forget(stream.name)

    def _part(self, plan: StreamPlan) -> None:
        if self._show is not None:
            self._show.leave([one.name for one in plan.all])

    def _give_back(self, generations: Sequence[str], end_s: float) -> None:
        for generation in generations:
            self._cascades.give_back(generation, end_s)

    def _free(self, plan: StreamPlan) -> None:
        with self._lock:
            self._leaving.discard(plan.name)
        self._forget_names([one.name for one in plan.all])

    def _forget_names(self, names: Collection[str]) -> None:
        with self._lock:
            self._names.difference_update(names)


def _drain(sources: Sequence[Running], began_s: float, drain_s: float) -> None:
    """Take nothing more of them in; what is inside finishes, or is shed."""
    streams = [stream for one in sources for stream in one.streams]
    for one in sources:
        one.runner.stop()
    for one in sources:
        one.runner.join(began_s + drain_s * 0.25)
    while time.monotonic() < began_s + drain_s * 0.6 and not all(stream.empty() for stream in streams):
        time.sleep(0.005)
    for stream in streams:
        stream.close()
    end_s = max(began_s + drain_s * 0.65, time.monotonic() + _LAST_S)
    for one in sources:  # one that waited for room has just been let go
        one.runner.join(end_s)
        one.runner.end()
