"""The laws, over whole pipelines: conservation, order, bounds, deadlines, under faults, overload and cancellation."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Generation
from pipeline.core.records import Failed, Region, Result, Shed, SourceState
from pipeline.core.snapshot import Snapshot, StreamSnapshot
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.faulty import Faulty
from sinks.memory import Collector
from sinks.memory import Memory as MemorySink
from sources.memory import Leap, LiveMemory, Lost, Memory, Missing, Pause, Refused, Stall


def run(
    plans: list[StreamPlan], *, wait_s: float = 30.0, stop_after_s: float | None = None, faults: Sequence[str] = ()
) -> tuple[Snapshot, Collector]:
    plan = MemorySink()
    pipeline = Pipeline(plans, {"memory": Faulty.around(plan, *({"fault": fault} for fault in faults))})
    pipeline.start()
    if stop_after_s is None:
        assert pipeline.wait(wait_s), "it did not finish"
    else:
        pipeline.wait(stop_after_s)
    pipeline.stop()
    return pipeline.snapshot(), plan.collector


def plan(source: Memory, gen: Generation | None = None, name: str = "s") -> StreamPlan:
    return StreamPlan(name, source, "levels", gen or generation())


def check_ledgers(stream: StreamSnapshot, collector: Collector) -> None:
    """Both laws of conservation, the order, and that a sink saw what the ledger says."""
    assert stream.received == stream.windows + stream.sampled_out + stream.damaged + stream.undecoded
    assert stream.windows == stream.results + sum(stream.shed.values()) + stream.failed + stream.in_flight
    outcomes = [o for o in collector.outcomes if o.window.stream == stream.stream]
    kinds = Counter(o.kind for o in outcomes)
    assert kinds["result"] == stream.results
    assert kinds["shed"] == sum(stream.shed.values())
    assert kinds["failed"] == stream.failed
    said = Counter(o.verdict for o in outcomes)
    said["unknown"] += stream.damaged + stream.undecoded
    assert said == Counter(stream.verdicts)
    keys = [(o.window.epoch, o.window.seq) for o in outcomes]
    assert len(set(keys)) == len(keys), "a window has two outcomes"
    assert keys == sorted(keys), "outcomes left out of order"


LEVELS = (20, 120, 130, 220)
steps = st.one_of(
    st.sampled_from(LEVELS).map(grey),
    st.sampled_from(LEVELS).map(grey),
    st.builds(Missing, st.integers(1, 3), st.sampled_from(["damaged", "undecoded"])),
)
scripts = st.lists(steps, min_size=1, max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=scripts,
    poison=st.sets(st.sampled_from(LEVELS), max_size=2),
    heavy_poison=st.sets(st.sampled_from(LEVELS), max_size=2),
    regions=st.sampled_from([(), (Region((0, 0, 8, 8)),), (Region((0, 0, 8, 8)), Region((4, 4, 16, 16)))]),
    workers=st.integers(1, 3),
    in_flight=st.integers(1, 9),
    max_fps=st.sampled_from([None, 10.0]),
    streams=st.integers(1, 3),
)
def test_nothing_is_lost_when_stages_fail(
    script, poison, heavy_poison, regions, workers, in_flight, max_fps, streams
) -> None:
    gen = generation(
        Brightness(poison=frozenset(poison), workers=workers),
        Brightness("heavy", poison=frozenset(heavy_poison), workers=workers, max_batch=3),
        Levels(regions=regions),
    )
    source = Memory(script=script, in_flight=in_flight, max_fps=max_fps)
    snapshot, collector = run([plan(source, gen, f"s{i}") for i in range(streams)])
    for stream in snapshot.streams:
        check_ledgers(stream, collector)
        assert stream.in_flight == 0
        assert stream.state is SourceState.ENDED
        assert not stream.shed, "a stream that can wait sheds nothing"
        if max_fps is None:
            failed = [o for o in collector.outcomes if isinstance(o, Failed) and o.window.stream == stream.stream]
            levels = [int(step[0, 0, 0]) for step in script if not isinstance(step, Missing)]
            grey_zone = [x for x in levels if 0.3 <= x / 255 < 0.7]
            unseen = sum(x in poison for x in levels)
            unseen += sum(x in heavy_poison and x not in poison for x in grey_zone)
            assert len(failed) == unseen


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stop_after_s=st.floats(0.0, 0.15),
    slow_ms=st.integers(0, 30),
    in_flight=st.integers(1, 6),
    live=st.booleans(),
    budget_ms=st.sampled_from([None, 15.0, 60.0]),
    hang=st.booleans(),
)
def test_nothing_is_lost_when_it_is_stopped_in_the_middle(
    stop_after_s, slow_ms, in_flight, live, budget_ms, hang
) -> None:
    never = threading.Event()
    gen = generation(
        Brightness(slow_s=slow_ms / 1e3), Brightness("heavy", hang=never if hang else None), Levels(low=0.3, high=0.7)
    )
    kind = LiveMemory if live else Memory
    source = kind(
        script=[grey(20), grey(120), Missing(2), grey(220)],
        repeat=400, fps=500, realtime=live, in_flight=in_flight, latency_budget_ms=budget_ms,
    )  # fmt: skip
    sink = MemorySink()
    pipeline = Pipeline([plan(source, gen)], {"memory": sink})
    pipeline.start()
    pipeline.wait(stop_after_s)
    began = time.monotonic()
    pipeline.stop(drain_s=2.0)
    assert time.monotonic() - began < 4, "a stop has to end"
    never.set()
    stream = pipeline.snapshot().streams[0]
    check_ledgers(stream, sink.collector)
    assert stream.in_flight == 0


def test_overload_sheds_the_oldest_and_says_so() -> None:
    gen = generation(Brightness(slow_s=0.02, max_batch=1))
    source = LiveMemory(script=[grey(90)], repeat=150, fps=500, realtime=True, in_flight=4)
    snapshot, collector = run([plan(source, gen)], stop_after_s=0.8)
    stream = snapshot.streams[0]
    check_ledgers(stream, collector)
    assert stream.received == 150
    assert stream.shed["overload"] > 75
    results = [o.window.seq for o in collector.outcomes if isinstance(o, Result)]
    assert results[-1] >= 145, "under overload the newest windows are judged, not the oldest"


def test_a_late_head_holds_nobody() -> None:
    """One window hangs in the heavy stage for good: it is shed at its deadline, those behind it leave then."""
    hang = threading.Event()
    gen = generation(Brightness(), Brightness("heavy", hang=hang), Levels())
    source = Memory(script=[grey(120), *[grey(20)] * 20], latency_budget_ms=150)
    sink = MemorySink()
    pipeline = Pipeline([plan(source, gen)], {"memory": sink})
    pipeline.start()
    assert pipeline.wait(10)
    hang.set()
    time.sleep(0.05)
    pipeline.stop()
    head, *rest = sink.collector.outcomes
    assert isinstance(head, Shed)
    assert head.reason == "deadline"
    assert [type(o) for o in rest] == [Result] * 20
    check_ledgers(pipeline.snapshot().streams[0], sink.collector)


def test_batches_form_across_streams() -> None:
    stage = Brightness(max_batch=8, slow_s=0.005)
    gen = generation(stage)
    snapshot, collector = run([plan(Memory(script=[grey(20)] * 40), gen, f"s{i}") for i in range(4)])
    assert len(collector.results) == 160
    assert max(stage.batches) == 8
    assert sum(stage.batches) / len(stage.batches) > 4
    assert stage.warmed == 1
    assert snapshot.stages[0].views == 160
    assert sum(size * n for size, n in snapshot.stages[0].batch_sizes.items()) == 160


def test_a_hung_stage_of_one_cascade_leaves_the_other_stream_alone() -> None:
    hang = threading.Event()
    stuck = Generation("stuck@1", Brightness(hang=hang), None, Levels(high=0.3))
    source = Memory(script=[grey(20)] * 50)
    sink = MemorySink()
    pipeline = Pipeline([plan(source, stuck, "stuck"), plan(source, generation(), "fine")], {"memory": sink})
    pipeline.start()
    pipeline.wait(1.0)
    fine = [o for o in sink.collector.results if o.window.stream == "fine"]
    assert len(fine) == 50
    hang.set()
    assert pipeline.wait(10)
    pipeline.stop()
    for stream in pipeline.snapshot().streams:
        check_ledgers(stream, sink.collector)


def test_a_slow_sink_holds_a_file_and_no_live_stream() -> None:
    class Slow(MemorySink):
        backlog = 8

    sink = Faulty.around(Slow(), {"fault": "slow", "each_s": 0.3}, repeat=True)
    live = LiveMemory(script=[grey(40 + i) for i in range(100)], fps=200, realtime=True, in_flight=64)
    pipeline = Pipeline([plan(live, name="live"), plan(Memory(script=[grey(20)] * 2000), name="file")], {"slow": sink})
    pipeline.start()
    pipeline.wait(1.0)
    by_name = {stream.stream: stream for stream in pipeline.snapshot().streams}
    waiting = pipeline.snapshot().sinks[0].waiting
    pipeline.stop(drain_s=2)
    assert by_name["live"].results == 100, "the live stream was judged at its own rate"
    assert by_name["file"].windows < 1500, "the file waited for the sink"
    assert waiting <= 256 + 8 + 2 * 32
    final = pipeline.snapshot()
    assert final.sinks[0].written + final.sinks[0].dropped >= sum(stream.results for stream in final.streams)


def test_a_sink_that_shows_the_moment_holds_not_even_a_file() -> None:
    class Showing(MemorySink):
        backlog = 8
        fleeting = True

    sink = Faulty.around(Showing(), {"fault": "slow", "each_s": 0.3}, repeat=True)
    pipeline = Pipeline([plan(Memory(script=[grey(20)] * 2000), name="file")], {"slow": sink})
    pipeline.start()
    while pipeline.snapshot().streams[0].results < 2000:
        assert not pipeline.wait(0.05)
        assert pipeline.snapshot().sinks[0].waiting <= 16 + 256
    pipeline.stop(drain_s=2)
    final = pipeline.snapshot()
    assert final.sinks[0].dropped == 0
    assert final.sinks[0].passed_over > 1000
    assert final.sinks[0].written + final.sinks[0].passed_over == 2000


@pytest.mark.parametrize("faults", [("busy", "unacknowledged", "busy"), ("crash", "none")])
def test_a_sink_in_trouble_gets_everything_in_the_end(faults) -> None:
    snapshot, collector = run([plan(Memory(script=[grey(20)] * 30))], faults=faults)
    ids = [o.window.id for o in collector.outcomes]
    assert list(dict.fromkeys(ids)) == [f"s/{collector.outcomes[0].window.epoch}/{i}" for i in range(30)]
    assert snapshot.sinks[0].retries >= 1
    assert snapshot.sinks[0].written == 30


def test_a_refusal_is_counted_and_the_rest_delivered() -> None:
    """A refused batch is offered item by item: what the sink minds may be one of them."""
    snapshot, collector = run([plan(Memory(script=[grey(20)] * 30))], faults=("refuse", "refuse"))
    assert snapshot.sinks[0].refused + len(collector) == 30
    assert 1 <= snapshot.sinks[0].refused <= 2
    assert snapshot.sinks[0].written == len(collector)


def test_a_live_source_comes_back_and_a_file_does_not() -> None:
    script = [grey(20), Lost(), grey(20), Lost("again"), grey(20)]
    live, _ = run([plan(LiveMemory(script=script))], stop_after_s=2.0)
    assert live.streams[0].received == 3
    assert live.streams[0].connects >= 3
    assert live.streams[0].state is SourceState.CONNECTING
    pipeline = Pipeline([plan(Memory(script=script))], {})
    pipeline.start()
    assert pipeline.wait(5)
    assert pipeline.snapshot().streams[0].state is SourceState.FAILED
    assert "broken off by script" in str(pipeline.problems[0])
    pipeline.stop()


def test_unusable_input_fails_its_stream_alone() -> None:
    bad_plan = plan(LiveMemory(script=[Refused("no picture in it")]), name="bad")
    pipeline = Pipeline([bad_plan, plan(Memory(script=[grey(20)] * 5), name="good")], {})
    pipeline.start()
    assert pipeline.wait(5)
    pipeline.stop()
    bad, good = pipeline.snapshot().streams
    assert bad.state is SourceState.FAILED
    assert good.results == 5
    assert [str(p) for p in pipeline.problems] == ["sources.bad: no picture in it"]


@pytest.mark.slow
def test_a_source_that_hangs_is_opened_again() -> None:
    source = LiveMemory(script=[grey(20), Stall(60), grey(20), Pause(30)], silence_s=1.0)
    sink = MemorySink()
    pipeline = Pipeline([plan(source)], {"memory": sink})
    pipeline.start()
    deadline = time.monotonic() + 10
    while len(sink.collector.outcomes) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(sink.collector.results) == 2, "a hung reader was not replaced"
    assert len({o.window.epoch for o in sink.collector.outcomes}) == 2
    time.sleep(2.0)
    assert pipeline.states["s"] is SourceState.SILENT, "silence with signs of life is shown, and left alone"
    pipeline.stop()


def test_a_leap_of_the_clock_is_a_state_and_leaves_time_monotonic() -> None:
    source = LiveMemory(script=[grey(40), grey(60), Leap(3600), grey(40), grey(60), Leap(-7200), grey(40), Pause(9)])
    sink = MemorySink()
    pipeline = Pipeline([plan(source)], {"memory": sink})
    pipeline.start()
    deadline = time.monotonic() + 5
    while len(sink.collector.outcomes) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipeline.states["s"] is SourceState.JUMPING
    pipeline.stop(1.0)
    starts = [o.window.start_ns for o in sink.collector.outcomes]
    assert starts == sorted(starts)
    assert starts[-1] - starts[0] < 2e9, "an hour's leap is no hour of video"


@pytest.mark.parametrize(("level", "state"), [(0, SourceState.BLACK), (90, SourceState.FROZEN)])
def test_black_and_frozen_feeds_are_judged_once_and_again_after_the_refresh(level, state) -> None:
    """At 20 frames a second for 10 s of media time with a refresh of 4 s."""
    stage = Brightness()
    frames = [grey(90)] + [grey(level)] * 200
    source = LiveMemory(
        script=[x for frame in frames for x in (frame, Pause(0.002))], fps=20, refresh_s=4.0, in_flight=256
    )
    sink = MemorySink()
    pipeline = Pipeline([plan(source, replace(generation(stage), certified=True))], {"memory": sink})
    pipeline.start()
    deadline = time.monotonic() + 20
    while len(sink.collector.outcomes) < 201 and time.monotonic() < deadline:
        time.sleep(0.01)
    seen = pipeline.snapshot().streams[0].decided_by
    pipeline.stop(1.0)
    assert seen[state.value] >= 150
    results = sink.collector.results
    assert len(results) == 201
    judged = [r for r in results if r.decided_by == "cheap"]
    # Before a feed counts as frozen it has to stay so for two seconds: 40 frames.
    settled = [r for r in judged if r.window.start_ns > 2.6e9]
    assert 1 <= len(settled) <= 3
    carried = [r for r in results if r.carried_from]
    assert {r.carried_from for r in carried} <= {r.window.id for r in judged}
    assert all(r.certified for r in judged)
    # a frozen feed shows the very picture that was judged, a black one only something as dark
    assert {r.certified for r in carried} == {state is SourceState.FROZEN}


def test_events_open_after_a_few_windows_and_close_after_a_gap() -> None:
    levels = [20] * 10 + [220] * 30 + [20] * 10 + [220] * 1 + [20] * 70 + [220] * 10
    sink = MemorySink()
    pipeline = Pipeline(
        [plan(Memory(script=[grey(x) for x in levels], fps=10))],
        {"memory": sink},
        events=EventSettings(start_after=2, end_after_s=2.0, update_every_s=2.0),
    )
    pipeline.start()
    assert pipeline.wait(10)
    pipeline.stop()
    told = [(e.kind, round(e.start_ns / 1e9, 1), round(e.end_ns / 1e9, 1)) for e in sink.collector.events]
    assert told[0] == ("new", 1.0, 1.2)
    assert ("end", 1.0, 5.1) in told, "the lone window at 5.0 s keeps it open"
    assert told[-1] == ("end", 12.1, 13.1), "the end of the file ends what is open"
    assert [k for k, *_ in told].count("update") == 1
    assert len({e.id for e in sink.collector.events}) == 2


def test_a_tracker_that_stumbles_costs_events_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stumbles(*_: object) -> None:
        raise ZeroDivisionError("a library of somebody else's")

    monkeypatch.setattr("pipeline.engine.events.EventTracker.see", stumbles)
    snapshot, collector = run([plan(Memory.model_validate({"script": [grey(220)] * 6}))])
    check_ledgers(snapshot.streams[0], collector)
    assert len(collector.results) == 6 and not collector.events
    assert caplog.text.count("events could not be told") == 1


def test_the_processors_in_use_are_the_same_to_all_who_look_at_about_the_same_time() -> None:
    """A page, a scraper and a console may: asked again at once, the system knows of no time in which any was used."""
    pipeline = Pipeline([], {})
    asked = []

    class Process:
        def cpu_percent(self) -> float:
            asked.append(1)
            return 50.0 if len(asked) == 1 else 0.0

        def memory_info(self) -> object:
            return psutil.Process().memory_info()

    pipeline._process = Process()  # type: ignore[assignment]
    assert [pipeline.snapshot().cpu_percent for _ in range(3)] == [50.0] * 3
