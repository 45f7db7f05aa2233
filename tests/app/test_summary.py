"""What a run did, told to programs and to people."""

from __future__ import annotations

from dataclasses import replace

from test_metrics import SNAPSHOT

from pipeline.app.summary import document, lines
from pipeline.core.snapshot import PolicySnapshot


def test_verdicts_are_counted_for_programs_and_told_to_people_of_lines_alone() -> None:
    counted = {"accept": 4, "reject": 2, "unknown": 8}
    camera = document(SNAPSHOT, [])
    assert camera["verdicts"] == camera["streams"]["door"]["verdicts"] == counted
    assert not any(line.startswith("verdicts") for line in lines(camera))
    line = document(SNAPSHOT, [], lines=["door"])
    assert "verdicts:    4 accept, 2 reject, 8 unknown" in lines(line)


def test_the_policy_is_summed_up() -> None:
    told = lines(document(SNAPSHOT, []))
    expected = "2 block, 1 mute, decided in p50 20.0 ms, p99 25.0 ms, 4 windows came late, 1 had no room (evening)"
    assert f"policy:      {expected}" in told
    quiet = document(replace(SNAPSHOT, policy=PolicySnapshot("evening", {}, {}, 0, 0, 0)), [])
    assert "policy:      nothing had to be done (evening)" in lines(quiet)
    assert "policy" not in document(replace(SNAPSHOT, policy=None), [])
