"""What one stream, rule, sink or connection does must not reach the others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Escalate, Generation, Sink, Writer
from pipeline.core.errors import SinkBusy
from pipeline.core.records import Failed, Region, Result, Shed, SourceState
from pipeline.core.rulings import Ruling
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.faulty import Faulty
from sinks.memory import Memory as MemorySink
from sources.memory import LiveMemory, Lost, Memory, Missing, Pause
from tests.contracts import sink_suite as suite


def until(condition: Any, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


@pytest.mark.slow
def test_a_file_on_the_same_stage_does_not_starve_a_camera() -> None:
    gen = generation(Brightness(slow_s=0.02, max_batch=4))
    camera = LiveMemory(script=[grey(40 + i) for i in range(45)], fps=15, realtime=True)
    film = Memory(script=[grey(90)], repeat=5000)
    sink = MemorySink()
    pipeline = Pipeline([StreamPlan("camera", camera, "c", gen), StreamPlan("film", film, "c", gen)], {"m": sink})
    pipeline.start()
    pipeline.wait(3.5)
    snapshot = {stream.stream: stream for stream in pipeline.snapshot().streams}
    pipeline.stop(1.0)
    assert snapshot["camera"].received >= 40
    assert snapshot["camera"].results >= snapshot["camera"].received - 3
    assert snapshot["film"].results > 100, "and the film gets what is left"


def test_a_slow_head_does_not_shed_what_idle_stages_could_judge() -> None:
    heavy = Brightness("heavy", slow_s=0.6)
    camera = LiveMemory(
        script=[grey(120), *[grey(40)] * 29], repeat=2, fps=30, realtime=True, latency_budget_ms=4000, refresh_s=0.001
    )
    sink = MemorySink()
    pipeline = Pipeline([StreamPlan("c", camera, "c", generation(Brightness(), heavy, Levels()))], {"m": sink})
    pipeline.start()
    assert until(lambda: len(sink.collector.outcomes) == 60)
    pipeline.stop(1.0)
    assert all(isinstance(outcome, Result) for outcome in sink.collector.outcomes)
    waited = [o.latency_ns / 1e9 for o in sink.collector.outcomes[1:10]]
    assert max(waited) > 0.3, "the wait for the one before is part of the latency"


def test_a_stage_that_hangs_holds_a_bounded_number_of_windows() -> None:
    hang = threading.Event()
    camera = LiveMemory(script=[grey(40 + i % 9) for i in range(2000)], fps=500, realtime=True)
    sink = MemorySink()
    pipeline = Pipeline([StreamPlan("c", camera, "c", generation(Brightness(hang=hang)))], {"m": sink})
    pipeline.start()
    most = 0
    for _ in range(40):
        pipeline.wait(0.05)
        most = max(most, pipeline.snapshot().streams[0].in_flight)
    hang.set()
    pipeline.stop(2.0)
    assert most <= 8 + 64 + 1
    stream = pipeline.snapshot().streams[0]
    assert stream.windows == stream.results + sum(stream.shed.values()) + stream.failed
    assert stream.windows > 500


@dataclass(frozen=True)
class Wrong(Levels):
    """A third party's rule at its worst."""

    how: str = "none"

    def decide(self, cheap: Any) -> Any:
        match self.how:
            case "none":
                return None
            case "raises":
                raise ValueError("at a loss")
            case "string":
                return "clear"
        return super().decide(cheap)

    def merge(self, cheap: Any, heavy: Any) -> Any:
        return 7 if self.how == "merge" else super().merge(cheap, heavy)


@pytest.mark.parametrize("how", ["none", "raises", "string", "merge"])
def test_a_wrong_rule_fails_its_windows_and_no_more(how: str) -> None:
    sink = MemorySink()
    stages = Brightness(), Brightness("heavy")
    wrong = Generation("wrong@1", *stages, Wrong(how=how))
    right = Generation("right@1", *stages, Levels())
    film = Memory(script=[grey(120)] * 20)
    pipeline = Pipeline([StreamPlan("wrong", film, "c", wrong), StreamPlan("right", film, "c", right)], {"m": sink})
    pipeline.start()
    assert pipeline.wait(10), "a worker died"
    pipeline.stop()
    kinds = Counter((o.window.stream, type(o)) for o in sink.collector.outcomes)
    assert kinds == {("wrong", Failed): 20, ("right", Result): 20}


@dataclass(frozen=True)
class Rounds(Levels):
    """Has the heavy stage look again and again, until it has seen `looks` regions."""

    looks: int = 3
    seen: list[int] = field(default_factory=list)

    def merge(self, cheap: Any, heavy: Any) -> Any:
        self.seen.append(len(heavy))
        return Escalate((Region((0, 0, 8, 8)),)) if len(heavy) < self.looks else super().merge(cheap, heavy)


@pytest.mark.parametrize(("looks", "kind"), [(1, Result), (3, Result), (2000, Failed)])
def test_a_rule_may_look_in_rounds_but_not_for_ever(looks: int, kind: type) -> None:
    sink = MemorySink()
    rule = Rounds(regions=(Region((0, 0, 4, 4)),), looks=looks)
    heavy = Brightness("heavy")
    pipeline = Pipeline(
        [StreamPlan("s", Memory(script=[grey(120)] * 4), "c", Generation("rounds@1", Brightness(), heavy, rule))],
        {"m": sink},
    )
    pipeline.start()
    assert pipeline.wait(30)
    pipeline.stop()
    assert [type(o) for o in sink.collector.outcomes] == [kind] * 4
    assert sum(heavy.batches) == len(rule.seen)
    if kind is Result:
        assert sorted(rule.seen) == sorted(list(range(1, looks + 1)) * 4)
        assert all(o.flagged and len(o.detections) == looks for o in sink.collector.outcomes)


def test_a_wrong_rule_is_no_worse_than_asking_for_a_stage_that_is_not_there() -> None:
    sink = MemorySink()
    lone = Generation("lone@1", Brightness(), None, Levels())
    pipeline = Pipeline([StreamPlan("s", Memory(script=[grey(120)] * 3), "c", lone)], {"m": sink})
    pipeline.start()
    assert pipeline.wait(10)
    pipeline.stop()
    assert [o.kind for o in sink.collector.outcomes] == ["failed"] * 3


def test_no_verdict_and_no_event_crosses_a_reconnection() -> None:
    """The heavy stage is slow, so windows of the first connection are still inside when the second begins."""
    heavy = Brightness("heavy", slow_s=0.1, max_batch=1)
    script = [grey(120)] * 4 + [Lost()] + [x for _ in range(40) for x in (grey(120), Pause(0.02))]
    sink = MemorySink()
    pipeline = Pipeline(
        [
            StreamPlan(
                "s", LiveMemory(script=script, fps=10, in_flight=64), "c", generation(Brightness(), heavy, Levels())
            )
        ],
        {"m": sink},
        events=EventSettings(start_after=1),
    )
    pipeline.start()
    assert until(lambda: len(sink.collector.outcomes) >= 44)
    pipeline.stop(3.0)
    for result in sink.collector.results:
        assert result.carried_from is None or result.window.epoch in result.carried_from
    ended = [e for e in sink.collector.events if e.kind == "end"]
    assert len(ended) == 2, "one presence a connection"
    assert len({e.id for e in sink.collector.events}) == 2
    assert all(e.end_ns > e.start_ns for e in ended)


def test_damage_alone_is_a_state() -> None:
    camera = LiveMemory(script=[Missing(5), Pause(5)])
    pipeline = Pipeline([StreamPlan("c", camera, "c", generation())], {})
    pipeline.start()
    assert until(lambda: pipeline.states["c"] is SourceState.DAMAGED)
    pipeline.stop(1.0)


def test_a_late_verdict_is_none() -> None:
    camera = Memory(script=[grey(90)] * 30, latency_budget_ms=100)
    sink = MemorySink()
    pipeline = Pipeline([StreamPlan("s", camera, "c", generation(Brightness(slow_s=0.06, max_batch=2)))], {"m": sink})
    pipeline.start()
    assert pipeline.wait(10)
    pipeline.stop()
    assert {type(o) for o in sink.collector.outcomes} == {Result, Shed}
    settled = [o.latency_ns / 1e6 for o in sink.collector.results]
    assert max(settled) <= 101


class Hanging(Sink):
    """Takes for ever."""

    def open(self) -> Writer:
        return self

    def write(self, items: object) -> None:
        time.sleep(30)

    def close(self) -> None:
        pass


class Careful(MemorySink):
    """Needs a while to close, and says when it has."""

    closed: threading.Event

    def open(self) -> Writer:
        writer = super().open()
        close = writer.close

        def slowly() -> None:
            time.sleep(0.6)
            self.closed.set()
            close()

        writer.close = slowly  # type: ignore[method-assign]  # that is the point
        return writer


def test_sinks_that_hang_neither_delay_the_end_nor_rob_the_others_of_theirs() -> None:
    careful = Careful(closed=threading.Event())
    sinks = {"h1": Hanging(), "h2": Hanging(), "careful": careful, "h3": Hanging()}
    pipeline = Pipeline([StreamPlan("s", LiveMemory(script=[grey(90)] * 5), "c", generation())], sinks)
    pipeline.start()
    pipeline.wait(0.3)
    began = time.monotonic()
    pipeline.stop(drain_s=2.0)
    assert time.monotonic() - began < 2.5
    assert careful.closed.is_set(), "it was not closed"


class Unreachable(LiveMemory):
    """A camera that keeps one waiting."""

    def open(self, stream: str) -> Any:
        time.sleep(20)
        return super().open(stream)


def test_a_camera_that_is_still_connecting_does_not_delay_the_end() -> None:
    pipeline = Pipeline(
        [StreamPlan(f"s{i}", Unreachable(script=[grey(90)]), "c", gen) for gen in [generation()] for i in range(8)], {}
    )
    pipeline.start()
    pipeline.wait(0.1)
    began = time.monotonic()
    pipeline.stop(drain_s=5.0)
    assert time.monotonic() - began < 2.0


@pytest.mark.slow
def test_a_busy_sink_drops_what_is_live_before_what_can_wait_and_events_last() -> None:
    class Busy(MemorySink):
        backlog = 20

    sink = Busy()
    busy = Faulty.around(sink, {"fault": "busy", "times": 5})
    camera = LiveMemory(script=[grey(90 + i) for i in range(100)], fps=200, realtime=True, in_flight=64)
    film = Memory(script=[grey(220)] * 60)
    pipeline = Pipeline(
        [StreamPlan("camera", camera, "c", generation()), StreamPlan("film", film, "c", generation())], {"m": busy}
    )
    pipeline.start()
    assert until(lambda: sum(o.window.stream == "film" for o in sink.collector.outcomes) == 60, 20)
    pipeline.stop(2.0)
    assert pipeline.snapshot().sinks[0].dropped > 0
    assert {e.kind for e in sink.collector.events if e.stream == "film"} >= {"new", "end"}


@pytest.mark.slow
def test_a_live_source_that_must_not_drop_is_not_taken_for_hanging() -> None:
    """The sink takes nothing for a while; the stream waits in the intake, longer than `silence_s`."""

    class Small(MemorySink):
        backlog = 1

        def open(self) -> Writer:
            if time.monotonic() < opens_at:
                raise SinkBusy("not yet")
            return super().open()

    opens_at = time.monotonic() + 3.0
    sink = Small()
    camera = LiveMemory(script=[grey(90)] * 80, overflow="block", silence_s=0.5)
    pipeline = Pipeline([StreamPlan("c", camera, "c", generation())], {"m": sink})
    pipeline.start()
    assert until(lambda: len(sink.collector.outcomes) == 80, 15)
    connects = pipeline.snapshot().streams[0].connects
    pipeline.stop(1.0)
    assert connects <= 2, "the script's end reconnects; the wait must not"
    assert len({o.window.epoch for o in sink.collector.outcomes}) == 1


def test_the_end_of_an_action_is_never_dropped() -> None:
    """A sink that blurs until it is told to stop, behind a backlog of nothing but rulings."""
    plan = MemorySink()
    runner = SinkRunner("m", plan, lambda: None)  # type: ignore[arg-type,return-value]
    runner._size = 4
    for number in range(40):
        for kind in ("new", "update", "end"):
            runner.put(suite.ruling(kind, 2, name=f"evening/hate/{number}"), None, False)
        runner.put(suite.result(number), None, False)
    kept = [item.delivery for item in runner._items]
    ends = [one for one in kept if getattr(one, "kind", "") == "end"]
    assert ends and ends[-1].id == "evening/hate/39"
    assert len(kept) <= 5
    for number in range(40):  # rules may be many
        ruling = replace(suite.ruling("end", name=f"evening/{number}"), rule=f"r{number}")
        runner.put(ruling, None, False)
    kept = [item.delivery for item in runner._items]
    assert {one.rule for one in kept if isinstance(one, Ruling)} >= {f"r{number}" for number in range(40)} | {"hate"}
