"""Puts one source together: its streams from where they come in to where their outcomes leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.core.contracts import Delivery, Picture
from pipeline.core.errors import InputError
from pipeline.core.media import Medium
from pipeline.core.places import Place
from pipeline.core.records import Audit, Outcome
from pipeline.core.settings import StreamSettings
from pipeline.core.tapes import Recording
from pipeline.core.traces import Tracer
from pipeline.engine.attendance import Attendance
from pipeline.engine.cascades import Cascades
from pipeline.engine.checkpoints import Checkpoints
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.events import EventTracker
from pipeline.engine.intake import Intake
from pipeline.engine.leaps import Leaps
from pipeline.engine.outlet import Outlet
from pipeline.engine.plans import LIVE_LINGER_NS, WAITING_LINGER_NS, StreamPlan, budget_ns, can_wait, in_flight
from pipeline.engine.progress import Progress
from pipeline.engine.show import Show
from pipeline.engine.stream import Stream
from pipeline.engine.supervisor import Line, SourceRunner
from pipeline.engine.ticket import Lease


@dataclass(frozen=True, slots=True)
class Running:
    """A source as it runs, with its streams: its own, and those of its further tracks."""

    plan: StreamPlan
    runner: SourceRunner
    lines: tuple[Line, ...]

    @property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(line.stream for line in self.lines)

    @property
    def generations(self) -> list[str]:
        return [one.generation.id for one in self.plan.all]

    @property
    def places(self) -> dict[str, Place]:
        """Behind what was taken in of each stream, where it can be read on from there."""
        here = {line.stream.name: line.intake.place for line in self.lines}
        return {name: place for name, place in here.items() if place is not None}


class Assembly:
    """What all sources of a pipeline share: where outcomes go, what makes events and rulings of them."""

    def __init__(
        self,
        sinks: Sequence[SinkRunner],
        events: EventSettings,
        *,
        checkpoints: Checkpoints | None,
        ready: threading.Event,
        ending: Callable[[], bool],
        tracer: Tracer | None = None,
    ) -> None:
        self.cascades = Cascades(self._deliver_audit)
        self.show: Show | None = None
        self._sinks, self._events, self._checkpoints = sinks, events, checkpoints
        self._ready, self._ending = ready, ending
        self._tracer = tracer
        self._picture_sinks = sum("pictures" in sink.takes for sink in sinks)
        self._tape_sinks = [sink for sink in sinks if "tapes" in sink.takes]

    def source(self, plan: StreamPlan, places: Mapping[str, Place] | None = None) -> Running:
        """`plan`, ready to start, its cascades taken. With `places` (even none) it takes the place of one that ran
        until now, and goes on behind them. Raises `InputError`; nothing is taken then."""
        source = plan.source
        leaps = Leaps() if source.paced and not source.parts and source.medium == "picture" else None
        lines: list[Line] = []
        try:
            lines.append(self._line(plan, source, source.medium, leaps))
            for track in plan.tracks:
                settings = source.tracks[track.name.removeprefix(f"{plan.name}.")]
                lines.append(self._line(track, settings, "sound", leaps))
        except BaseException:
            for one, _ in zip(plan.all, lines, strict=False):
                self.cascades.give_back(one.generation.id, 0.0)
            raise
        for line in lines:
            line.intake.place = (places or {}).get(line.stream.name)
        reads = source
        if source.isolation == "process":
            from pipeline.engine.isolation import Isolated

            audits = [line.stream.audit for line in lines]
            reads = Isolated.around(source, max(0 if audit is None else audit.auditor.reserve for audit in audits))
        waits = can_wait(source)
        record = (lambda one: self._hand_tape(one, waits)) if self._tape_sinks else None
        runner = SourceRunner(reads, lines, self._ready, record, takes_over=places is not None)
        return Running(plan, runner, tuple(lines))

    def _line(self, plan: StreamPlan, settings: StreamSettings, medium: Medium, leaps: Leaps | None) -> Line:
        """One stream, from where it comes in to where its outcomes leave."""
        source, show = plan.source, self.show
        waits = can_wait(source)
        tracker = EventTracker(self._events)
        outlet = Outlet(plan.name, self._sinks, tracker, show, can_wait=waits, ending=self._ending)
        outlet.progress = self._progress_of(plan, outlet)
        try:
            runner = self.cascades.take(plan.cascade, plan.generation)
        except InputError as error:
            raise InputError(error.message, f"sources.{plan.name}") from None
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
            picture_sinks=self._picture_sinks,
            held=self._behind,
            leaps=leaps,
            passed=None if show is None else partial(show.watermark, plan.name),
            places=outlet.progress is not None or not source.live,
        )
        absent = (lambda: None) if show is None else partial(show.absent, plan.name)
        attendance = Attendance(stream, outlet.missed, by_word=medium == "text") if source.live else None
        rests = partial(stream.after_last, partial(outlet.rest, goes_on=not source.live))
        return Line(stream, intake, partial(stream.after_last, outlet.over), rests, absent, outlet.progress, attendance)

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

    def _behind(self) -> bool:
        return any(sink.full() for sink in self._sinks)
