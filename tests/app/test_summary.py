"""What a run did, told to programs and to people."""

from __future__ import annotations

from test_metrics import SNAPSHOT

from pipeline.app.summary import document, lines


def test_verdicts_are_counted_for_programs_and_told_to_people_of_lines_alone() -> None:
    counted = {"accept": 4, "reject": 2, "unknown": 8}
    camera = document(SNAPSHOT, [])
    assert camera["verdicts"] == camera["streams"]["door"]["verdicts"] == counted
    assert not any(line.startswith("verdicts") for line in lines(camera))
    line = document(SNAPSHOT, [], lines=["door"])
    assert "verdicts:    4 accept, 2 reject, 8 unknown" in lines(line)
