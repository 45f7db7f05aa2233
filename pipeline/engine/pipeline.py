"""The whole: streams in, one runner a generation, sinks out; start, drain, stop.

Nothing in here knows a kind of source, a model or a sink.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from pipeline.core.contracts import Delivery, Generation, Picture, Sink
from pipeline.core.errors import InputError
from pipeline.core.media import Medium
from pipeline.core.records import Audit, Outcome, SourceState
from pipeline.core.rulings import Ruling
from pipeline.core.settings import StreamSettings
from pipeline.core.snapshot import Snapshot
from pipeline.core.tapes import Recording
from pipeline.core.traces import Tracer
from pipeline.engine.attendance import Attendance
from pipeline.engine.audit import AuditRunner
from pipeline.engine.cascade import CascadeRunner
from pipeline.engine.checkpoints import Checkpoints, Noted
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.events import EventTracker
from pipeline.engine.going import GoingActions
from pipeline.engine.intake import Intake
from pipeline.engine.leaps import Leaps
from pipeline.engine.outlet import Outlet
from pipeline.engine.plans import LIVE_LINGER_NS, WAITING_LINGER_NS, StreamPlan, budget_ns, can_wait, in_flight
from pipeline.engine.policy import Policy
from pipeline.engine.policy_settings import PolicySettings
from pipeline.engine.progress import Progress
from pipeline.engine.show import Show, clocked, model_of
from pipeline.engine.stream import Stream
from pipeline.engine.supervisor import Line, SourceRunner
from pipeline.engine.telemetry import Histogram
from pipeline.engine.ticket import Lease

log = logging.getLogger(__name__)

__all__ = ["Pipeline", "StreamPlan"]
_ASLEEP_NS = 10_000_000_000

_WATCH_S = 1.0

_WRITING_S = 1.0  # for the last of the state


class Pipeline:
    """Runs streams through their cascades into sinks.

        pipeline = Pipeline([StreamPlan("door", source, "people", generation)], {"log": sink})
        pipeline.start()
        pipeline.wait()
        pipeline.stop()

    Streams with the same generation share its batches. Thread-safe.
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
        names = [plan.name for one in streams for plan in (one, *one.tracks)]
        if len(set(names)) != len(names):
            raise InputError("two streams have the same name", "sources")
        self._sinks = [SinkRunner(name, sink, self.snapshot) for name, sink in sinks.items()]
        self._picture_sinks = [sink for sink in self._sinks if "pictures" in sink.takes]
        self._checkpoints = None if state is None else Checkpoints(state)
        self._tape_sinks = [sink for sink in self._sinks if "tapes" in sink.takes]
        self._events = events or EventSettings()
        self._tracer = tracer
        self._cascades: dict[str, CascadeRunner] = {}
        self._audits: list[AuditRunner] = []
        self._streams: list[Stream] = []
        self._show_waits = all(can_wait(plan.source) for plan in streams)
        self._runners: list[SourceRunner] = []
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._stop_lock = threading.Lock()
        self._stopped = False
        self._watched_ns = 0
        self._began_s = time.monotonic()
        self._process = psutil.Process()
        self._process.cpu_percent()
        self._going: GoingActions | None = None
        if self._checkpoints is not None:  # an earlier run may have had a policy
            self._going = GoingActions(self._checkpoints, self._sinks, self._rule)
        self._used = 0.0, 0
        self._show: Show | None = None if policy is None else self._make_show(policy, streams)
        for plan in streams:
            self._add(plan)

    # Putting it together.

    def _make_show(self, policy: PolicySettings, streams: Sequence[StreamPlan]) -> Show:
        of_show = [
            clocked(plan.name, reader.name, reader.source, policy)
            for reader in streams
            for plan in (reader, *reader.tracks)
            if policy.streams is None or plan.name in policy.streams
        ]
        return Show(Policy(policy, of_show, self._model_of), self._rule if self._going is None else self._going.tell)

    def _model_of(self, generation: str, decided_by: str) -> str:
        runner = self._cascades.get(generation)
        return "" if runner is None else model_of(runner.generation, decided_by)

    def _add(self, plan: StreamPlan) -> None:
        source = plan.source
        leaps = Leaps() if source.paced and not source.parts and source.medium == "picture" else None
        lines = [self._line(plan, source, source.medium, leaps)]
        lines += [
            self._line(track, source.tracks[track.name.removeprefix(f"{plan.name}.")], "sound", leaps)
            for track in plan.tracks
        ]
        reads = source
        if source.isolation == "process":
            from pipeline.engine.isolation import Isolated

            audits = [line.stream.audit for line in lines]
            reads = Isolated.around(source, max(0 if audit is None else audit.auditor.reserve for audit in audits))
        waits = can_wait(source)
        record = (lambda one: self._hand_tape(one, waits)) if self._tape_sinks else None
        self._runners.append(SourceRunner(reads, lines, self._ready, record))

    def _line(self, plan: StreamPlan, settings: StreamSettings, medium: Medium, leaps: Leaps | None) -> Line:
        """One stream, from where it comes in to where its outcomes leave."""
        source = plan.source
        runner = self._cascades.get(plan.generation.id)
        if runner is not None and runner.generation is not plan.generation:
            raise InputError(f"two generations have the id {plan.generation.id}", f"sources.{plan.name}")
        if runner is None:
            audit = self._auditing(plan.cascade, plan.generation)
            runner = self._cascades[plan.generation.id] = CascadeRunner(plan.cascade, plan.generation, audit)
        waits = can_wait(source)
        show = self._show
        tracker = EventTracker(self._events)
        outlet = Outlet(plan.name, self._sinks, tracker, show, can_wait=waits, ending=self._stopping.is_set)
        outlet.progress = self._progress_of(plan, outlet)
        stream = Stream(
            plan.name,
            plan.cascade,
            plan.generation,
            outlet.emit,
            in_flight=in_flight(settings, medium, waits=waits, gated=plan.gate is not None),
            block=waits,
            budget_ns=budget_ns(settings, waits=waits),
            linger_ns=WAITING_LINGER_NS if waits and not settings.latency_budget_ms else LIVE_LINGER_NS,
            audit=runner.audit,
            mark=None if show is None else show.mark,
            tracer=self._tracer,
        )
        intake = Intake(
            stream,
            runner,
            plan.gate,
            max_fps=settings.max_fps,
            gate_refresh_s=settings.gate.refresh_s if settings.gate is not None else settings.refresh_s,
            feed_refresh_s=settings.refresh_s,
            watches_feed=leaps is not None and medium == "picture",
            picture_sinks=len(self._picture_sinks),
            held=self._behind,
            leaps=leaps,
            passed=None if show is None else partial(show.watermark, plan.name),
            places=outlet.progress is not None,
        )
        self._streams.append(stream)
        absent = (lambda: None) if show is None else partial(show.absent, plan.name)
        attendance = Attendance(stream, outlet.missed, by_word=medium == "text") if source.live else None
        return Line(stream, intake, partial(stream.after_last, outlet.over), absent, outlet.progress, attendance)

    def _progress_of(self, plan: StreamPlan, outlet: Outlet) -> Progress | None:
        if self._checkpoints is None:
            return None
        return Progress(
            plan.name,
            generation=plan.generation.id,
            tracker=outlet.tracker,
            tell=outlet.tell,
            sinks=self._sinks,
            checkpoints=self._checkpoints,
            resumable=not plan.source.live and plan.source.resumed({}) is not None,
            endless=plan.source.endless,
        )

    def _auditing(self, cascade: str, generation: Generation) -> AuditRunner | None:
        if generation.auditor is None:
            return None
        audit = AuditRunner(cascade, generation.id, generation.auditor, busy=self._busy, deliver=self._deliver_audit)
        self._audits.append(audit)
        return audit

    def _busy(self) -> bool:
        return any(cascade.busy() for cascade in self._cascades.values())

    def _deliver_audit(self, audit: Audit, outcome: Outcome, lease: Lease, can_wait: bool) -> None:
        """An audit, long after its window left."""
        for sink in self._sinks:
            if "audits" not in sink.takes:
                continue
            item: Delivery = audit
            if "pictures" in sink.takes:
                lease.hold()
                item = Picture(outcome, lease.payload, audit)
            sink.put(item, lease if isinstance(item, Picture) else None, can_wait)

    def _hand_tape(self, recording: Recording, can_wait: bool) -> None:
        for sink in self._tape_sinks:
            sink.put(recording, None, can_wait)

    def _rule(self, ruling: Ruling, after: Noted | None = None) -> None:
        for sink in self._sinks:
            if "rulings" in sink.takes:
                sink.put(ruling, None, self._show_waits, after)

    def _behind(self) -> bool:
        return any(sink.full() for sink in self._sinks)

    # Running it.

    def start(self) -> None:
        """Open the sinks, let the sources connect while the stages are warmed, then judge.

        Raises `InputError` where something can never work; nothing runs on then.
        """
        self._began_s = time.monotonic()
        try:
            for audit in self._audits:
                audit.open()
            if self._checkpoints is not None:
                self._checkpoints.open()
            for sink in self._sinks:
                sink.open()
            if self._going is not None:
                self._going.take_up()
            for runner in self._runners:
                runner.start()
            self._warm()
        except BaseException:
            self.stop(1.0)
            raise
        for cascade in self._cascades.values():
            cascade.start()
        self._watched_ns = time.monotonic_ns()
        self._ready.set()
        threading.Thread(target=self._keep_watch, name="watch", daemon=True).start()
        if self._show is not None:
            threading.Thread(target=self._show.keep_time, args=(self._stopping,), name="show", daemon=True).start()
        if any(stream.budget_ns is not None for stream in self._streams):
            threading.Thread(target=self._keep_time, name="deadlines", daemon=True).start()

    def _warm(self) -> None:
        """Run every batch size of every stage once, all stages at the same time."""
        stages = {id(stage): stage for cascade in self._cascades.values() for stage in cascade.generation.stages}
        stages |= {id(audit.auditor.stage): audit.auditor.stage for audit in self._audits}
        with ThreadPoolExecutor(max(1, len(stages)), "warm") as pool:
            for warmed in [pool.submit(stage.warm) for stage in stages.values()]:
                warmed.result()

    def _keep_watch(self) -> None:
        looked_s = time.monotonic()
        while not self._stopping.wait(_WATCH_S):
            now_s = time.monotonic()
            self._watched_ns = int(now_s * 1e9)
            paused_s = now_s - looked_s - _WATCH_S  # the process was stopped, or the machine slept: nobody hung
            looked_s = now_s
            paused_s = paused_s if paused_s > _WATCH_S else 0.0
            for runner in self._runners:
                runner.watch(int(now_s * 1e9), int(paused_s * 1e9))
            for cascade in self._cascades.values():
                cascade.watch(now_s, paused_s)

    def _keep_time(self) -> None:
        """Shed what is late. Sleeps until the next deadline, or for a fiftieth of the shortest budget: by so much may
        a window overstay that was admitted meanwhile with most of its budget gone."""
        timed = [stream for stream in self._streams if stream.budget_ns is not None]
        nap_s = min(max(min(stream.budget_ns or 0 for stream in timed) / 50e9, 0.002), 0.1)
        while not self._stopped:
            now = time.monotonic_ns()
            following = [due for stream in timed if (due := stream.expire(now)) is not None]
            time.sleep(max(min([nap_s, *((due - now) / 1e9 for due in following)]), 0.0002))

    @property
    def finished(self) -> bool:
        """Every source is final and everything was delivered."""
        return (
            all(runner.finished.is_set() for runner in self._runners)
            and all(stream.empty() for stream in self._streams)
            and all(audit.drained() for audit in self._audits)
            and all(sink.drained() for sink in self._sinks)
        )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until everything is `finished`, a `stop` elsewhere, or the time-out; whether it is finished."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._stopping.is_set():
            if self.finished:
                return True
            if end is not None and time.monotonic() >= end:
                return False
            running = next((runner for runner in self._runners if not runner.finished.is_set()), None)
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
            for runner in self._runners:
                runner.stop()
            for runner in self._runners:
                runner.join(began + drain_s * 0.25)
            while time.monotonic() < began + drain_s * 0.6 and not all(stream.empty() for stream in self._streams):
                time.sleep(0.005)
            for stream in self._streams:
                stream.close()
            for runner in self._runners:  # one that waited for room has just been let go
                runner.join(began + drain_s * 0.65)
                runner.end()
            for cascade in self._cascades.values():
                cascade.stop()
            for audit in self._audits:
                audit.join(began + drain_s * 0.8)
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
        return tuple(runner.problem for runner in self._runners if runner.problem is not None)

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
        return awake and not any(cascade.hangs for cascade in self._cascades.values())

    @property
    def unwanted(self) -> bool:
        """Whether nobody reads what some sink wrote for somebody who did: there is little point in going on."""
        return any(sink.gone for sink in self._sinks)

    @property
    def states(self) -> dict[str, SourceState]:
        return {stream.name: stream.state for stream in self._streams}

    def snapshot(self) -> Snapshot:
        now_s = time.monotonic()
        elapsed_s = now_s - self._began_s
        total = Histogram()
        for stream in self._streams:
            stream.latency_into(total)
        with suppress(OSError, psutil.Error):  # asking takes a descriptor, and there may be none left
            self._used = self._process.cpu_percent(), self._process.memory_info().rss
        cpu_percent, rss_bytes = self._used
        return Snapshot(
            elapsed_s=elapsed_s,
            ready=self.ready,
            healthy=self.healthy,
            streams=tuple(stream.snapshot(now_s) for stream in self._streams),
            stages=tuple(stage for cascade in self._cascades.values() for stage in cascade.snapshots(elapsed_s)),
            sinks=tuple(sink.snapshot() for sink in self._sinks),
            latency=total.latency(),
            cpu_percent=cpu_percent,
            rss_bytes=rss_bytes,
            audits=tuple(audit.snapshot(now_s) for audit in self._audits),
            policy=None if self._show is None else self._show.snapshot(),
        )
