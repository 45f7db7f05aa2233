"""Streams are added, changed, paused and removed while the rest runs: nobody else notices, and both ledgers hold."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from coming_parts import FILM, both, camera, check, of, plan, said
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Generation, Reader
from pipeline.core.errors import InputError
from pipeline.core.records import Event, Result, Shed, SourceState
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline
from pipeline.engine.policy_settings import PolicySettings
from sinks.memory import Memory as MemorySink
from sources.memory import LiveMemory, Memory
from sources.pattern import Pattern
from tests.engine.remote_parts import until


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 16), max_fps=st.sampled_from([None, 10.0]), paused=st.booleans())
def test_a_replay_says_the_same_whatever_happens_beside_it(seed: int, max_fps: float | None, paused: bool) -> None:
    film = Memory(script=FILM, repeat=60, max_fps=max_fps, in_flight=4)
    shared, other = both(), both()
    alone = MemorySink()
    undisturbed = Pipeline([plan("film", film, shared)], {"m": alone})
    undisturbed.start()
    assert undisturbed.wait(30)
    undisturbed.stop()

    draw = random.Random(seed)
    sink = MemorySink()
    pipeline = Pipeline([], {"m": sink})
    pipeline.start()
    pipeline.add(plan("film", film, shared))
    there: list[str] = []
    added = 0
    for _ in range(25):
        act = draw.choice(["add", "add", "remove", "pause", "resume", "film"])
        if act == "add":
            added += 1
            source = draw.choice([camera(), camera(latency_budget_ms=50), Pattern(width=32, height=32, fps=100)])
            pipeline.add(plan(f"s{added}", source, draw.choice([shared, other])))
            there.append(f"s{added}")
        elif act == "remove" and there:
            pipeline.remove(there.pop(draw.randrange(len(there))), draw.choice([0.0, 0.3]))
        elif act == "pause" and there:
            pipeline.pause(draw.choice(there))
        elif act == "resume" and there:
            pipeline.resume(draw.choice(there))
        elif act == "film" and paused and of(pipeline, "film").state is not SourceState.ENDED:
            try:
                pipeline.pause("film")
            except InputError:
                continue  # it has ended just now
            assert of(pipeline, "film").state is SourceState.PAUSED
            pipeline.resume("film")
        time.sleep(draw.random() * 0.01)
    for name in there:
        pipeline.remove(name, 0.3)
    assert pipeline.wait(30)
    final = pipeline.snapshot()
    pipeline.stop()
    assert said(sink.collector, "film") == said(alone.collector, "film")
    (stream,) = final.streams
    before = undisturbed.snapshot().streams[0]
    check(stream)
    for fate in ("received", "sampled_out", "damaged", "windows", "results"):
        assert getattr(stream, fate) == getattr(before, fate), fate
    if added:
        assert final.removed is not None
        check(final.removed)
        assert final.removed.in_flight == 0
        kinds = Counter(one.kind for one in sink.collector.outcomes if one.window.stream != "film")
        told = final.removed
        assert kinds == +Counter(result=told.results, shed=sum(told.shed.values()), failed=told.failed)
        assert final.latency.count == stream.results + told.results
    for name in {one.window.stream for one in sink.collector.outcomes}:
        keys = [(o.window.epoch, o.window.seq) for o in sink.collector.outcomes if o.window.stream == name]
        assert len(set(keys)) == len(keys)


def test_streams_of_a_generation_share_its_runner_and_the_last_one_stops_it() -> None:
    one, two = both(), both()
    pipeline = Pipeline([plan("a", camera(), one)], {"m": MemorySink(limit=10)})
    pipeline.start()
    pipeline.add(plan("b", camera(), one))
    pipeline.add(plan("c", camera(), two))
    assert {stage.generation for stage in pipeline.snapshot().stages} == {one.id, two.id}
    assert [stage.warmed for stage in (*one.stages, *two.stages)] == [1, 1, 1, 1]  # type: ignore[attr-defined]
    assert until(lambda: of(pipeline, "b").results > 0 and of(pipeline, "c").results > 0)
    pipeline.remove("c")
    assert {stage.generation for stage in pipeline.snapshot().stages} == {one.id}
    pipeline.remove("a")
    results = of(pipeline, "b").results
    assert until(lambda: of(pipeline, "b").results > results + 5)
    with pytest.raises(InputError, match="two generations have the id"):
        pipeline.add(plan("d", camera(), Generation(one.id, Brightness(), None, Levels(high=0.3))))
    pipeline.remove("b")
    assert not pipeline.snapshot().stages
    assert until(lambda: not [t for t in threading.enumerate() if t.name.startswith(("cheap-", "heavy-", "source-"))])
    pipeline.add(plan("a", camera(), one))  # what was let go can be taken again
    assert until(lambda: of(pipeline, "a").results > 0)
    pipeline.stop()


def test_a_model_is_warmed_before_its_stream_begins_and_nobody_waits_for_it() -> None:
    class Slow(Brightness):
        entered, go = threading.Event(), threading.Event()

        def warm(self) -> None:
            self.entered.set()
            assert self.go.wait(20)

    shared = both()
    pipeline = Pipeline([plan("a", camera(), shared)], {"m": MemorySink(limit=10)})
    pipeline.start()
    stage = Slow()
    adding = threading.Thread(target=pipeline.add, args=(plan("b", camera(), generation(stage)),))
    adding.start()
    assert stage.entered.wait(10)
    assert list(pipeline.states) == ["a"]
    with pytest.raises(InputError, match="same name"):  # it is on its way
        pipeline.add(plan("b", camera(), generation()))
    results = of(pipeline, "a").results
    assert until(lambda: of(pipeline, "a").results > results + 5)
    pipeline.pause("a")
    pipeline.resume("a")

    def come_and_go() -> None:
        pipeline.add(plan("c", camera(), shared))
        pipeline.remove("c", 0.3)

    beside = threading.Thread(target=come_and_go)
    beside.start()
    beside.join(10)
    assert not beside.is_alive()
    stage.go.set()
    adding.join(10)
    assert until(lambda: of(pipeline, "b").results > 0)
    pipeline.stop()


def test_a_model_that_cannot_be_warmed_leaves_all_as_it_was() -> None:
    class Broken(Brightness):
        def warm(self) -> None:
            raise InputError("no memory for it")

    pipeline = Pipeline([], {"m": MemorySink(limit=10)})
    pipeline.start()
    with pytest.raises(InputError, match="no memory"):
        pipeline.add(plan("a", camera(), generation(Broken())))
    assert not pipeline.states
    assert not pipeline.snapshot().stages
    pipeline.add(plan("a", camera(), generation()))
    with pytest.raises(InputError, match="no memory"):
        pipeline.change(plan("a", camera(), generation(Broken())))
    results = of(pipeline, "a").results
    assert until(lambda: of(pipeline, "a").results > results + 5)
    pipeline.remove("a")
    pipeline.stop()


EVENTS = EventSettings(start_after=1, end_after_s=1e5)


def test_what_is_open_ends_with_a_stream_that_is_removed_and_goes_on_over_a_pause_of_a_film() -> None:
    sink = MemorySink()
    film = Memory(script=[grey(220)], repeat=3000, fps=50, realtime=False, in_flight=1)
    slow = generation(Brightness(slow_s=0.002), None, Levels(high=0.3))
    pipeline = Pipeline([plan("film", film, slow), plan("door", camera(), slow)], {"m": sink}, events=EVENTS)
    pipeline.start()

    def told(stream: str) -> list[str]:
        return [one.kind for one in sink.collector.events if one.stream == stream]

    assert until(lambda: told("film") and told("door"))
    pipeline.pause("film")
    pipeline.pause("door")
    assert until(lambda: told("door")[-1] == "end")  # nobody knows what happens meanwhile
    assert "end" not in told("film")  # its time stands still
    assert told("door").count("new") == 1
    pipeline.remove("film")
    assert until(lambda: told("film")[-1] == "end")
    assert told("film").count("end") == 1
    pipeline.stop()
    assert Counter(told("door")) == Counter(new=1, end=1)


def test_what_cannot_finish_in_time_is_shed_and_counted() -> None:
    hang = threading.Event()
    sink = MemorySink()
    pipeline = Pipeline([plan("s", camera(), generation(Brightness(hang=hang)))], {"m": sink})
    pipeline.start()
    assert until(lambda: of(pipeline, "s").in_flight > 2)
    pipeline.remove("s", 0.2)
    removed = pipeline.snapshot().removed
    assert removed is not None
    assert removed.shed["shutdown"] > 0
    assert removed.in_flight == 0
    check(removed)
    assert until(lambda: len(sink.collector.outcomes) == removed.windows)
    assert [type(one) for one in sink.collector.outcomes][-1] is Shed
    hang.set()
    pipeline.stop()


class Stuck(LiveMemory):
    """Hangs while it is opened, as a camera may."""

    freed: ClassVar[threading.Event] = threading.Event()

    def open(self, stream: str) -> Reader:
        self.freed.wait()
        return super().open(stream)


def test_a_source_that_hangs_in_open_is_removed_at_once() -> None:
    pipeline = Pipeline([], {"m": MemorySink()})
    pipeline.start()
    pipeline.add(plan("s", Stuck(script=[grey(20)]), generation()))
    pipeline.remove("s", 5.0)  # it returns, and nobody has freed that one yet
    assert not pipeline.states
    Stuck.freed.set()
    pipeline.stop()


def test_the_deadlines_of_the_first_live_stream_are_kept_when_it_comes_late() -> None:
    hang = threading.Event()
    pipeline = Pipeline([plan("film", Memory(script=FILM), both())], {"m": MemorySink()})
    pipeline.start()
    assert pipeline.wait(10)
    stuck = generation(Brightness(hang=hang))
    pipeline.add(plan("door", camera(latency_budget_ms=30), stuck))
    assert until(lambda: of(pipeline, "door").shed.get("deadline", 0) > 0)
    hang.set()
    pipeline.stop()


def test_the_state_forgets_what_is_removed_and_keeps_what_is_paused(tmp_path: Path) -> None:
    gen, sink = both(), MemorySink()
    film = Memory(script=FILM, repeat=400, in_flight=2)
    pipeline = Pipeline([plan("film", film, gen)], {"m": sink}, state=tmp_path)
    pipeline.start()
    assert until(lambda: of(pipeline, "film").results > 20)
    pipeline.pause("film")
    known = tmp_path / "streams" / "film.json"
    assert until(known.exists)
    pipeline.remove("film")
    assert not known.exists()
    pipeline.add(plan("film", film, gen))
    assert until(lambda: of(pipeline, "film").results > 0)
    first = min(one.window.seq for one in sink.collector.results[-of(pipeline, "film").results :])
    assert first == 0  # from the beginning: somebody had it taken away
    assert until(lambda: of(pipeline, "film").results > 20)
    pipeline.pause("film")
    assert until(lambda: of(pipeline, "film").in_flight == 0)
    seen = len(sink.collector.outcomes)
    pipeline.stop()
    again = MemorySink()
    second = Pipeline([plan("film", film, gen)], {"m": again}, state=tmp_path)
    second.start()
    assert second.wait(30)
    second.stop()
    ids = {one.window.id for one in [*sink.collector.outcomes[:seen], *again.collector.outcomes]}
    assert len(ids) == 400 * 5
    assert again.collector.outcomes[0].window.seq > 0


SHOW = PolicySettings.model_validate(
    {"rules": [{"name": "light", "when": [{"label": "bright"}], "action": "flag", "hold_s": 0.2}], "patience_s": 0.2}
)


def test_a_stream_that_joins_a_show_is_judged_by_its_rules_and_nobody_misses_it_when_it_left() -> None:
    sink = MemorySink()
    gen = generation(Brightness(), None, Levels(high=0.3))
    dark = LiveMemory(script=[grey(20)], repeat=100_000, fps=100, realtime=True)
    pipeline = Pipeline([plan("dark", dark, gen)], {"m": sink}, policy=SHOW)
    pipeline.start()
    assert until(lambda: of(pipeline, "dark").results > 3)
    with pytest.raises(InputError, match="the show has begun"):
        pipeline.add(plan("film", Memory(script=FILM), gen))
    assert list(pipeline.states) == ["dark"]
    bright = LiveMemory(script=[grey(220)], repeat=100_000, fps=100, realtime=True)
    pipeline.add(plan("door", bright, gen))
    assert until(lambda: any(one.kind == "new" and one.targets == ("door",) for one in sink.collector.rulings))
    pipeline.remove("door")
    assert until(lambda: sink.collector.rulings[-1].kind == "end")
    assert all("door" not in one.missing for one in sink.collector.rulings if one.kind == "end")
    assert all(one.action == "flag" for one in sink.collector.results if one.window.stream == "door")
    pipeline.stop()


def test_nobody_adds_to_what_has_ended() -> None:
    pipeline = Pipeline([], {"m": MemorySink()})
    pipeline.start()
    pipeline.stop()
    with pytest.raises(InputError, match="the program is ending"):
        pipeline.add(plan("s", camera(), both()))
    for act in (pipeline.pause, pipeline.resume, pipeline.remove):
        with pytest.raises(InputError, match="no such stream"):
            act("s")


def test_a_change_of_all_there_is_is_no_end() -> None:
    pipeline = Pipeline([plan("door", camera(), both())], {"m": MemorySink(limit=10)})
    pipeline.start()
    ended = threading.Event()

    def look() -> None:
        while not pipeline.wait(0.01):
            pass
        ended.set()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    for _ in range(5):
        assert until(lambda: of(pipeline, "door").results > 0)
        pipeline.change(plan("door", camera(max_fps=5), both()))
    assert not ended.is_set()
    pipeline.remove("door")
    assert ended.wait(5)  # now there is nothing
    pipeline.stop()


@pytest.mark.slow
def test_a_hundred_that_come_and_go_leave_nothing_behind() -> None:
    sink = MemorySink(limit=10)
    pipeline = Pipeline([plan("stays", camera(), both())], {"m": sink})
    pipeline.start()
    process = psutil.Process()

    def once(number: int) -> None:
        gen = both()
        pipeline.add(plan(f"s{number}", Pattern(width=64, height=64, fps=200), gen))
        assert until(lambda: of(pipeline, f"s{number}").results > 3)
        pipeline.remove(f"s{number}")

    def held() -> tuple[Counter[str], int, int]:
        gc.collect()
        running = Counter(one.name for one in threading.enumerate())
        return running, len(os.listdir("/proc/self/fd")), process.memory_info().rss

    assert until(lambda: of(pipeline, "stays").results > 3)
    before, _, _ = held()
    for number in range(20):
        once(number)
    assert until(lambda: held()[0] <= before)  # a removed stage's threads end in their own time
    _, files, rss = held()
    for number in range(20, 120):
        once(number)
    assert until(lambda: held()[0] <= before), held()[0] - before
    _, after_files, after_rss = held()
    assert after_files <= files
    assert after_rss < rss + (8 << 20)
    assert len(pipeline.snapshot().stages) == 2
    results = [one for one in sink.collector.items if isinstance(one, (Result, Event))]
    assert results
    pipeline.stop()
