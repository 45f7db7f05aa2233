"""One stage that raises, hangs, or answers nonsense: its windows fail, and nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Flag, Generation
from pipeline.core.payloads import View
from pipeline.core.records import Detection, Failed, Findings, Result
from pipeline.engine import cascade, pipeline
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory as MemorySink
from sources.memory import LiveMemory, Memory


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "HANGING_S", 0.3)
    monkeypatch.setattr(cascade, "_GIVEN_UP_S", 0.6)
    monkeypatch.setattr(pipeline, "_WATCH_S", 0.1)


@dataclass
class Stuck(Brightness):
    """Hangs at views of one level, as native code does: until `hang` is set."""

    level: int = 200
    stuck: int = 0

    def score(self, views: Sequence[View]) -> Sequence[Findings]:
        if any(round(float(view.pixels.mean())) == self.level for view in views):
            self.stuck += 1
            assert self.hang is not None
            self.hang.wait(60)
        return [
            Findings(self.labels, np.array([view.pixels.mean() / 255], np.float32), np.zeros(1, np.int64))
            for view in views
        ]


@dataclass
class Nonsense(Brightness):
    """Answers with this, whatever it sees."""

    answer: Callable[[], object] = list

    def score(self, views: Sequence[View]) -> Sequence[Findings]:
        return [self.answer() for _ in views]  # type: ignore[misc]  # that is the point


def streams(**generations: Generation) -> list[StreamPlan]:
    return [StreamPlan(name, Memory(script=[grey(20)] * 12), "c", one) for name, one in generations.items()]


def kinds(sink: MemorySink) -> Counter[tuple[str, type]]:
    return Counter((outcome.window.stream, type(outcome)) for outcome in sink.collector.outcomes)


def test_a_batch_that_hangs_fails_and_the_others_go_on() -> None:
    hang = threading.Event()
    stage = Stuck(hang=hang, max_batch=1)
    film = Memory(script=[grey(20)] * 5 + [grey(200)] + [grey(20)] * 20)
    sink = MemorySink()
    running = Pipeline(
        [StreamPlan("bad", film, "c", generation(stage)), *streams(good=generation())],
        {"m": sink},
    )
    running.start()
    assert running.wait(20), "a film waits for no verdict that never comes"
    running.stop()
    assert kinds(sink) == {("bad", Result): 25, ("bad", Failed): 1, ("good", Result): 12}
    (failed,) = [one for one in sink.collector.outcomes if isinstance(one, Failed)]
    assert failed.reason == "cheap hangs" and failed.window.seq == 5
    hang.set()


def test_where_every_thread_hangs_nothing_waits_for_ever_and_the_stage_says_so() -> None:
    hang = threading.Event()
    stage = Stuck(hang=hang, max_batch=2, level=20)
    sink = MemorySink()
    running = Pipeline(streams(bad=generation(stage), good=generation()), {"m": sink})
    running.start()
    states = set()
    end_s = time.monotonic() + 20
    while not running.finished and time.monotonic() < end_s:
        states |= {(one.generation[:6], one.state) for one in running.snapshot().stages if one.state != "ok"}
        time.sleep(0.05)
    began = time.monotonic()
    running.stop(2.0)
    assert time.monotonic() - began < 2.5
    assert kinds(sink) == {("bad", Failed): 12, ("good", Result): 12}
    assert len(states) == 1 and {state for _, state in states} == {"hangs"}
    assert stage.stuck <= 1 + 3, "threads that cannot be ended are few"
    hang.set()


def test_a_heavy_stage_that_hangs_fails_what_was_escalated_and_recovers() -> None:
    hang = threading.Event()
    heavy = Stuck("heavy", hang=hang, max_batch=1, level=120)
    sink = MemorySink()
    film = Memory(script=[grey(20), grey(120), grey(120), grey(20), grey(220)])
    both = Generation("both@1", Brightness(), heavy, Levels())
    running = Pipeline([StreamPlan("s", film, "c", both)], {"m": sink})
    running.start()
    assert running.wait(20)
    running.stop()
    assert [type(one) for one in sink.collector.outcomes] == [Result, Failed, Failed, Result, Result]
    hang.set()


def test_a_live_stream_sheds_by_its_deadline_and_goes_on_once_the_stage_is_back() -> None:
    hang = threading.Event()
    stage = Stuck(hang=hang, max_batch=1)
    camera = LiveMemory(
        script=[grey(200)] + [grey(30 + n % 7) for n in range(400)], fps=50, realtime=True, latency_budget_ms=200
    )
    sink = MemorySink()
    running = Pipeline([StreamPlan("c", camera, "c", generation(stage))], {"m": sink})
    running.start()
    end_s = time.monotonic() + 15
    while len(sink.collector.results) < 50 and time.monotonic() < end_s:
        time.sleep(0.05)
    running.stop(1.0)
    assert len(sink.collector.results) >= 50, "another thread took the place of the stuck one"
    assert stage.stuck == 1
    hang.set()


def test_a_process_that_stood_still_blames_no_stage() -> None:
    sink = MemorySink()
    slow = Brightness(slow_s=0.4, max_batch=1)
    running = Pipeline(streams(s=generation(slow)), {"m": sink})
    (runner,) = running._cascades.runners
    running.start()
    time.sleep(0.2)
    for _ in range(3):  # as the watch does when it wakes after minutes
        runner.watch(time.monotonic(), 300.0)
    assert running.wait(20)
    running.stop()
    assert kinds(sink) == {("s", Result): 12}


def findings(*scores: float) -> Findings:
    return Findings(("bright",), np.array(scores, np.float32), np.zeros(len(scores), np.int64))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["cheap", "heavy"])
def test_numbers_that_are_none_are_never_a_verdict(score: float, place: str) -> None:
    """A score that is no number is below every threshold: it would be taken for all clear."""
    wrong = Nonsense(place, answer=lambda: findings(score))
    stages = (wrong, None, Levels(high=0.3)) if place == "cheap" else (Brightness(), wrong, Levels(low=0.05))
    sink = MemorySink()
    running = Pipeline(streams(bad=Generation("bad@1", *stages), good=generation()), {"m": sink})
    running.start()
    assert running.wait(20)
    running.stop()
    assert kinds(sink) == {("bad", Failed): 12, ("good", Result): 12}
    assert {one.reason for one in sink.collector.outcomes if isinstance(one, Failed)} == {
        f"{place}: the model answered with numbers that are not finite"
    }


@dataclass(frozen=True)
class Boxed(Levels):
    """Flags a box, whatever the score is."""

    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    score: float = 0.5

    def decide(self, cheap: Findings) -> Flag:
        return Flag((Detection("bright", self.score, self.box),))


@pytest.mark.parametrize(
    ("box", "score"), [((0, 0, float("nan"), 1), 0.5), ((float("inf"), 0, 0, 1), 0.5), ((0, 0, 1, 1), float("nan"))]
)
def test_a_place_that_is_none_is_never_in_a_verdict(box: tuple[float, float, float, float], score: float) -> None:
    """It would be no JSON for a receiver, and trackers choke on it."""
    sink = MemorySink()
    bad = generation(rule=Boxed(box=box, score=score))
    running = Pipeline(streams(bad=bad, good=generation(rule=Boxed())), {"m": sink})
    running.start()
    assert running.wait(20)
    running.stop()
    assert kinds(sink) == {("bad", Failed): 12, ("good", Result): 12}


def test_one_bad_number_fails_one_window() -> None:
    numbers = iter([0.1] * 5 + [float("nan")] * 2 + [0.1] * 30)  # the batch, and once more by itself
    wrong = Nonsense(answer=lambda: findings(next(numbers)), max_batch=1)
    sink = MemorySink()
    running = Pipeline(streams(s=generation(wrong)), {"m": sink})
    running.start()
    assert running.wait(20)
    running.stop()
    assert kinds(sink)["s", Failed] in {1, 2}


@pytest.mark.parametrize("answer", [list, lambda: None, lambda: "clear", findings])
def test_answers_that_are_none_fail_their_windows(answer: Callable[[], object]) -> None:
    sink = MemorySink()
    running = Pipeline(streams(bad=generation(Nonsense(answer=answer)), good=generation()), {"m": sink})
    running.start()
    assert running.wait(20)
    running.stop()
    assert kinds(sink) == {("bad", Failed): 12, ("good", Result): 12}


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_wrong_number_of_answers(count: int) -> None:
    class Wrong(Brightness):
        def score(self, views: Sequence[View]) -> Sequence[Findings]:
            return [findings(0.1)] * (count if len(views) != count else count + 1)

    sink = MemorySink()
    running = Pipeline(streams(bad=generation(Wrong()), good=generation()), {"m": sink})
    running.start()
    assert running.wait(20)
    running.stop()
    assert kinds(sink)["bad", Failed] + kinds(sink)["bad", Result] == 12
    assert kinds(sink)["bad", Failed] >= (12 if count != 1 else 0)
    assert kinds(sink)["good", Result] == 12
