"""The word on a message in pieces."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core.records import Detection, Failed, Outcome, Result, Shed, ShedReason, Window
from sources.verdicts import joined


def window(seq: int) -> Window:
    return Window("chat", "E", seq, seq, seq + 1, 0, 0)


def result(seq: int, **fields: Any) -> Result:
    found = (Detection("bad", 1.0, chars=(seq, seq + 1)),)
    return Result(window(seq), 5, decided_by="cheap", generation="g@1", certified=True, detections=found, **fields)


FINE = result(0)
UNTRUSTED = result(1, trusted=False)
FLAGGED = result(2, flagged=True)
SHED = Shed(window(3), 5, ShedReason.DEADLINE)
FAILED = Failed(window(4), 9, "it broke")


@pytest.mark.parametrize(
    ("outcomes", "seq", "verdict"),
    [
        ((FINE, UNTRUSTED), 1, "unknown"),
        ((FINE, SHED), 3, "unknown"),
        ((UNTRUSTED, SHED, FAILED), 4, "unknown"),
        ((SHED, FAILED, UNTRUSTED, FLAGGED, FINE), 2, "reject"),
        ((result(9), FINE), 0, "accept"),
    ],
)
def test_the_whole_is_no_weaker_than_a_piece(outcomes: tuple[Outcome, ...], seq: int, verdict: str) -> None:
    document = joined(outcomes)
    assert (document["seq"], document["verdict"], document["pieces"]) == (seq, verdict, len(outcomes))


def test_it_is_trusted_and_certified_where_all_of_it_is() -> None:
    document = joined([FINE, UNTRUSTED, FLAGGED])
    assert document["trusted"] is False and document["certified"] is True
    assert "trusted" not in joined([FINE, FLAGGED])
    assert joined([FLAGGED, SHED])["certified"] is False
    assert [one["chars"][0] for one in joined([FLAGGED, FINE])["detections"]] == [0, 2], "as they stand in the message"


def test_the_strongest_action_goes_with_its_rule() -> None:
    mild = result(0, action="flag", rule="mild", flagged=True)
    hard = result(1, action="block", rule="hard")
    unruled = result(2, action="mute")
    document = joined([mild, hard, unruled])
    assert (document["seq"], document["action"], document["rule"]) == (0, "block", "hard")
    assert joined([mild, unruled])["action"] == "mute" and "rule" not in joined([mild, unruled])
    assert joined([FAILED, hard])["action"] == "block"
