"""From verdicts to events: thresholds of opening, zones, lines, rates, restarts. And laws over whatever may come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.errors import MissingPart
from pipeline.core.records import Detection, Event
from pipeline.engine.event_settings import EventSettings, Line, Zone
from pipeline.engine.events import EventTracker
from pipeline.engine.places import crosses, inside
from tests.engine.event_parts import SIZE, check_lives, person, standing, telling, told, verdict, window

GATE = Zone(polygon=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))
DOOR = Line(points=((0.5, 1.0), (0.5, 0.0)))  # upwards in the middle: `in` is to the right

BOXES = st.builds(standing, st.integers(0, 100), st.integers(10, 100))
FOUND = st.lists(st.builds(person, BOXES, st.floats(0.3, 1.0), st.sampled_from(["person", "car"])), max_size=4)
FILM = st.lists(st.none() | FOUND, max_size=60)
PLANS = st.builds(
    EventSettings,
    start_after=st.integers(1, 3),
    end_after_s=st.sampled_from([0.0, 0.2, 1.0]),
    update_every_s=st.sampled_from([0.1, 0.5, 5.0]),
    open_at=st.sampled_from([{}, {"person": 0.6}]),
    track=st.just(True),
    zones=st.sampled_from([{}, {"gate": GATE}, {"gate": Zone(polygon=GATE.polygon, min_dwell_s=0.5)}]),
    lines=st.sampled_from([{}, {"door": DOOR}]),
    whole_picture=st.sampled_from([None, True, False]),
    most_per_minute=st.sampled_from([None, 1, 3]),
)


def untracked(plan: EventSettings) -> EventSettings:
    return plan.model_copy(update={"track": False, "lines": {}})


@settings(max_examples=150, deadline=None)
@given(PLANS, FILM, st.booleans())
def test_every_event_lives_from_new_to_end_and_a_replay_tells_the_same(
    plan: EventSettings, film: list[Sequence[Detection] | None], track: bool
) -> None:
    plan = plan if track else untracked(plan)
    events = told(plan, film)
    check_lives(events)
    assert told(plan, film) == events


@settings(max_examples=100, deadline=None)
@given(PLANS, FILM)
def test_windows_are_counted(plan: EventSettings, film: list[Sequence[Detection] | None]) -> None:
    """Without a threshold of opening, an event has as many windows as show its label within its time."""
    plan = untracked(plan).model_copy(update={"zones": {}, "open_at": {}, "whole_picture": True})
    for event in told(plan, film):
        if event.kind == "end":
            within = film[event.start_ns // 100_000_000 : event.end_ns // 100_000_000]
            assert event.windows == sum(any(d.label == event.label for d in found or ()) for found in within)
            assert event.count == max(sum(d.label == event.label for d in found or ()) for found in within)


@settings(max_examples=100, deadline=None)
@given(PLANS, FILM)
def test_the_ledger_of_the_rate_limit_holds(plan: EventSettings, film: list[Sequence[Detection] | None]) -> None:
    """What would have been told without a limit = told + said to be held back + still to be said."""
    free = plan.model_copy(update={"most_per_minute": None})
    limited = EventTracker(plan)
    events = list(telling(limited, film))
    all_of_it = [e for e in told(free, film) if e.kind == "new"]
    new = [e for e in events if e.kind == "new"]
    left = limited.state()["limit"]["held"]
    for label in ("person", "car"):
        would = sum(e.label == label for e in all_of_it)
        counted = sum(1 + e.held_back for e in new if e.label == label) + left.get(label, 0)
        assert would == counted
        if plan.most_per_minute is not None:
            assert sum(e.label == label for e in new) <= plan.most_per_minute  # a film of six seconds


@settings(max_examples=100, deadline=None)
@given(PLANS, FILM, st.integers(0, 60))
def test_a_restart_doubles_nothing_and_loses_nothing(
    plan: EventSettings, film: list[Sequence[Detection] | None], cut: int
) -> None:
    """Without tracking, a tracker that is stopped and restored goes on as if nothing had been."""
    plan = untracked(plan)
    assert told(plan, film, cut) == told(plan, film)


def test_an_event_opens_high_and_stays_open_low() -> None:
    plan = EventSettings(start_after=2, end_after_s=0.3, open_at={"person": 0.8})
    scores = [0.5, 0.7, 0.6, 0.9, 0.5, 0.85, 0.5, 0.5, 0.5]
    events = told(plan, [[person(None, score)] for score in scores])
    assert [e.kind for e in events] == ["new", "end"]
    assert (events[0].start_ns, events[0].end_ns) == (300_000_000, 600_000_000), "two windows of 0.8 open it"
    assert (events[1].end_ns, events[1].windows) == (900_000_000, 5), "and low ones keep it open"
    assert told(plan, [[person(None, 0.79)]] * 20) == []


@pytest.mark.parametrize("track", [False, True])
def test_zones_tell_of_who_stands_in_them_and_stays(track: bool) -> None:
    plan = EventSettings(
        start_after=1, end_after_s=0.5, track=track, zones={"gate": Zone(polygon=GATE.polygon, min_dwell_s=1.0)}
    )
    passing = [[person(standing(10 + 4 * n, 60))] for n in range(15)]  # in the zone from picture 11 on: 0.4 s
    staying = [[person(standing(66, 60))]] * 10
    assert told(plan, passing) == []
    events = told(plan, passing + staying)
    assert [(e.kind, e.zone) for e in events] == [("new", "gate"), ("end", "gate")]
    assert events[0].start_ns == 1_000_000_000 and events[0].end_ns == 2_000_000_000
    assert events[0].id == "cam/E/person@gate/10" + (".0" if track else "")
    assert (events[0].track == "cam/E/person/0.0") is track


def test_where_zones_are_the_whole_picture_is_silent_unless_it_is_asked() -> None:
    film = [[person(standing(20, 60)), person(standing(80, 60))]] * 3
    both = EventSettings(zones={"gate": GATE}, whole_picture=True)
    assert {(e.zone, e.count) for e in told(both, film)} == {("", 2), ("gate", 1)}
    assert {e.zone for e in told(EventSettings(zones={"gate": GATE}), film)} == {"gate"}
    elsewhere = EventSettings(zones={"gate": Zone(stream="yard", polygon=GATE.polygon)})
    assert {e.zone for e in told(elsewhere, film)} == {""}, "a zone of another stream is none of this one"
    assert told(EventSettings(zones={"gate": Zone(polygon=GATE.polygon, labels=("car",))}), film) == []


def test_the_anchor_decides_where_somebody_is() -> None:
    lower = Zone(polygon=((0, 0.5), (1, 0.5), (1, 1), (0, 1)))
    film = [[person(standing(50, 55, height=40))]] * 3
    assert told(EventSettings(zones={"low": lower}), film)
    assert told(EventSettings(zones={"low": lower}, anchor="center"), film) == []


def walk(*xs: float) -> list[list[Detection]]:
    return [[person(standing(x, 60))] for x in xs]


def test_a_line_tells_each_crossing_once_with_its_direction() -> None:
    plan = EventSettings(track=True, lines={"door": DOOR}, whole_picture=False)
    there, back = range(30, 74, 4), range(70, 26, -4)
    events = told(plan, walk(*there, *back))
    assert [(e.kind, e.direction, e.zone) for e in events] == [
        ("new", "in", "door"), ("end", "in", "door"), ("new", "out", "door"), ("end", "out", "door"),
    ]  # fmt: skip
    assert {e.track for e in events} == {"cam/E/person/0.0"}
    assert len({e.id for e in events}) == 2
    check_lives(events)


def test_who_trembles_on_a_line_or_walks_round_it_crosses_nothing() -> None:
    plan = EventSettings(track=True, lines={"door": DOOR}, whole_picture=False)
    trembling = [49.4, 50.5, 49.6, 50.3, 49.5, 50.6, 49.5] * 4
    assert told(plan, walk(40, 43, 46, *trembling, 46, 43, 40)) == []
    short = EventSettings(track=True, lines={"door": Line(points=((0.5, 1.0), (0.5, 0.8)))}, whole_picture=False)
    assert told(short, walk(*range(30, 74, 4))) == [], "it ends below the feet"


def test_two_who_meet_keep_their_names() -> None:
    plan = EventSettings(track=True, end_after_s=1.0)
    film = [[person(standing(20 + 2 * n, 60)), person(standing(80 - 2 * n, 40))] for n in range(30)]
    events = told(plan, film)
    assert {e.id for e in events} == {"cam/E/person/0.0", "cam/E/person/0.1"}
    ends = {e.id: e for e in events if e.kind == "end"}
    assert all(e.windows == 30 and e.count == 1 for e in ends.values())


def test_tracks_are_told_the_true_time() -> None:
    """Somebody walks evenly; of the pictures only a few are judged, at uneven times: still the same person."""
    plan = EventSettings(track=True, end_after_s=2.0)
    judged = [0, 1, 2, 3, 4, 12, 13, 14, 22, 23, 24, 25, 35, 36]
    tracker = EventTracker(plan)
    events: list[Event] = []
    for seq in judged:
        events += tracker.see(verdict(window(seq), person(standing(10 + 2 * seq, 60))), SIZE)
    events += tracker.end()
    assert {e.id for e in events} == {"cam/E/person/0.0"}
    assert events[-1].windows == len(judged)


def test_tracks_go_on_under_their_names_after_a_restart() -> None:
    plan = EventSettings(track=True, lines={"door": DOOR}, zones={"gate": GATE}, whole_picture=True, most_per_minute=9)
    film = [[person(standing(30 + 2 * n, 60)), person(standing(80 - n, 30), 0.8)] for n in range(25)]
    whole = told(plan, film)
    for cut in range(1, 25):
        assert told(plan, film, cut) == whole


@pytest.mark.parametrize("state", [{}, {"open": 3}, {"open": [], "steps": {}, "tracks": {}, "limit": {}}])
def test_what_is_no_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no state of events|validation error"):
        EventTracker(EventSettings()).restore(state)


def test_held_back_events_are_told_once_there_is_room_or_counted() -> None:
    """One may open a minute. The second is over by then and is counted; the third is still there, and opens late."""
    plan = EventSettings(start_after=1, end_after_s=0.0, update_every_s=1.0, most_per_minute=1)
    seen = {*range(10), *range(100, 110), *range(550, 700)}
    events = told(plan, [[person(None)] if n in seen else [] for n in range(800)])
    assert [e.kind for e in events if e.kind != "update"] == ["new", "end", "new", "end"]
    late = [e for e in events if e.kind == "new"][1]
    assert late.held_back == 1
    assert late.start_ns == 55_000_000_000 and 60_000_000_000 <= late.end_ns <= 61_100_000_000
    check_lives(events)


def test_a_camera_that_comes_and_goes_gets_no_fresh_minute() -> None:
    tracker = EventTracker(EventSettings(start_after=1, most_per_minute=2))
    events: list[Event] = []
    for epoch in "ABCDE":
        for seq in range(5):
            events += tracker.see(verdict(window(seq, epoch=epoch), person(None)))
    events += tracker.end()
    assert Counter(e.kind for e in events) == {"new": 2, "end": 2}
    assert tracker.state()["limit"]["held"] == {"person": 3}


def test_what_is_wrong_with_places_is_said() -> None:
    wrong: list[tuple[dict[str, object], str]] = [
        ({"lines": {"door": DOOR}}, "track: true"),
        ({"track": True, "lines": {"door": DOOR}, "zones": {"door": GATE}}, '"door" is the name of a zone and of a'),
        ({"zones": {"gate": {"polygon": [[0, 0], [1, 1]]}}}, "three corners"),
        ({"zones": {"gate": {"polygon": [[0, 0], [0.5, 0.5], [1, 1]]}}}, "no room in it"),
        ({"zones": {"gate": {"polygon": [[0, 0], [640, 0], [640, 480]]}}}, "less than or equal to 1"),
        ({"track": True, "lines": {"door": {"points": [[0, 0], [0, 0]]}}}, "the same point"),
    ]
    for section, message in wrong:
        with pytest.raises(ValidationError, match=message):
            EventSettings.model_validate(section)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_polygon_holds_what_its_halves_hold(x: float, y: float) -> None:
    corners = ((0.1, 0.1), (0.9, 0.2), (0.8, 0.9), (0.2, 0.8))
    halves = [(corners[0], corners[1], corners[2]), (corners[0], corners[2], corners[3])]
    assert inside((x, y), corners) == (sum(inside((x, y), half) for half in halves) == 1)


@given(*[st.floats(0, 1)] * 4)
def test_back_over_a_line_is_the_other_way(ax: float, ay: float, bx: float, by: float) -> None:
    line = Line(points=((0.2, 0.9), (0.7, 0.3)))
    there, back = crosses((ax, ay), (bx, by), line), crosses((bx, by), (ax, ay), line)
    assert (there, back) in {(None, None), ("in", "out"), ("out", "in")}


def test_tracking_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingPart, match=r"pip install 'thresher\[track\]'"):
        EventTracker(EventSettings(track=True))
    EventTracker(EventSettings())  # which needs nothing
