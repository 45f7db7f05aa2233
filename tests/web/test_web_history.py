"""What is kept of an audit's bounds, and the recall that they come to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.app.web.history import History, Point, thinned
from pipeline.app.web.recall import effective_recall
from pipeline.core.records import SourceState
from pipeline.core.snapshot import AuditReport, StreamSnapshot

NOW_S = 1.8e9


def point(time_s: float, audited: int = 0) -> Point:
    return Point(time_s, 0.01, 0.0, 0.2, None, audited)


@given(st.lists(st.floats(0, 70 * 86_400), max_size=300))
def test_it_is_bounded_in_order_and_the_newest_of_each_stretch(ages: list[float]) -> None:
    points = [point(NOW_S - age) for age in sorted(ages, reverse=True)]
    kept = thinned(points, NOW_S)
    assert [one.time_s for one in kept] == sorted(one.time_s for one in kept)
    assert set(kept) <= set(points)
    assert thinned(kept, NOW_S) == kept
    if points and points[-1].time_s > NOW_S - 60 * 86_400:
        assert kept[-1] == points[-1]


def test_months_of_it_are_few_points_and_the_last_hour_is_whole() -> None:
    points = [point(NOW_S - 5.0 * n) for n in reversed(range(200_000))]
    kept = thinned(points, NOW_S)
    assert len(kept) < 2 * 720 + 1440
    assert sum(one.time_s > NOW_S - 3600 for one in kept) == 720


def test_it_outlives_the_program_but_not_its_bets(tmp_path: Path) -> None:
    file = tmp_path / "audit.json.history"
    first = History(file, ["pcb@1", 0.02, 0.05])
    for second in range(5):
        first.add(point(NOW_S + second, second))
    first.save()
    assert History(file, ["pcb@1", 0.02, 0.05]).points == first.points
    assert History(file, ["pcb@2", 0.02, 0.05]).points == []


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 1, "key": ["k"], "points": [[1, 2]]}', "\x00"])
def test_a_file_that_is_none_is_a_new_beginning(tmp_path: Path, text: str) -> None:
    (tmp_path / "h").write_text(text)
    assert History(tmp_path / "h", ["k"]).points == []


def test_a_disk_that_fails_costs_nothing_but_the_chart(tmp_path: Path) -> None:
    history = History(tmp_path / "no" / "h", ["k"])
    history.add(point(NOW_S))
    history.save()
    assert history.points == [point(NOW_S)]


def test_a_clock_that_is_set_back_leaves_the_line_in_order(tmp_path: Path) -> None:
    history = History(tmp_path / "h", ["k"])
    for time_s in (10.0, 20.0, 30.0, 15.0, 16.0):
        history.add(point(time_s))
    assert [one.time_s for one in history.points] == [10.0, 15.0, 16.0]
    history.save()
    assert json.loads((tmp_path / "h").read_text())["format"] == 1


def stream(windows: int, results: int, undecoded: int = 0, in_flight: int = 0) -> StreamSnapshot:
    shed = windows - results - in_flight
    return StreamSnapshot(
        "s", "c", SourceState.LIVE, "", 0, 0, windows + undecoded, 0, 0, undecoded, windows, results, 0, in_flight, 0,
        1, {"overload": shed},
    )  # fmt: skip


def audit(estimate: float | None, alarm: str = "") -> AuditReport:
    return AuditReport(
        0.05, 0.05, "unproven", alarm, 100, 10, 20, 0, 1, 2.0, 20.0, estimate, 0.02, 0.3, None, "some time"
    )


def test_what_was_shed_counts() -> None:
    plain = effective_recall([stream(100, 100)], None, 0.02)
    half = effective_recall([stream(100, 50)], None, 0.02)
    assert plain is not None
    assert half is not None
    assert plain.shown == pytest.approx(0.98)
    assert half.shown == pytest.approx(0.49)
    assert half.estimate is None
    late = effective_recall([stream(50, 50, undecoded=50)], None, 0.02)
    assert late is not None
    assert late.shown == pytest.approx(0.49)


def test_an_audit_has_what_was_shed_in_it_already() -> None:
    one = effective_recall([stream(100, 50)], audit(0.1), 0.02)
    assert one is not None
    assert (one.basis, one.shown) == ("audit", pytest.approx(0.9))
    assert (one.lower, one.upper) == (pytest.approx(0.7), pytest.approx(0.98))
    undecoded = effective_recall([stream(50, 50, undecoded=50)], audit(0.1), None)
    assert undecoded is not None
    assert undecoded.shown == pytest.approx(0.45)


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert effective_recall([stream(100, 100)], None, None) is None
    assert effective_recall([stream(100, 100)], audit(None), None) is None
    assert effective_recall([stream(0, 0)], audit(0.1), 0.02) is None
    assert effective_recall([stream(100, 100)], audit(0.1, "broken"), 0.02) is None
    assert effective_recall([stream(5, 0, in_flight=5)], None, 0.02) is None
