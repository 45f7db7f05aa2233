from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors import RULES
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.contracts import Clear, Decision, Escalate, Flag
from pipeline.core.records import Detection, Findings

CHEAP = ("person", "bicycle", "dog")
HEAVY = ("safe", "unsafe")
PEOPLE = Boxes(report={"person": 0.5}, escalate={"person": 0.4}, confirm={"unsafe": 0.8})
NUDITY = Scores(watch=("porn", "hentai"), clear_below=0.2, flag_at=0.9, confirm={"unsafe": 0.8})
CLASSES = ("drawing", "hentai", "porn")


def boxed(*things: tuple[str, float, tuple[float, float, float, float]]) -> Findings:
    return Findings(
        CHEAP,
        np.array([score for _, score, _ in things], np.float32),
        np.array([CHEAP.index(label) for label, _, _ in things], np.int64),
        np.array([box for _, _, box in things], np.float32).reshape(-1, 4),
    )


def scored(labels: tuple[str, ...], *scores: float) -> Findings:
    return Findings(labels, np.array(scores, np.float32), np.arange(len(labels)))


def judged(unsafe: float) -> Findings:
    return scored(HEAVY, 1 - unsafe, unsafe)


A, B, C = (10.0, 10.0, 30.0, 50.0), (60.0, 10.0, 80.0, 50.0), (0.0, 0.0, 5.0, 5.0)


class TestBoxes:
    def test_nothing_found_is_clear(self) -> None:
        assert PEOPLE.decide(boxed()) == Clear()

    def test_what_stays_below_is_clear(self) -> None:
        assert PEOPLE.decide(boxed(("person", 0.39, A), ("dog", 0.99, B))) == Clear()

    def test_without_a_heavy_stage_the_reported_are_flagged(self) -> None:
        found = Boxes(report={"person": 0.5, "dog": 0.3}).decide(boxed(("dog", 0.4, A), ("person", 0.75, B)))
        assert found == Flag((Detection("person", 0.75, B), Detection("dog", pytest.approx(0.4), A)))

    def test_reported_but_nothing_to_act_on(self) -> None:
        rule = Boxes(report={"person": 0.5, "dog": 0.5}, flag=("dog",))
        assert rule.decide(boxed(("person", 0.75, A))) == Clear((Detection("person", 0.75, A),))
        assert isinstance(rule.decide(boxed(("person", 0.75, A), ("dog", 0.5, B))), Flag)

    def test_escalates_grown_boxes_best_first(self) -> None:
        decision = PEOPLE.decide(boxed(("person", 0.45, A), ("person", 0.9, B)))
        assert isinstance(decision, Escalate)
        assert [region.box for region in decision.regions] == [(58, 6, 82, 54), (8, 6, 32, 54)]
        assert {region.label for region in decision.regions} == {"person"}

    def test_no_more_regions_than_allowed(self) -> None:
        rule = PEOPLE.model_copy(update={"max_regions": 1})
        findings = boxed(("person", 0.5, A), ("person", 0.75, B))
        decision = rule.decide(findings)
        assert isinstance(decision, Escalate) and len(decision.regions) == 1
        assert rule.merge(findings, [judged(0.95)]).detections[-1].box == B

    def test_confirmed_carries_the_box_that_called_for_it(self) -> None:
        findings = boxed(("person", 0.45, A), ("person", 0.75, B))
        verdict = PEOPLE.merge(findings, [judged(0.1), judged(0.875)])
        assert verdict == Flag((Detection("person", 0.75, B), Detection("unsafe", 0.875, A)))

    def test_nothing_confirmed(self) -> None:
        rule = PEOPLE.model_copy(update={"flag": ()})
        assert rule.merge(boxed(("person", 0.75, B)), [judged(0.1)]) == Clear((Detection("person", 0.75, B),))

    def test_whole_window_escalates_without_regions(self) -> None:
        rule = PEOPLE.model_copy(update={"region": "whole"})
        findings = boxed(("person", 0.75, B), ("person", 0.75, A))
        assert rule.decide(findings) == Escalate()
        assert rule.merge(findings, [judged(0.875)]).detections[-1] == Detection("unsafe", 0.875, None)

    def test_a_heavy_detector_corrects_the_cheap_one_where_it_looked(self) -> None:
        rule = Boxes(
            report={"person": 0.5, "dog": 0.5}, escalate={"person": 0.4}, confirm={"person": 0.6}, max_regions=1
        )
        cheap = boxed(("person", 0.75, A), ("person", 0.625, B), ("dog", 0.5, C))
        inside = (11.0, 12.0, 29.0, 48.0)
        heavy = boxed(("person", 0.875, inside))
        assert rule.merge(cheap, [heavy]).detections == (
            Detection("person", 0.625, B),  # not looked at: the cheap stage's word stands
            Detection("dog", 0.5, C),
            Detection("person", 0.875, inside),
        )
        assert rule.merge(cheap, [boxed()]).detections == (Detection("person", 0.625, B), Detection("dog", 0.5, C))

    @pytest.mark.parametrize(
        ("fields", "heavy", "said"),
        [
            ({"report": {"persn": 0.5}}, None, ['report: the cheap stage knows no "persn". Did you mean "person"?']),
            ({"report": {"person": 0.5}, "escalate": {"person": 0.5}}, None, ["escalate: there is no heavy stage"]),
            ({"report": {"person": 0.5}}, HEAVY, ["escalate: needed", "confirm: needed"]),
            ({"report": {"person": 0.5}, "flag": ["dog"]}, None, ['flag: report knows no "dog"']),
            (
                {"report": {"person": 0.5}, "escalate": {"cat": 0.5}, "confirm": {"insafe": 0.5}},
                HEAVY,
                [
                    'escalate: the cheap stage knows no "cat"',
                    'confirm: the heavy stage knows no "insafe". Did you mean',
                ],
            ),
        ],
    )
    def test_check_lists_every_mistake(self, fields: Any, heavy: Any, said: list[str]) -> None:
        found = Boxes.model_validate(fields).check(CHEAP, heavy)
        assert len(found) == len(said)
        for mistake, start in zip(found, said, strict=True):
            assert mistake.startswith(start)

    def test_check_has_nothing_to_say_of_a_good_rule(self) -> None:
        assert PEOPLE.check(CHEAP, HEAVY) == []
        assert Boxes(report={"person": 0.5}).check(CHEAP, None) == []

    @pytest.mark.parametrize("fields", [{}, {"report": {}}, {"report": {"a": 1.5}}, {"report": {"a": 1}, "grow": -1}])
    def test_settings_that_mean_nothing(self, fields: Any) -> None:
        with pytest.raises(ValidationError):
            Boxes.model_validate(fields)


class TestScores:
    @pytest.mark.parametrize(
        ("porn", "hentai", "decision"),
        [
            (0.125, 0.0, Clear()),
            (0.0, 0.125, Clear()),
            (0.125, 0.125, Escalate()),
            (0.5, 0.25, Escalate()),
            (0.5, 0.4375, Flag((Detection("porn", 0.9375),))),
            (0.25, 0.75, Flag((Detection("hentai", 1.0),))),
        ],
    )
    def test_three_ways(self, porn: float, hentai: float, decision: Decision) -> None:
        assert NUDITY.decide(scored(CLASSES, 1 - porn - hentai, hentai, porn)) == decision

    def test_the_heavy_stage_has_the_last_word(self) -> None:
        cheap = scored(CLASSES, 0.5, 0.25, 0.25)
        assert NUDITY.merge(cheap, [judged(0.75)]) == Clear()
        assert NUDITY.merge(cheap, [judged(0.875)]) == Flag((Detection("unsafe", 0.875),))

    def test_without_a_heavy_stage_flag_at_decides(self) -> None:
        rule = Scores(watch=("porn",), flag_at=0.5)
        assert rule.decide(scored(CLASSES, 0.5, 0.0, 0.4375)) == Clear()
        assert rule.decide(scored(CLASSES, 0.5, 0.0, 0.5)) == Flag((Detection("porn", 0.5),))

    def test_over_boxes_the_best_counts(self) -> None:
        rule = Scores(watch=("person", "dog"), flag_at=0.7)
        found = rule.decide(boxed(("bicycle", 0.875, C), ("person", 0.5, A), ("dog", 0.75, B)))
        assert found == Flag((Detection("dog", 0.75, B),))
        assert rule.decide(boxed()) == Clear()

    @pytest.mark.parametrize(
        ("fields", "heavy", "said"),
        [
            ({"watch": ["prn"], "flag_at": 0.5}, None, ['watch: the cheap stage knows no "prn". Did you mean "porn"?']),
            ({"watch": ["porn"]}, None, ["flag_at: needed without"]),
            ({"watch": ["porn"], "flag_at": 0.5, "clear_below": 0.1}, None, ["clear_below: there is no heavy stage"]),
            ({"watch": ["porn"], "flag_at": 0.5, "confirm": {"unsafe": 1}}, None, ["confirm: there is no heavy stage"]),
            ({"watch": ["porn"]}, HEAVY, ["confirm: needed", "clear_below: needed"]),
            (
                {"watch": ["porn"], "clear_below": 0.1, "confirm": {"x": 1}},
                HEAVY,
                ['confirm: the heavy stage knows no "x"'],
            ),
        ],
    )
    def test_check_lists_every_mistake(self, fields: Any, heavy: Any, said: list[str]) -> None:
        found = Scores.model_validate(fields).check(CLASSES, heavy)
        assert len(found) == len(said)
        for mistake, start in zip(found, said, strict=True):
            assert mistake.startswith(start)

    @pytest.mark.parametrize(
        "fields",
        [
            {"watch": []},
            {"watch": ["a", "a"], "flag_at": 0.5},
            {"watch": ["a"], "flag_at": 0.2, "clear_below": 0.5},
            {"watch": ["a"], "flag_at": 1.2},
        ],
    )
    def test_settings_that_mean_nothing(self, fields: Any) -> None:
        with pytest.raises(ValidationError):
            Scores.model_validate(fields)


def test_the_catalogue_knows_them_and_they_cross_processes() -> None:
    assert RULES.load("boxes") is Boxes
    assert RULES.load("scores") is Scores
    for rule in (PEOPLE, NUDITY):
        assert pickle.loads(pickle.dumps(rule)) == rule


sides = st.floats(0, 200, width=32)
things = st.lists(
    st.tuples(st.sampled_from(CHEAP), st.floats(0, 1, width=32), st.tuples(sides, sides, sides, sides)), max_size=12
)
level = st.floats(0, 1, width=32)


@given(things, level, level, st.lists(level, min_size=12, max_size=12))
def test_nothing_below_its_threshold_is_reported(
    found: list[Any], report: float, escalate: float, unsafe: list[float]
) -> None:
    rule = Boxes(report={"person": report, "dog": 0.5}, escalate={"person": escalate}, confirm={"unsafe": 0.8})
    findings = boxed(*found)
    decision = rule.decide(findings)
    least = {"person": report, "dog": 0.5, "unsafe": 0.8}
    if isinstance(decision, Escalate):
        assert 1 <= len(decision.regions) <= rule.max_regions
        verdict = rule.merge(findings, [judged(score) for score in unsafe[: len(decision.regions)]])
    else:
        verdict = decision
    assert all(d.score >= least[d.label] for d in verdict.detections)


@given(things, level, level)
def test_a_lower_threshold_reports_no_less(found: list[Any], one: float, other: float) -> None:
    low, high = sorted((one, other))
    findings = boxed(*found)
    fewer = Boxes(report={"person": high}).decide(findings)
    more = Boxes(report={"person": low}).decide(findings)
    assert not isinstance(fewer, Escalate) and not isinstance(more, Escalate)
    assert set(fewer.detections) <= set(more.detections)


@given(things, level, level)
def test_a_lower_threshold_escalates_no_less(found: list[Any], one: float, other: float) -> None:
    low, high = sorted((one, other))
    findings = boxed(*found)

    def escalates(threshold: float) -> bool:
        rule = Boxes(report={"person": 0.5}, escalate={"person": threshold}, confirm={"unsafe": 0.5})
        return isinstance(rule.decide(findings), Escalate)

    assert escalates(low) or not escalates(high)


_ORDER = {Clear: 0, Escalate: 1, Flag: 2}


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.lists(level, min_size=2, max_size=2), level)
def test_more_score_is_never_taken_more_lightly(scores: list[float], bounds: list[float], more: float) -> None:
    clear, flag = sorted(bounds)
    rule = Scores(watch=("porn",), clear_below=clear, flag_at=flag, confirm={"unsafe": 0.5})
    raised = [scores[0], scores[1], max(scores[2], more)]
    before, after = rule.decide(scored(CLASSES, *scores)), rule.decide(scored(CLASSES, *raised))
    assert _ORDER[type(after)] >= _ORDER[type(before)]


@given(things)
def test_deciding_changes_nothing_and_repeats_itself(found: list[Any]) -> None:
    findings = boxed(*found)
    kept = [array.copy() for array in (findings.scores, findings.classes, findings.boxes)]  # type: ignore[union-attr]
    first = PEOPLE.decide(findings)
    heavy = [judged(0.9)] * (len(first.regions) if isinstance(first, Escalate) else 0)
    merged = PEOPLE.merge(findings, heavy) if heavy else first
    assert PEOPLE.decide(findings) == first
    assert (PEOPLE.merge(findings, heavy) if heavy else first) == merged
    for array, before in zip((findings.scores, findings.classes, findings.boxes), kept, strict=True):
        assert np.array_equal(array, before)  # type: ignore[arg-type]
