"""The wire form of outcomes and events, and the catalogue."""

from __future__ import annotations

import json

import pytest

from pipeline.core.catalogue import Catalogue
from pipeline.core.errors import InputError, InputErrors
from pipeline.core.records import (
    Detection,
    Event,
    Failed,
    Outcome,
    Result,
    Shed,
    ShedReason,
    Window,
    event_document,
    iso_time,
    outcome_document,
)

WINDOW = Window("line-1", "01K", 1234, 41133333333, 41166666666, 1_000_000, 1769860800_123456_789)


def test_a_result_is_written_as_the_schema_has_it() -> None:
    found = (Detection("short", 0.98, (88.0, 468.5, 127.0, 497.0)), Detection("open", 0.51234))
    result = Result(WINDOW, 8_400_000, "resnet", "pcb@3", found, flagged=True, certified=True)
    assert json.loads(json.dumps(outcome_document(result))) == {
        "id": "line-1/01K/1234",
        "stream": "line-1",
        "epoch": "01K",
        "seq": 1234,
        "pts_ns": 41133333333,
        "time": "2026-01-31T12:00:00.123456Z",
        "outcome": "result",
        "verdict": "reject",
        "latency_ms": 7.4,
        "decided_by": "resnet",
        "generation": "pcb@3",
        "certified": True,
        "flagged": True,
        "detections": [
            {"label": "short", "score": 0.98, "box": [88.0, 468.5, 127.0, 497.0]},
            {"label": "open", "score": 0.5123},
        ],
    }


@pytest.mark.parametrize(
    ("outcome", "kind", "reason"),
    [
        (Shed(WINDOW, 2_000_000, ShedReason.OVERLOAD), "shed", "overload"),
        (Failed(WINDOW, 2_000_000, "no"), "failed", "no"),
    ],
)
def test_what_was_not_judged_says_why(outcome: Outcome, kind: str, reason: str) -> None:
    document = outcome_document(outcome)
    assert (document["outcome"], document["reason"]) == (kind, reason)
    assert "detections" not in document
    assert document["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("flagged", "trusted", "verdict"),
    [
        (False, True, "accept"),
        (True, True, "reject"),
        (False, False, "unknown"),
        (True, False, "reject"),  # trust is about what slips through
    ],
)
def test_only_what_was_judged_and_is_trusted_is_let_through(flagged: bool, trusted: bool, verdict: str) -> None:
    assert Result(WINDOW, 1, "resnet", "pcb@3", flagged=flagged, trusted=trusted).verdict == verdict


def test_an_event_names_its_span_on_both_clocks() -> None:
    event = Event(
        "s/e/person/3",
        "end",
        "s",
        "person",
        0,
        27 * 10**9,
        1769860800 * 10**9,
        1769860827 * 10**9,
        800,
        4,
        Detection("person", 0.9),
    )
    document = event_document(event)
    assert (document["start"], document["end"]) == ("2026-01-31T12:00:00.000000Z", "2026-01-31T12:00:27.000000Z")
    assert document["type"] == "end"


def test_times_keep_microseconds() -> None:
    assert iso_time(1_999) == "1970-01-01T00:00:00.000001Z"


def test_a_wrong_word_gets_the_nearest_right_one() -> None:
    catalogue = Catalogue("source", "thresher.nothing", {"rtsp": "json:loads", "file": "json:dumps"})
    assert catalogue.load("rtsp") is json.loads
    with pytest.raises(InputError, match=r'sources.door: there is no source of kind "rstp". Did you mean "rtsp"\?'):
        catalogue.load("rstp", "sources.door")


def test_several_mistakes_are_told_at_once() -> None:
    errors = InputErrors([InputError("too long", "a.b"), InputError("missing")])
    assert str(errors) == "a.b: too long\nmissing"
