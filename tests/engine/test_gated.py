"""A gate inside the engine: what it suppresses carries the verdict of what was judged, never of what was shed."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
from parts import Brightness, generation, grey

from detectors.gates.duplicate import Duplicate
from detectors.gates.motion import Motion
from pipeline.core.contracts import Generation
from pipeline.core.records import Array
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Collector
from sinks.memory import Memory as MemorySink
from sources.memory import LiveMemory, Lost, Memory


def run(source: Memory, gate: Duplicate | Motion, gen: Generation) -> Collector:
    sink = MemorySink()
    pipeline = Pipeline([StreamPlan("s", source, "levels", gen, gate.start())], {"memory": sink})
    pipeline.start()
    pipeline.wait(3.0)
    pipeline.stop(2.0)
    return sink.collector


def test_what_a_gate_holds_back_gets_the_verdict_of_what_it_resembles() -> None:
    script = [grey(40)] * 10 + [grey(220)] * 10
    results = run(Memory(script=script, in_flight=1), Duplicate(), generation()).results
    assert Counter(r.decided_by for r in results) == {"duplicate": 18, "cheap": 2}
    dark, bright = results[0], results[10]
    assert (dark.decided_by, dark.flagged) == ("cheap", False)
    assert (bright.decided_by, bright.flagged) == ("cheap", True)
    for result in results[1:10]:
        assert (result.carried_from, result.detections) == (dark.window.id, ())
    for result in results[11:]:
        assert (result.carried_from, result.detections) == (bright.window.id, bright.detections)


def test_nobody_certified_what_a_gate_holds_back() -> None:
    certified = replace(generation(), certified=True)
    results = run(Memory(script=[grey(40)] * 10, in_flight=1), Duplicate(), certified).results
    assert [r.certified for r in results] == [True] + [False] * 9


def test_an_unchanged_scene_is_judged_again_after_the_refresh() -> None:
    results = run(
        Memory(script=[grey(40)] * 100, fps=10, in_flight=1, refresh_s=3.0), Duplicate(), generation()
    ).results
    judged = [r.window.start_ns / 1e9 for r in results if r.decided_by == "cheap"]
    assert judged == [0.0, 3.0, 6.0, 9.0]


def test_a_window_that_failed_is_no_reference() -> None:
    """The stage cannot judge pictures of level 90: each of them is tried, none is carried from another."""
    script = [grey(40), *[grey(90)] * 5, grey(40)]
    collector = run(Memory(script=script, in_flight=1), Duplicate(), generation(Brightness(poison=frozenset({90}))))
    assert [o.kind for o in collector.outcomes] == ["result", *["failed"] * 5, "result"]


def test_a_window_that_was_shed_is_no_reference() -> None:
    """The stage is so slow that most of a burst is shed; the same pictures again are judged, not carried from them."""
    frames: list[Array] = [grey(level) for level in range(40, 240, 10)] * 3
    source = LiveMemory(script=frames, fps=400, realtime=True, in_flight=2)
    collector = run(source, Duplicate(), generation(Brightness(slow_s=0.03, max_batch=1)))
    kinds = Counter(o.kind for o in collector.outcomes)
    assert kinds["shed"] > 5
    judged = {r.window.id for r in collector.results if r.carried_from is None}
    assert {r.carried_from for r in collector.results if r.carried_from} <= judged
    shed = {o.window.seq % 20 for o in collector.outcomes if o.kind == "shed"}
    for result in collector.results:
        if result.carried_from:  # the very same picture was judged, whatever was shed between
            assert int(result.carried_from.rsplit("/", 1)[1]) % 20 == result.window.seq % 20
    assert shed


def test_noise_stays_behind_the_motion_gate_and_a_newcomer_does_not() -> None:
    random = np.random.default_rng(7)
    scene = random.integers(60, 180, (240, 320, 1)).repeat(3, 2)

    def frame(walker: int | None) -> Array:
        picture = scene + random.normal(0, 3, scene.shape)
        if walker is not None:
            picture[80:180, walker : walker + 48] = 230
        return picture.clip(0, 255).astype(np.uint8)

    script = [frame(None) for _ in range(60)] + [frame(20 + 4 * i) for i in range(40)]
    results = run(Memory(script=script, in_flight=1, refresh_s=1000.0), Motion(), generation()).results
    still, walking = results[:60], results[60:]
    assert sum(r.decided_by == "cheap" for r in still) <= 6
    assert sum(r.decided_by == "cheap" for r in walking) >= 20
    assert walking[0].decided_by == "cheap", "the first frame with somebody in it has to be judged"


class Diary:
    """A gate that writes down what it is told."""

    name = "diary"
    carries = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def changed(self, sample: Array, pts_ns: int) -> bool:
        self.told.append("changed")
        return True

    def judged(self, sample: Array, pts_ns: int) -> None: ...

    def forget(self) -> None:
        self.told.append("forget")


def test_a_gate_remembers_nothing_of_another_connection() -> None:
    gate, sink = Diary(), MemorySink()
    source = LiveMemory(script=[grey(40), grey(50), Lost(), grey(60)])
    pipeline = Pipeline([StreamPlan("s", source, "levels", generation(), gate)], {"memory": sink})
    pipeline.start()
    end = time.monotonic() + 10
    while gate.told.count("changed") < 3 and time.monotonic() < end:
        time.sleep(0.01)
    pipeline.stop(2.0)
    assert gate.told[:5] == ["forget", "changed", "changed", "forget", "changed"]
