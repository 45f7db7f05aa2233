"""Verdicts on a picture of 100×100, drawn by hand, and what a tracker of events makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from pipeline.core.records import Box, Detection, Event, Failed, Result, Window, event_document
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.events import EventTracker

Documented: TypeAlias = dict[str, Any]
Film: TypeAlias = Sequence[Sequence[Detection] | None]

SIZE = (100, 100)
STEP_NS = 100_000_000


def window(seq: int, step_ns: int = STEP_NS, stream: str = "cam", epoch: str = "E") -> Window:
    start = seq * step_ns
    return Window(stream, epoch, seq, start, start + STEP_NS, start, start)


def standing(x: float, y: float, width: float = 8, height: float = 16) -> Box:
    """The box of somebody whose feet are there."""
    return (x - width / 2, y - height, x + width / 2, y)


def person(box: Box | None, score: float = 0.9, label: str = "person") -> Detection:
    return Detection(label, score, box)


def verdict(at: Window, *found: Detection) -> Result:
    return Result(at, at.end_ns, "cheap", "g@1", found, bool(found))


def told(settings: EventSettings, film: Film, cut: int | None = None) -> list[Event]:
    """What is told of a film of 10 pictures a second; None: one that was not judged. At the picture with the number
    `cut`, the program is started anew, and goes on from what was written down."""
    return list(telling(EventTracker(settings), film, cut))


def telling(tracker: EventTracker, film: Film, cut: int | None = None) -> Iterator[Event]:
    for seq, found in enumerate(film):
        if seq == cut:
            state = json.loads(json.dumps(tracker.state()))
            tracker = EventTracker(tracker._settings)
            tracker.restore(state)
        at = window(seq)
        yield from tracker.see(Failed(at, at.end_ns, "lost") if found is None else verdict(at, *found), SIZE)
    yield from tracker.end()


def check_lives(events: Sequence[Event]) -> None:
    """Each event has a beginning, then what is new, then an end, and what it says only grows."""
    check_documents([event_document(event) for event in events])


def check_documents(events: Sequence[Documented]) -> None:
    lives: dict[str, list[Documented]] = {}
    for event in events:
        lives.setdefault(event["event"], []).append(event)
    for life in lives.values():
        kinds = [event["type"] for event in life]
        assert len(life) >= 2 and kinds[0] == "new" and kinds[-1] == "end" and set(kinds[1:-1]) <= {"update"}
        for before, after in pairwise(life):
            for same in ("label", "zone", "track", "direction", "start_ns"):
                assert before.get(same) == after.get(same)
            for grows in ("windows", "end_ns", "count"):
                assert before[grows] <= after[grows]
            assert before["best"]["score"] <= after["best"]["score"]
