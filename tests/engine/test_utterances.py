"""Sounds in overlapping windows, drawn as they lie (a character is 100 ms):

windows   |----------|
            |----------|
word           ███          one event, told while it goes on, ended once
"""

from __future__ import annotations

from pipeline.core.records import Detection, Event, Result, Window
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.events import EventTracker

MS = 1_000_000


def heard(sounds: list[tuple[str, int, int]], hop: int = 100, until: int = 4000, shift: int = 0) -> list[Event]:
    """What a stream of 1 s windows tells of `sounds` (label, start, end in ms), each hearing off by `shift`."""
    tracker = EventTracker(EventSettings())
    events: list[Event] = []
    for seq, end in enumerate(range(hop, until, hop)):
        start = max(0, end - 1000)
        found = tuple(
            Detection(label, 0.9, span_ns=(max(first + shift * (seq % 3), start) * MS, min(last, end) * MS))
            for label, first, last in sounds
            if min(last, end) - max(first, start) > 80
        )
        window = Window("mic", "E", seq, start * MS, end * MS, end * MS, end * MS, by_end=True)
        events += tracker.see(Result(window, end * MS, "cheap", "g@1", found, bool(found)))
    return [*events, *tracker.end()]


def test_one_word_is_one_event_with_its_times() -> None:
    events = heard([("yes", 1250, 1600)])
    assert [event.kind for event in events] == ["new", "end"]
    assert len({event.id for event in events}) == 1
    end = events[-1]
    assert (end.start_ns, end.end_ns, end.label) == (1250 * MS, 1600 * MS, "yes")


def test_it_ends_as_soon_as_it_was_heard_whole() -> None:
    tracker = EventTracker(EventSettings())
    told = None
    for seq, end in enumerate(range(100, 3000, 100)):
        start = max(0, end - 1000)
        found = ()
        if min(1600, end) - max(1250, start) > 80:
            found = (Detection("yes", 0.9, span_ns=(max(1250, start) * MS, min(1600, end) * MS)),)
        window = Window("mic", "E", seq, start * MS, end * MS, end * MS, end * MS, by_end=True)
        for event in tracker.see(Result(window, end * MS, "cheap", "g@1", found, bool(found))):
            if event.kind == "end":
                told = end
    assert told == 1700  # the first window that reaches beyond it


def test_the_same_word_twice_is_two() -> None:
    ends = [event for event in heard([("yes", 1000, 1300), ("yes", 1500, 1800)]) if event.kind == "end"]
    assert [(event.start_ns // MS, event.end_ns // MS) for event in ends] == [(1000, 1300), (1500, 1800)]


def test_a_word_that_is_still_going_on_when_all_ends_is_told_to_end() -> None:
    events = heard([("yes", 3500, 9000)])
    assert [event.kind for event in events] == ["new", "end"]


def test_hearings_that_differ_a_little_are_one_sound() -> None:
    ends = [event for event in heard([("yes", 1250, 1600)], shift=20) if event.kind == "end"]
    assert len(ends) == 1 and abs(ends[0].start_ns / MS - 1270) <= 20
