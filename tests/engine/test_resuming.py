"""A run that is cut off anywhere, and the one after it: together they say what one uninterrupted run says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Delivery, Generation, Writer
from pipeline.core.errors import InputError
from pipeline.core.outages import Outage
from pipeline.core.records import Event, Outcome, Result
from pipeline.core.rulings import Ruling
from pipeline.engine import checkpoints
from pipeline.engine.checkpoints import Checkpoints
from pipeline.engine.events import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from pipeline.engine.policy_settings import PolicySettings
from sinks.memory import Memory as MemorySink
from sources.memory import LiveMemory, Lost, Memory, Missing, Pause
from tests.engine.remote_parts import until

EVENTS = EventSettings(start_after=2, end_after_s=0.5, update_every_s=0.5)


class Told:
    """What an idempotent receiver knows: the last word on each window and event."""

    def __init__(self) -> None:
        self.outcomes: dict[str, tuple[object, ...]] = {}
        self.events: dict[str, tuple[object, ...]] = {}
        self.raw: list[str] = []

    def take(self, items: Sequence[Delivery]) -> None:
        for item in items:
            if isinstance(item, Outcome):
                window = item.window
                self.raw.append(window.id)
                if isinstance(item, Result) or not isinstance(self.outcomes.get(window.id), tuple):
                    said = (item.flagged, item.detections) if isinstance(item, Result) else (item.kind,)
                    self.outcomes[window.id] = (window.start_ns, window.end_ns, *said)
            elif isinstance(item, Event):
                self.events[item.id] = (item.kind, item.label, item.start_ns, item.end_ns, item.windows, item.best)


class Dying(MemorySink):
    """Takes `most` items, and from then on none: it neither returns nor raises, as if the program had died there."""

    told: Told
    most: int
    dead: threading.Event

    def open(self) -> Writer:
        return _DyingWriter(self)


class _DyingWriter:
    def __init__(self, plan: Dying) -> None:
        self._plan, self._left = plan, plan.most

    def write(self, items: Sequence[Delivery]) -> None:
        if len(items) > self._left:
            self._plan.told.take(items[: self._left])  # it got these, and nobody was told so
            self._left = 0
            self._plan.dead.set()
            time.sleep(60)
        self._left -= len(items)
        self._plan.told.take(items)

    def close(self) -> None:
        pass


def plan_of(source: Memory, gen: Generation, name: str = "s") -> StreamPlan:
    return StreamPlan(name, source, "levels", gen)


def whole(source: Memory, gen: Generation) -> Told:
    told = Told()
    sink = Dying(told=told, most=1 << 30, dead=threading.Event())
    pipeline = Pipeline([plan_of(source, gen)], {"memory": sink}, events=EVENTS)
    pipeline.start()
    assert pipeline.wait(30)
    pipeline.stop()
    return told


def cut_off(source: Memory, gen: Generation, state: Path, told: Told, most: int) -> None:
    """A run that dies once a sink has `most` items. A thread cannot be killed: its sink hangs, and its folder is let
    go of as the system would."""
    dead = threading.Event()
    pipeline = Pipeline(
        [plan_of(source, gen)], {"memory": Dying(told=told, most=most, dead=dead)}, events=EVENTS, state=state
    )
    pipeline.start()
    while not dead.wait(0.002) and not pipeline.finished:
        pass
    pipeline._checkpoints.close(time.monotonic() + 2)  # what was committed by then is on the disk
    threading.Thread(target=pipeline.stop, args=(0.05,), daemon=True).start()


def resumed(source: Memory, gen: Generation, state: Path, told: Told) -> int:
    """The run after it, to its end: how many frames it received."""
    sink = Dying(told=told, most=1 << 30, dead=threading.Event())
    pipeline = Pipeline([plan_of(source, gen)], {"memory": sink}, events=EVENTS, state=state)
    pipeline.start()
    assert pipeline.wait(30)
    pipeline.stop()
    return pipeline.snapshot().streams[0].received


steps = st.one_of(
    st.sampled_from((20, 220, 220)).map(grey),
    st.builds(Missing, st.integers(1, 3), st.sampled_from(["damaged", "undecoded"])),
)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A barrier every few windows, so that short scripts have some."""
    monkeypatch.setattr("pipeline.engine.progress.EVERY", 3)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(steps, min_size=1, max_size=40).filter(lambda all: any(not isinstance(x, Missing) for x in all)),
    cuts=st.lists(st.integers(0, 50), min_size=1, max_size=2),
    max_fps=st.sampled_from([None, 10.0, 7.0]),
    in_flight=st.integers(1, 9),
)
def test_wherever_it_is_cut_off_the_whole_comes_of_it(
    often, tmp_path_factory, script, cuts, max_fps, in_flight
) -> None:
    state = tmp_path_factory.mktemp("state")
    gen = generation()
    source = Memory(script=script, max_fps=max_fps, in_flight=in_flight)
    told = Told()
    for cut in cuts:
        cut_off(source, gen, state, told, cut)
    resumed(source, gen, state, told)
    expected = whole(source, gen)
    assert told.outcomes == expected.outcomes
    assert told.events == expected.events


def test_what_is_committed_is_not_judged_again(often, tmp_path) -> None:
    gen = generation()
    source = Memory(script=[grey(x) for x in [20, 220] * 100])
    told = Told()
    cut_off(source, gen, tmp_path, told, 150)
    known = json.loads((tmp_path / "streams" / "s.json").read_text())
    committed = known["place"]["seq"] + 1
    assert committed > 20
    stage = Brightness()
    gen = replace(gen, cheap=stage)
    assert resumed(source, gen, tmp_path, told) == sum(stage.batches) == 200 - committed
    assert len(told.outcomes) == 200
    assert resumed(source, gen, tmp_path, told) == 0


def test_a_stop_in_the_middle_leaves_nothing_out(often, tmp_path) -> None:
    """What the stop sheds is judged by the next run, and an event goes on under its id."""
    gen = generation(Brightness(slow_s=0.02, max_batch=1))
    source = Memory(script=[grey(220)] * 60)
    told = Told()
    sink = Dying(told=told, most=1 << 30, dead=threading.Event())
    pipeline = Pipeline([plan_of(source, gen)], {"memory": sink}, events=EVENTS, state=tmp_path)
    pipeline.start()
    pipeline.wait(0.3)
    pipeline.stop(0.2)
    assert {kind for kind, *_ in told.events.values()} <= {"new", "update"}, "it is not over"
    resumed(source, gen, tmp_path, told)
    expected = whole(source, gen)
    assert told.outcomes == expected.outcomes and told.events == expected.events
    assert len(told.events) == 1


def test_another_generation_begins_anew_and_replaces(often, tmp_path, caplog) -> None:
    source = Memory(script=[grey(120)] * 30)
    told = Told()
    resumed(source, generation(rule=Levels(low=0.9, high=0.9)), tmp_path, told)
    assert not any(said[2] for said in told.outcomes.values())
    assert resumed(source, generation(rule=Levels(low=0.3, high=0.3)), tmp_path, told) == 30
    assert len(told.outcomes) == 30 and all(said[2] for said in told.outcomes.values())
    assert "it is judged anew" in caplog.text
    assert len(list((tmp_path / "streams").glob("*.aside"))) == 1


def test_another_content_begins_anew(often, tmp_path, caplog) -> None:
    gen, told = generation(), Told()
    resumed(Memory(script=[grey(220)] * 30), gen, tmp_path, told)
    assert resumed(Memory(script=[grey(120)] * 20), gen, tmp_path, told) == 20
    assert len(told.outcomes) == 50
    assert "what it reads is not what it was then" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"{", b'{"stream": "s"}', b"\xff\x00" * 50, b"[]", None, "events"])
def test_a_damaged_state_never_stops_the_start(often, tmp_path, caplog, damage) -> None:
    gen, told = generation(), Told()
    source = Memory(script=[grey(220)] * 30)
    resumed(source, gen, tmp_path, told)
    path = tmp_path / "streams" / "s.json"
    data = path.read_bytes()
    if damage is None:
        damage = data[: len(data) // 2]
    elif damage == "events":
        damage = json.dumps(json.loads(data) | {"events": {"epoch": 3}}).encode()
    path.write_bytes(damage)
    assert resumed(source, gen, tmp_path, told) == 30
    assert len(told.outcomes) == 30
    assert "is put aside as" in caplog.text and "damaged" in caplog.text
    [aside] = (tmp_path / "streams").glob("*.aside")
    assert aside.read_bytes() == damage


def test_two_cannot_share_a_folder(tmp_path) -> None:
    first = Pipeline([plan_of(Memory(script=[Pause(5)]), generation())], {}, state=tmp_path)
    first.start()
    second = Pipeline([plan_of(Memory(script=[grey(20)]), generation())], {}, state=tmp_path)
    with pytest.raises(InputError, match="another thresher"):
        second.start()
    first.stop(1)
    again = Pipeline([plan_of(Memory(script=[grey(20)]), generation())], {}, state=tmp_path)
    again.start()
    assert again.wait(10)
    again.stop()


def test_without_state_a_second_run_judges_again(tmp_path) -> None:
    source, gen = Memory(script=[grey(20)] * 5), generation()
    assert whole(source, gen).outcomes == whole(source, gen).outcomes != {}
    assert not list(tmp_path.iterdir())


class Watching(MemorySink):
    takes = frozenset({"outcomes", "events", "rulings", "outages"})


def test_a_live_stream_says_what_was_missed_while_down(tmp_path) -> None:
    """And the event that was open ends, once, under its old id."""
    gen = generation()
    sinks = [Watching(), Watching()]
    for sink in sinks:
        source = LiveMemory(script=[*[grey(200 + n) for n in range(30)], Pause(30)], fps=20, in_flight=64)
        pipeline = Pipeline([plan_of(source, gen)], {"memory": sink}, events=EventSettings(), state=tmp_path)
        pipeline.start()
        assert until(lambda sink=sink: len(sink.collector.results) == 30)
        assert sink.collector.events[-1].kind == "new"
        _die(pipeline)
    first, second = (sink.collector for sink in sinks)
    assert [e.kind for e in first.events] == ["new"]
    ended, began = second.events[:2]
    assert (ended.kind, ended.id) == ("end", first.events[0].id)
    assert began.kind == "new" and began.id != ended.id
    [outage] = [item for item in second.items if isinstance(item, Outage)]
    assert outage.reason == "down" and outage.stream == "s"
    last = max(outcome.window.wall_ns for outcome in first.outcomes)
    newest = min(outcome.window.wall_ns for outcome in second.outcomes)
    assert abs(outage.start_wall_ns - last) < 1.5e9, "a checkpoint a second"
    assert outage.start_wall_ns <= outage.end_wall_ns and abs(outage.end_wall_ns - newest) < 1e9
    assert second.items.index(outage) < second.items.index(second.outcomes[0])
    assert not [item for item in first.items if isinstance(item, Outage)]


def test_a_lost_connection_is_said_when_it_is_back(caplog) -> None:
    sink = Watching()
    source = LiveMemory(
        script=[grey(20), grey(30), Lost("pulled"), grey(20), grey(30), Lost("again"), Lost(), grey(20), Pause(9)]
    )
    pipeline = Pipeline([plan_of(source, generation())], {"memory": sink})
    pipeline.start()
    assert until(lambda: len(sink.collector.outcomes) == 5)
    pipeline.stop(1)
    outages = [item for item in sink.collector.items if isinstance(item, Outage)]
    assert [one.reason for one in outages] == ["lost", "lost"]
    assert all(one.start_wall_ns < one.end_wall_ns for one in outages)
    stream = pipeline.snapshot().streams[0]
    assert stream.outages == 2 and stream.outage_s > 0
    assert "the connection was lost" in caplog.text


def test_an_action_that_went_on_ends_after_a_restart(tmp_path) -> None:
    """Once, under its id, so that nobody is blocked for ever."""
    rule = {
        "name": "glare",
        "action": "block",
        "when": [{"stream": "s", "label": "bright", "at_least": 0.5}],
        "hold_s": 60,
    }
    policy = PolicySettings.model_validate({"show": "evening", "rules": [rule]})
    gen = generation()
    sinks = [MemorySink() for _ in range(3)]
    for number, sink in enumerate(sinks):
        source = LiveMemory(script=[*([grey(220)] * 3 if number == 0 else []), Pause(30)], fps=20)
        pipeline = Pipeline([plan_of(source, gen)], {"memory": sink}, policy=policy, state=tmp_path)
        pipeline.start()
        if number < 2:
            assert until(lambda sink=sink: sink.collector.rulings)
            kept = tmp_path / "rulings.json"
            assert until(lambda n=number, kept=kept: kept.exists() and (json.loads(kept.read_text()) == {}) == (n == 1))
        _die(pipeline)
    [begun], [ended], none = (sink.collector.rulings for sink in sinks)
    assert (begun.kind, ended.kind, ended.id) == ("new", "end", begun.id)
    assert ended.targets == begun.targets and ended.end_ns >= begun.end_ns
    assert none == []


def test_an_action_that_went_on_ends_though_the_policy_is_gone(tmp_path) -> None:
    sink = MemorySink()
    state = Checkpoints(tmp_path)
    state.open()
    state.commit_rulings({"r": Ruling("r", "new", "evening", "block", "glare", ("s",), 1, 2, 3, 4, (), (), 0, 0)})
    state.close(time.monotonic() + 5)
    pipeline = Pipeline([plan_of(Memory(script=[grey(20)]), generation())], {"memory": sink}, state=tmp_path)
    pipeline.start()
    assert pipeline.wait(10)
    pipeline.stop()
    assert [(one.id, one.kind) for one in sink.collector.rulings] == [("r", "end")]
    assert json.loads((tmp_path / "rulings.json").read_text()) == {}


@pytest.mark.parametrize("what", ["event", "ruling"])
def test_nobody_hears_of_a_beginning_that_is_not_on_the_disk(tmp_path, monkeypatch, what: str) -> None:
    """Killed in between, the next run would know of no end to tell."""
    may, written = threading.Event(), checkpoints.write_whole
    held = "rulings.json" if what == "ruling" else "s.json"

    def slow(path: Path, data: bytes) -> None:
        if path.name == held and (b"bright" in data or b"glare" in data):
            may.wait(20)
        written(path, data)

    monkeypatch.setattr(checkpoints, "write_whole", slow)
    monkeypatch.setattr(checkpoints, "_NOTED_S", 20.0)
    rule = {"name": "glare", "action": "block", "when": [{"stream": "s", "label": "bright", "at_least": 0.5}]}
    policy = PolicySettings.model_validate({"show": "evening", "rules": [rule | {"hold_s": 60}]})
    sink = MemorySink()
    source = LiveMemory(script=[grey(220), grey(220), Pause(30)], fps=20)
    pipeline = Pipeline(
        [plan_of(source, generation())],
        {"memory": sink},
        events=EVENTS,
        policy=policy if what == "ruling" else None,
        state=tmp_path,
    )
    pipeline.start()
    begun = lambda: sink.collector.rulings if what == "ruling" else sink.collector.events  # noqa: E731
    assert not until(begun, 0.7)
    may.set()
    assert until(begun)
    assert pipeline._checkpoints is not None
    _die(pipeline)


def test_a_state_that_cannot_be_written_holds_nothing_up(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(checkpoints, "write_whole", full)
    monkeypatch.setattr(checkpoints, "_NOTED_S", 60.0)
    sink = MemorySink()
    source = LiveMemory(script=[grey(220), grey(220), Pause(30)], fps=20)
    pipeline = Pipeline([plan_of(source, generation())], {"memory": sink}, events=EVENTS, state=tmp_path)
    pipeline.start()
    assert until(lambda: sink.collector.events)
    pipeline.stop(1)


def _die(pipeline: Pipeline) -> None:
    """As near to `kill -9` as a thread comes: nothing is said or written any more."""
    for sink in pipeline._sinks:
        sink.put = sink.mark = lambda *_: None  # type: ignore[method-assign]
    pipeline._checkpoints.close(time.monotonic() + 2)
    pipeline.stop(0.2)
