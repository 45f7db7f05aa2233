"""What stands before a sink: barriers that are passed in turn, and what is told last to make room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from pipeline.core.contracts import Delivery, Writer
from pipeline.core.outages import Outage
from pipeline.core.records import Detection, Event, Result, Window
from pipeline.engine.checkpoints import Barrier, Checkpoint
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.events import EventSettings, EventTracker
from pipeline.engine.progress import Progress
from sinks.memory import Memory as MemorySink
from tests.engine.remote_parts import until

EVENTS = EventSettings(start_after=2, end_after_s=0.5, update_every_s=0.5)


def test_an_outage_outlasts_the_outcomes_where_there_is_no_room() -> None:
    sink = Held(go=threading.Event())
    runner = SinkRunner("held", sink, lambda: None)  # type: ignore[arg-type, return-value]
    runner.open()
    runner.put(Outage("s", "lost", 0, 1), None, False)
    assert until(lambda: not runner._items)
    runner.put(Outage("s", "lost", 2, 3), None, False)
    for number in range(9):
        window = Window("s", "E", number, number, number + 1, 0, 0)
        runner.put(Result(window, 0, decided_by="x", generation="g"), None, False)
    sink.go.set()
    runner.finish(time.monotonic() + 5.0)
    runner.join(time.monotonic() + 5.0)
    assert sum(isinstance(one, Outage) for one in sink.collector.items) == 2
    assert runner.snapshot().dropped == 6


class Held(MemorySink):
    """Takes nothing before it is let go."""

    backlog = 4
    go: threading.Event

    def open(self) -> Writer:
        return _HeldWriter(self)


class _HeldWriter:
    def __init__(self, plan: Held) -> None:
        self._plan = plan

    def write(self, items: Sequence[Delivery]) -> None:
        self._plan.go.wait(20)
        self._plan.collector.add(items)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("lets_go", [True, False])
def test_a_barrier_is_passed_once_all_before_it_is_done_with(lets_go) -> None:
    """Written, or dropped for want of room; not what is dropped because the program ends."""
    sink = Held(go=threading.Event())
    runner = SinkRunner("held", sink, lambda: None)  # type: ignore[arg-type, return-value]
    runner.open()
    passed: list[int] = []
    for number in range(9):
        runner.put(Event(str(number), "new", "s", "x", 0, 0, 0, 0, 1, 1, Detection("x", 1)), None, False)
        barrier = Barrier(1, lambda number=number: passed.append(number))
        runner.mark(barrier)
        barrier.put()
        time.sleep(0.05 if number == 0 else 0)
    assert passed == []
    if lets_go:
        sink.go.set()
    runner.finish(time.monotonic() + 5.0)
    runner.join(time.monotonic() + (5 if lets_go else 0.1))
    runner.give_up()
    sink.go.set()
    runner.join(time.monotonic() + 5)
    dropped = runner.snapshot().dropped
    assert dropped + len(sink.collector) == 9 and dropped >= 4
    assert passed == list(range(9 if lets_go else 5)), "one was in hand, four were dropped, and four abandoned"


class Kept:
    """Checkpoints in memory. `meanwhile` is called while one is on its way."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.said: list[Checkpoint] = []
        self._meanwhile = meanwhile

    def commit(self, checkpoint: Checkpoint) -> None:
        self._meanwhile()
        self.said.append(checkpoint)


def _progress(kept: Kept, *sinks: SinkRunner) -> tuple[Progress, EventTracker]:
    tracker = EventTracker(EVENTS)
    progress = Progress(
        "s",
        generation="g",
        tracker=tracker,
        tell=lambda _: None,
        sinks=sinks,
        checkpoints=kept,  # type: ignore[arg-type]
        resumable=False,
        endless=False,
    )
    return progress, tracker


def test_that_an_event_began_is_not_forgotten_for_what_was_under_way() -> None:
    """The barrier is passed on a sink's thread at the very moment at which the event begins."""
    begins: list[threading.Thread] = []

    def meanwhile() -> None:
        if not begins:
            begins.append(threading.Thread(target=event_begins))
            begins[0].start()
            begins[0].join(0.3)

    def event_begins() -> None:
        for seq in range(2):
            window = Window("s", "E", seq, seq, seq + 1, 0, 0)
            list(tracker.see(Result(window, 0, "x", "g", (Detection("bright", 1.0),), flagged=True)))
        progress.began()

    kept = Kept(meanwhile)
    progress, tracker = _progress(kept)
    progress.left(None)
    begins[0].join(5)
    assert [bool(one.events["open"]) for one in kept.said] == [False, True]


def test_a_source_that_stays_away_piles_up_nothing_before_a_busy_sink() -> None:
    sink = Held(go=threading.Event())
    runner = SinkRunner("held", sink, lambda: None)  # type: ignore[arg-type, return-value]
    runner.open()
    kept = Kept()
    progress, _ = _progress(kept, runner)
    runner.put(Outage("s", "lost", 0, 1), None, False)
    progress.left(None)
    for _ in range(100):
        progress.over()
    assert len(runner._barriers) <= 2
    sink.go.set()
    runner.finish(time.monotonic() + 5)
    runner.join(time.monotonic() + 5)
    assert kept.said
