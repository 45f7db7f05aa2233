"""The cascade by regions: where the cheap stage's suspicion sends the heavy one, and what comes of its looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.calibration.paths import LADDER, path_of
from detectors.replay import Heard, Seen, places_of, replay
from detectors.rules.regions import Regions
from pipeline.core.contracts import Clear, Escalate, Flag
from pipeline.core.records import Box, Findings

CHEAP, HEAVY = ("suspicious",), ("open", "short")
RULE = Regions(escalate={"suspicious": 0.2}, confirm={"open": 0.5, "short": 0.5}, reach=40, max_regions=4, slack=0.0)


def places(*spots: tuple[float, float, float]) -> Findings:
    """x, y and score of each."""
    boxes = np.array([(x - 12, y - 12, x + 12, y + 12) for x, y, _ in spots], np.float32).reshape(-1, 4)
    return Findings(CHEAP, np.array([s for *_, s in spots], np.float32), np.zeros(len(spots), np.int64), boxes)


def found(*things: tuple[str, float, Box]) -> Findings:
    return Findings(
        HEAVY,
        np.array([score for _, score, _ in things], np.float32),
        np.array([HEAVY.index(label) for label, _, _ in things], np.int64),
        np.array([box for *_, box in things], np.float32).reshape(-1, 4),
    )


def middles(decision: object) -> list[tuple[float, float]]:
    assert isinstance(decision, Escalate)
    return [((r.box[0] + r.box[2]) / 2, (r.box[1] + r.box[3]) / 2) for r in decision.regions]


class TestDecide:
    def test_no_suspicion_is_clear(self) -> None:
        assert RULE.decide(places()) == Clear()
        assert RULE.decide(places((100, 100, 0.19))) == Clear()

    def test_the_most_suspicious_place_is_looked_at_first(self) -> None:
        assert middles(RULE.decide(places((100, 100, 0.3), (400, 400, 0.9)))) == [(400, 400), (100, 100)]

    def test_a_look_answers_for_what_is_near_its_middle(self) -> None:
        assert middles(RULE.decide(places((100, 100, 0.9), (130, 140, 0.8), (141, 100, 0.7)))) == [
            (100, 100),
            (141, 100),
        ]

    def test_looks_are_bounded(self) -> None:
        many = places(*[(100.0 * x, 100.0 * y, 0.9) for x in range(6) for y in range(6)])
        assert len(middles(RULE.decide(many))) == 4

    @given(st.lists(st.tuples(st.floats(0, 640), st.floats(0, 640), st.floats(0, 1, width=32)), max_size=20))
    def test_every_suspicious_place_lies_within_reach_of_a_look(self, spots: list[tuple[float, float, float]]) -> None:
        rule = RULE.model_copy(update={"max_regions": 64})
        decision = rule.decide(places(*spots))
        looks = middles(decision) if isinstance(decision, Escalate) else []
        for x, y, score in spots:
            if score >= 0.2:
                assert any(abs(x - a) <= 40.01 and abs(y - b) <= 40.01 for a, b in looks)
        assert len(looks) <= sum(score >= 0.2 for *_, score in spots)


class TestMerge:
    def test_nothing_is_reported_without_the_heavy_stage(self) -> None:
        assert RULE.merge(places((100, 100, 0.99)), [found(("open", 0.49, (90, 90, 110, 110)))]) == Clear()

    def test_what_it_confirms_is_flagged(self) -> None:
        verdict = RULE.merge(places((100, 100, 0.3)), [found(("open", 0.5, (90, 90, 110, 110)))])
        assert isinstance(verdict, Flag)
        assert [(d.label, d.box) for d in verdict.detections] == [("open", (90, 90, 110, 110))]

    def test_one_thing_seen_in_two_looks_is_one_thing(self) -> None:
        looks = [found(("open", 0.6, (90, 90, 110, 110))), found(("open", 0.9, (91, 90, 111, 110)))]
        verdict = RULE.merge(places((100, 100, 0.3), (150, 100, 0.3)), looks)
        assert [round(d.score, 2) for d in verdict.detections] == [0.9]

    def test_two_labels_at_one_spot_are_both_told(self) -> None:
        looks = [found(("open", 0.6, (90, 90, 110, 110))), found(("short", 0.9, (90, 90, 110, 110)))]
        assert {d.label for d in RULE.merge(places(), looks).detections} == {"open", "short"}


class TestRounds:
    """The part above stands for a heavy stage that finds a defect in some of the looks."""

    @given(
        st.lists(st.tuples(st.floats(0, 640), st.floats(0, 640), st.floats(0, 1, width=32)), max_size=12),
        st.sets(st.integers(0, 11)),
        st.integers(1, 5),
    )
    def test_the_verdict_is_that_of_looking_everywhere(
        self, spots: list[tuple[float, float, float]], defects: set[int], at_once: int
    ) -> None:
        everywhere = RULE.model_copy(update={"max_regions": 64})
        cheap, defect, nothing = places(*spots), found(("open", 0.9, (90, 90, 110, 110))), found()
        looks = [region.box for region in getattr(everywhere.decide(cheap), "regions", ())]
        answers = {
            box: Heard(defect if index in defects else nothing, 1.0) for index, box in enumerate(looks)
        }  # fmt: skip
        of_all = replay(everywhere, Seen(Heard(cheap, 0.0), answers))
        in_rounds = replay(everywhere.model_copy(update={"at_once": at_once}), Seen(Heard(cheap, 0.0), answers))
        assert type(in_rounds.verdict) is type(of_all.verdict)
        assert in_rounds.places == of_all.places[: len(in_rounds.places)]
        first = min((index for index in defects if index < len(looks)), default=len(looks) - 1)
        rounds = next(n for n in range(1, 9) if at_once * (2**n - 1) > first)  # 1, 3, 7 … times the first round
        assert len(in_rounds.places) == min(at_once * (2**rounds - 1), len(looks))

    def test_all_that_a_round_could_ask_for_is_kept(self) -> None:
        rule = RULE.model_copy(update={"at_once": 1})
        cheap = places((100, 100, 0.9), (300, 300, 0.8), (500, 500, 0.7))
        assert list(places_of([rule])(cheap)) == list(places_of([RULE])(cheap))

    def test_a_unit_is_missed_if_it_is_not_flagged(self) -> None:
        path = path_of(RULE.model_copy(update={"at_once": 1}))
        flagged = path.flagged(found(("open", 0.9, (90, 90, 110, 110)), ("short", 0.9, (300, 300, 320, 320))))
        assert path.reports(flagged, RULE.merge(places(), [found(("short", 0.9, (301, 300, 320, 320)))]))
        assert not path.reports(flagged, Clear())


class TestCheck:
    def test_labels_are_those_of_the_stages(self) -> None:
        assert RULE.check(CHEAP, HEAVY) == []
        assert RULE.check(("suspect",), HEAVY)[0].startswith('escalate: the cheap stage knows no "suspicious"')
        assert len(RULE.check(CHEAP, ("open",))) == 1

    def test_it_needs_a_heavy_stage(self) -> None:
        assert RULE.check(CHEAP, None) == ["escalate: there is no heavy stage"]


class TestPath:
    def test_the_threshold_of_suspicion_rises(self) -> None:
        path = path_of(RULE)
        assert [step.threshold for step in path.steps] == list(LADDER)
        assert path.steps[-1].rule.decide(places((1, 1, 0.99))) == Clear()
        assert isinstance(path.steps[0].rule.decide(places((1, 1, 0.0))), Escalate)

    def test_a_unit_is_missed_if_one_box_is(self) -> None:
        path = path_of(RULE, match_iou=0.33)
        whole = found(("open", 0.9, (90, 90, 110, 110)), ("short", 0.9, (300, 300, 320, 320)))
        flagged = path.flagged(whole)
        assert path.reports(flagged, RULE.merge(places(), [whole]))
        assert not path.reports(flagged, RULE.merge(places(), [found(("open", 0.9, (90, 90, 110, 110)))]))
        assert not path.reports(flagged, Clear())


def test_a_place_that_is_nowhere_means_the_whole() -> None:
    whole = Findings(CHEAP, np.array([0.9], np.float32), np.zeros(1, np.int64))
    assert RULE.decide(whole) == Escalate()


@pytest.mark.parametrize("settings", [{"reach": 0}, {"max_regions": 0}, {"escalate": {}}, {"confirm": {"open": 1.5}}])
def test_settings_that_mean_nothing(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Regions.model_validate(RULE.model_dump() | settings)
