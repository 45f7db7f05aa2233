"""The ladder over stored scores: as each of its rules would have decided by itself, and from less than all was said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.calibration.paths import path_of
from detectors.datasets.base import NO_BOXES, NO_CLASSES
from detectors.evaluation.figures import cost_figures, play
from detectors.evaluation.judged import Judged, Subject
from detectors.evaluation.ladder import audible, ladder
from detectors.replay import Heard, Place, Seen, places_of, replay
from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.core.records import Findings

Rule = Boxes | Regions | Scores
CHEAP, HEAVY = ("odd", "dull"), ("scratch", "hole")
REGIONS = Regions(escalate={"odd": 0.3}, confirm={"scratch": 0.5, "hole": 0.6}, reach=20, at_once=1)
BOXES = Boxes(report={"odd": 0.9}, escalate={"odd": 0.3}, confirm={"scratch": 0.5, "hole": 0.6})
SCORES = Scores(watch=("odd",), clear_below=0.3, flag_at=0.9, confirm={"scratch": 0.5})
VALUES = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), max_size=6)


def placed(labels: tuple[str, ...], scores: list[float], seed: int) -> Findings:
    draw = np.random.default_rng(seed)
    corners = draw.integers(0, 200, (len(scores), 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 20], axis=1)
    classes = draw.integers(0, len(labels), len(scores))
    return Findings(labels, np.array(scores, np.float32), classes, boxes)


def whole(labels: tuple[str, ...], scores: list[float]) -> Findings:
    some = (scores + [0.0] * len(labels))[: len(labels)]
    return Findings(labels, np.array(some, np.float32) / len(labels), np.arange(len(labels)))


def seen_by(rule: Rule, cheap: list[float], heavy: list[float], seed: int) -> Seen:
    if isinstance(rule, Scores):
        return Seen(Heard(whole(CHEAP, cheap), 0.01), {None: Heard(whole(HEAVY, heavy), 0.2)})
    first = placed(CHEAP, cheap, seed)
    answers: dict[Place, Heard] = {}
    for number, place in enumerate(
        [None, *places_of([step.rule for step in path_of(rule, decides_alone=True).steps])(first)]
    ):
        answers.setdefault(place, Heard(placed(HEAVY, heavy[: number + 1], seed + number), 0.1 + number / 100))
    return Seen(Heard(first, 0.01), answers)


UNITS = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 99), st.booleans()), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([REGIONS, BOXES, SCORES]), UNITS)
def test_each_step_says_what_its_rule_says(rule: Rule, drawn: list[tuple[list[float], list[float], int, bool]]) -> None:
    subject = Subject(rule, CHEAP, HEAVY, (), None)
    units = [
        Judged(f"{n}", "", 200, 200, int(bad), NO_BOXES, NO_CLASSES, seen_by(rule, cheap, heavy, seed))
        for n, (cheap, heavy, seed, bad) in enumerate(drawn)
    ]
    own, rungs = ladder(subject, units, truth=True, delta=0.05)
    path = path_of(rule, decides_alone=True)
    assert [one.threshold for one in rungs] == [step.threshold for step in path.steps]
    for step, rung in zip(path.steps, rungs, strict=True):
        played = play(Subject(step.rule, CHEAP, HEAVY, (), None), units)
        flagged = [path.flagged(unit.seen.heavy[None].findings) for unit in units]
        assert rung.missed_units == sum(
            bool(found) and not path.reports(found, one.verdict) for found, one in zip(flagged, played, strict=True)
        )
        reported = [path.reports_any(one.verdict) for one in played]
        assert rung.truly_missed_units == sum(u.bad and not r for u, r in zip(units, reported, strict=True))
        assert rung.false_units == sum(r and not u.bad for u, r in zip(units, reported, strict=True))
        cost = cost_figures(units, played)
        assert (rung.escalated, rung.cost) == (cost["escalated"], cost["cascade_time"])
    same = next(one for one in rungs if one.threshold == 0.3)
    assert (own.missed_units, own.false_units, own.escalated) == (same.missed_units, same.false_units, same.escalated)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([REGIONS, BOXES, SCORES]), VALUES, VALUES, st.integers(0, 99))
def test_what_a_rule_cannot_hear_changes_nothing(rule: Rule, cheap: list[float], heavy: list[float], seed: int) -> None:
    seen = seen_by(rule, cheap, heavy, seed)
    less = audible(rule, seen)
    path = path_of(rule, decides_alone=True)
    assert path.flagged(seen.heavy[None].findings) == path.flagged(less.heavy[None].findings)
    for step in path.steps:
        assert replay(step.rule, less) == replay(step.rule, seen)
