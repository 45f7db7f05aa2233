"""The whole: streams in, one runner a generation, sinks out; start, change, drain, stop.

Nothing in here knows a kind of source, a model or a sink.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.core.contracts import Sink
from pipeline.core.errors import InputError
from pipeline.core.records import SourceState
from pipeline.core.rulings import Ruling
from pipeline.core.snapshot import Snapshot
from pipeline.core.traces import Tracer
from pipeline.engine.assembly import Assembly
from pipeline.engine.checkpoints import Checkpoints, Noted
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.going import GoingActions
from pipeline.engine.plans import StreamPlan
from pipeline.engine.policy import Policy
from pipeline.engine.policy_settings import PolicySettings
from pipeline.engine.roster import Roster
from pipeline.engine.show import Show, model_of
from pipeline.engine.telemetry import Histogram

log = logging.getLogger(__name__)

__all__ = ["Pipeline", "StreamPlan"]
_ASLEEP_NS = 10_000_000_000

_WATCH_S = 1.0

_LONGEST_NAP_S = 0.1

_WRITING_S = 1.0  # for the last of the state

_USED_S = 0.2  # the system's answer is about the time since it was asked last, whoever asked


class Pipeline:
    """Runs streams through their cascades into sinks.

        pipeline = Pipeline([StreamPlan("door", source, "people", generation)], {"log": sink})
        pipeline.start()
        pipeline.wait()
        pipeline.stop()

    Streams with the same generation share its batches. Streams come, pause and go while the others run. Thread-safe.
    """

    def __init__(
        self,
        streams: Sequence[StreamPlan],
        sinks: Mapping[str, Sink],
        *,
        events: EventSettings | None = None,
        policy: PolicySettings | None = None,
        state: Path | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """With a folder for `state`, replayable streams go on where an earlier run was when all sinks had what came
        before. A file that a sink has written survives the death of this program; where the sink does not wait for the
        disk (`jsonl` without `sync: batch`), a loss of power may take what the state says was delivered."""
        self._sinks = [SinkRunner(name, sink, self.snapshot) for name, sink in sinks.items()]
        self._checkpoints = None if state is None else Checkpoints(state)
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._stop_lock = threading.Lock()
        self._stopped = False
        self._watched_ns = 0
        self._began_s = time.monotonic()
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._used = 0.0, 0
        self._used_s = 0.0
        self._assembly = Assembly(
            self._sinks,
            events or EventSettings(),
            checkpoints=self._checkpoints,
            ready=self._ready,
            ending=self._stopping.is_set,
            tracer=tracer,
        )
        self._cascades = self._assembly.cascades
        self._going: GoingActions | None = None
        if self._checkpoints is not None:  # an earlier run may have had a policy
            self._going = GoingActions(self._checkpoints, self._sinks, self._rule)
        self._show = None if policy is None else self._make_show(policy)
        self._assembly.show = self._show
        self._roster = Roster(self._assembly, self._sinks, self._checkpoints, policy, self._show)
        for plan in streams:
            self.add(plan)

    def _make_show(self, policy: PolicySettings) -> Show:
        return Show(Policy(policy, (), self._model_of), self._rule if self._going is None else self._going.tell)

    def _model_of(self, generation: str, decided_by: str) -> str:
        known = self._cascades.generation(generation)
        return "" if known is None else model_of(known, decided_by)

    def _rule(self, ruling: Ruling, after: Noted | None = None) -> None:
        for sink in self._sinks:
            if "rulings" in sink.takes:
                sink.put(ruling, None, self._roster.all_wait, after)

    # What runs in it.

    @property
    def plans(self) -> tuple[StreamPlan, ...]:
        """The sources that there are."""
        return tuple(self._roster)

    def add(self, plan: StreamPlan, *, paused: bool = False) -> None:
        """One source more, also while the others run: its models are warmed before it begins, and nobody waits for
        that but who adds it. Raises `InputError` where its name is taken, or it can never work; nothing changes
        then."""
        self._roster.add(plan, paused=paused)

    def remove(self, name: str, drain_s: float = 10.0) -> None:
        """Close the source of that name, and let what is inside finish; what cannot within about `drain_s` seconds is
        shed with the reason `shutdown`. All of that is handed to the sinks, open events end, and what the state knew of
        it is forgotten. A cascade that nobody uses any more is let go. Raises `InputError` where there is no such
        source."""
        self._roster.remove(name, drain_s)

    def change(self, plan: StreamPlan, drain_s: float = 10.0, *, paused: bool | None = None) -> None:
        """Have `plan` in the place of the source that goes by its name, paused if that was (or as `paused` says). Its
        models are warmed first, so that little lies between the two. What can be read again goes on where it was,
        unless another generation is to judge it: then it is judged anew. Raises `InputError` where that cannot be; what
        runs goes on then."""
        self._roster.change(plan, drain_s, paused=paused)

    def pause(self, name: str) -> None:
        """Close the source of that name until `resume`; what is inside goes on its way, and the stream stays listed as
        `paused`. Raises `InputError` where there is no such source, or it has ended."""
        self._roster.pause(name)

    def resume(self, name: str) -> None:
        """Open it again: a live one begins anew, what can be read again goes on where it was. One that has ended or
        failed is started again. Raises `InputError` where there is no such source."""
        self._roster.resume(name)

    # Running it.

    def start(self) -> None:
        """Open the sinks, let the sources connect while the stages are warmed, then judge.

        Raises `InputError` where something can never work; nothing runs on then.
        """
        self._began_s = time.monotonic()
        try:
            self._cascades.open()
            if self._checkpoints is not None:
                self._checkpoints.open()
            for sink in self._sinks:
                sink.open()
            if self._going is not None:
                self._going.take_up()
            self._roster.start()
            self._cascades.warm()
        except BaseException:
            self.stop(1.0)
            raise
        self._watched_ns = time.monotonic_ns()
        self._ready.set()
        threading.Thread(target=self._keep_watch, name="watch", daemon=True).start()
        threading.Thread(target=self._keep_time, name="deadlines", daemon=True).start()
        if self._show is not None:
            threading.Thread(target=self._show.keep_time, args=(self._stopping,), name="show", daemon=True).start()

    def _keep_watch(self) -> None:
        looked_s = time.monotonic()
        while not self._stopping.wait(_WATCH_S):
            now_s = time.monotonic()
            self._watched_ns = int(now_s * 1e9)
            paused_s = now_s - looked_s - _WATCH_S  # the process was stopped, or the machine slept: nobody hung
            looked_s = now_s
            paused_s = paused_s if paused_s > _WATCH_S else 0.0
            for runner in self._roster.runners:
                runner.watch(int(now_s * 1e9), int(paused_s * 1e9))
            self._cascades.watch(now_s, paused_s)

    def _keep_time(self) -> None:
        """Shed what is late. Sleeps until the next deadline, or for a fiftieth of the shortest budget: by so much may
        a window overstay that was admitted meanwhile with most of its budget gone."""
        while not self._stopped:
            timed = self._roster.timed
            now = time.monotonic_ns()
            following = [due for stream in timed if (due := stream.expire(now)) is not None]
            nap_s = min([_LONGEST_NAP_S, *(max((stream.budget_ns or 0) / 50e9, 0.002) for stream in timed)])
            time.sleep(max(min([nap_s, *((due - now) / 1e9 for due in following)]), 0.0002))

    @property
    def finished(self) -> bool:
        """Every source is final and everything was delivered. A paused one is not, nor one that comes or goes."""
        runners = self._roster.runners
        return (
            all(runner.finished.is_set() for runner in runners)
            and all(stream.empty() for stream in self._roster.streams)
            and self._cascades.drained()
            and all(sink.drained() for sink in self._sinks)
            and not self._roster.changing
            and self._roster.runners is runners
        )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until everything is `finished`, a `stop` elsewhere, or the time-out; whether it is finished."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._stopping.is_set():
            if self.finished:
                return True
            if end is not None and time.monotonic() >= end:
                return False
            running = next((runner for runner in self._roster.runners if not runner.finished.is_set()), None)
            nap_s = 0.25 if running is not None else 0.005
            if end is not None:
                nap_s = min(nap_s, max(0.0, end - time.monotonic()))
            (running.finished if running is not None else self._stopping).wait(nap_s)
        return self.finished

    def stop(self, drain_s: float = 10.0) -> None:
        """Take nothing more in, let what is inside finish, flush the sinks; all within about `drain_s` seconds.
        What cannot finish in time is shed with the reason `shutdown`. Safe twice and without `start`."""
        with self._stop_lock:
            if self._stopped:
                return
            began = time.monotonic()
            self._stopping.set()
            self._roster.close()
            self._roster.drain(began, drain_s)
            self._cascades.stop()
            self._cascades.join(began + drain_s * 0.8)
            if self._show is not None:
                self._show.finish()
            self._flush(began, drain_s)
            self._stopped = True

    def _flush(self, began_s: float, drain_s: float) -> None:
        for sink in self._sinks:
            sink.finish(began_s + drain_s * 0.95)
        for sink in self._sinks:
            sink.join(began_s + drain_s * 0.95)
            sink.give_up()
        for sink in self._sinks:
            sink.join(began_s + drain_s)
        if self._checkpoints is not None:
            self._checkpoints.close(began_s + drain_s + _WRITING_S)

    # What it says of itself.

    @property
    def problems(self) -> tuple[InputError, ...]:
        """Sources that can never work, and why."""
        return tuple(runner.problem for runner in self._roster.runners if runner.problem is not None)

    @property
    def ready(self) -> bool:
        """Whether every model is warm and every source was started."""
        return self._ready.is_set()

    @property
    def healthy(self) -> bool:
        """Whether its threads turn and no stage hangs; else it is best started anew. A camera may be away."""
        if not self._ready.is_set() or self._stopping.is_set():
            return True
        awake = time.monotonic_ns() - self._watched_ns < _ASLEEP_NS and all(sink.alive for sink in self._sinks)
        return awake and not self._cascades.hang

    @property
    def unwanted(self) -> bool:
        """Whether nobody reads what some sink wrote for somebody who did: there is little point in going on."""
        return any(sink.gone for sink in self._sinks)

    @property
    def states(self) -> dict[str, SourceState]:
        return {stream.name: stream.state for stream in self._roster.streams}

    def snapshot(self) -> Snapshot:
        now_s = time.monotonic()
        total = Histogram()
        streams, removed = self._roster.counted(total)
        with suppress(OSError, psutil.Error):  # asking takes a descriptor, and there may be none left
            if now_s - self._used_s >= _USED_S:
                self._used_s = now_s
                self._used = self._process.cpu_percent(), self._process.memory_info().rss
        cpu_percent, rss_bytes = self._used
        return Snapshot(
            elapsed_s=now_s - self._began_s,
            ready=self.ready,
            healthy=self.healthy,
            streams=tuple(stream.snapshot(now_s) for stream in streams),
            stages=tuple(self._cascades.stages(now_s)),
            sinks=tuple(sink.snapshot() for sink in self._sinks),
            latency=total.latency(),
            cpu_percent=cpu_percent,
            rss_bytes=rss_bytes,
            audits=tuple(self._cascades.audited(now_s)),
            policy=None if self._show is None else self._show.snapshot(),
            removed=removed,
        )
