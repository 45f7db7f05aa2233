"""The replay of a rule over what two stages said: what is kept, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.replay import Heard, Seen, Unheard, places_at_any_threshold, replay
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.contracts import Clear, Escalate, Flag
from pipeline.core.records import Findings

LABELS = ("scratch", "dent", "dust")
RULE = Boxes(
    report={"scratch": 0.9}, escalate={"scratch": 0.3, "dent": 0.3}, confirm={"bad": 0.5}, max_regions=2, grow=0.1
)


def cheap(scores: list[float], classes: list[int]) -> Findings:
    """A finding a score, side by side, ten pixels wide."""
    left = np.arange(len(scores), dtype=np.float32) * 20
    boxes = np.stack([left, left, left + 10, left + 10], 1)
    return Findings(LABELS, np.array(scores, np.float32), np.array(classes, np.int64), boxes)


def whole(score: float) -> Findings:
    return Findings(("bad",), np.array([score], np.float32), np.array([0]))


def test_what_the_cheap_stage_settles_costs_nothing() -> None:
    played = replay(RULE, Seen(Heard(cheap([0.2], [0]), 0.001), {}))
    assert played == type(played)(Clear(), (), 0.0)


def test_the_heavy_stage_is_asked_where_the_rule_says_and_its_time_counted() -> None:
    findings = cheap([0.5, 0.4], [0, 1])
    decided = RULE.decide(findings)
    assert isinstance(decided, Escalate)
    first, second = (region.box for region in decided.regions)
    heavy = {None: Heard(whole(0.9), 9.0), first: Heard(whole(0.1), 0.5), second: Heard(whole(0.7), 0.25)}
    played = replay(RULE, Seen(Heard(findings, 0.001), heavy))
    assert isinstance(played.verdict, Flag)
    assert (played.places, played.heavy_s) == ((first, second), 0.75)


def test_a_place_that_was_not_kept_is_refused_and_not_guessed() -> None:
    with pytest.raises(Unheard, match="nobody asked the heavy stage about"):
        replay(RULE, Seen(Heard(cheap([0.5], [0]), 0.0), {None: Heard(whole(0.9), 1.0)}))
    always = Scores(watch=("scratch",), clear_below=0.1, confirm={"bad": 0.5})
    with pytest.raises(Unheard, match="the whole unit"):
        replay(always, Seen(Heard(cheap([0.5], [0]), 0.0), {}))


@settings(deadline=None)
@given(
    found=st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 2)), max_size=12),
    thresholds=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    most=st.integers(1, 4),
)
def test_every_threshold_finds_its_places_kept(
    found: list[tuple[float, int]], thresholds: tuple[float, float], most: int
) -> None:
    """Whatever the thresholds of the escalated labels, together or apart."""
    findings = cheap([score for score, _ in found], [kind for _, kind in found])
    stored = Boxes.model_validate(RULE.model_dump() | {"max_regions": most})
    kept = dict.fromkeys(places_at_any_threshold(stored)(findings), Heard(whole(0.5), 0.0))
    asked = dict(zip(("scratch", "dent"), thresholds, strict=True))
    other = Boxes.model_validate(stored.model_dump() | {"escalate": asked})
    replay(other, Seen(Heard(findings, 0.0), kept))
