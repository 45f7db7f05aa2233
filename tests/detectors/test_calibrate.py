"""The replay at every threshold, what counts as a miss, and the refusals, with stages whose scores are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from detectors.calibration.calibrate import Claim, Group, Lack, Measured, Unit, curve, lacks, measure, verify
from detectors.calibration.paths import LADDER, BoxesPath, path_of
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.contracts import Clear, Flag, Stage
from pipeline.core.errors import InputError
from pipeline.core.payloads import FrameImage, View, ViewSpec
from pipeline.core.records import Array, Detection, Findings

SPEC = ViewSpec(16, 16)


class Channel(Stage):
    """Scores a view by the mean of one colour, and says what it saw."""

    max_batch, workers, spec = 4, 1, SPEC

    def __init__(self, name: str, label: str, channel: int) -> None:
        self.name, self.labels, self._channel, self.seen = name, (label,), channel, 0

    def score(self, views: Sequence[View]) -> list[Findings]:
        assert len(views) <= self.max_batch
        self.seen += len(views)
        values = [view.pixels[..., self._channel].mean() / 255 for view in views]
        return [Findings(self.labels, np.array([value], np.float32), np.array([0])) for value in values]


class Spots(Channel):
    """Boxes the left or the right half of a view where its colour is bright there."""

    def score(self, views: Sequence[View]) -> list[Findings]:
        self.seen += len(views)
        return [self._halves(view) for view in views]

    def _halves(self, view: View) -> Findings:
        side = view.pixels.shape[1] // 2
        halves = [view.pixels[:, :side, self._channel], view.pixels[:, side:, self._channel]]
        scores = np.array([half.mean() / 255 for half in halves], np.float32)
        boxes = view.to_source(np.array([[0, 0, side, 16], [side, 0, 2 * side, 16]], np.float32))
        kept = scores > 0.05
        return Findings(self.labels, scores[kept], np.zeros(int(kept.sum()), np.int64), boxes[kept])


def picture(left: tuple[float, float], right: tuple[float, float] | None = None) -> Array:
    """Red is what the cheap stage sees, green what the heavy one does; shares of 1 for either half."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    for half, (red, green) in ((slice(0, 32), left), (slice(32, 64), right or left)):
        pixels[:, half] = (round(255 * red), round(255 * green), 0)
    return pixels


def units(*pictures: Array) -> Iterator[Unit]:
    for number, pixels in enumerate(pictures):
        yield Unit(str(number), f"digest-{number}", FrameImage.from_array(pixels))


SCORES = Scores(watch=("odd",), clear_below=0.5, confirm={"bad": 0.5})


def measured(
    rule: Scores | Boxes, *pictures: Array, boxes: bool = False, alone: bool = False, match_iou: float = 0.5
) -> Measured:
    kind = Spots if boxes else Channel
    path = path_of(rule, decides_alone=alone, match_iou=match_iou)
    return measure(kind("cheap", "odd", 0), kind("heavy", "bad", 1), path, units(*pictures))


def at(seen: Measured, threshold: float) -> int:
    return seen.thresholds.index(threshold)


class TestScores:
    pictures = (
        *[picture((0.9, 0.9))] * 3,  # seen by both
        picture((0.3, 0.8)),  # the cheap stage is not sure
        *[picture((0.1, 0.1))] * 4,
        picture((0.6, 0.2)),  # the cheap stage alone
    )

    def test_the_ladder_from_cautious_to_bold(self) -> None:
        seen = measured(SCORES, *self.pictures)
        assert seen.thresholds == LADDER
        assert (len(seen.units), seen.positives, seen.negatives) == (9, 4, 5)
        assert seen.units[3] == "digest-3 3"
        for threshold, misses, escalated in (
            (0.0, 0, 9),
            (0.05, 0, 9),
            (0.2, 0, 5),
            (0.5, 1, 4),
            (0.7, 1, 3),
            (1, 4, 0),
        ):
            assert (seen.misses[at(seen, threshold)], seen.escalated[at(seen, threshold)]) == (misses, escalated)
        assert not seen.false_alarms.any()
        assert seen.classes["bad"].count == 4
        assert seen.classes["bad"].misses.tolist() == seen.misses.tolist()

    def test_the_heavy_stage_judges_every_whole_unit_just_once(self) -> None:
        heavy = Channel("heavy", "bad", 1)
        told: list[int] = []
        measure(Channel("cheap", "odd", 0), heavy, path_of(SCORES), units(*self.pictures), told.append)
        assert heavy.seen == len(self.pictures)
        assert told == [4, 8, 9]

    def test_cost_is_the_time_of_what_the_heavy_stage_sees(self) -> None:
        seen = measured(SCORES, *self.pictures)
        rows = curve(seen, Claim(0.1, 0.05))
        assert rows[0]["heavy_time"] == pytest.approx(1)
        assert rows[-1]["heavy_time"] == 0
        costs = [row["heavy_time"] for row in rows]
        assert costs == sorted(costs, reverse=True)
        assert [rows[at(seen, t)]["recall"] for t in (0.0, 0.5, 1.0)] == [1, 0.75, 0]

    def test_a_cheap_stage_that_flags_by_itself_needs_its_false_alarms_certified(self) -> None:
        rule = Scores(watch=("odd",), clear_below=0.2, flag_at=0.55, confirm={"bad": 0.5})
        with pytest.raises(InputError, match="--max-false"):
            path_of(rule)
        seen = measured(rule, *self.pictures, alone=True)
        assert max(seen.thresholds) == 0.55
        assert set(seen.false_alarms.tolist()) == {1}


class TestBoxes:
    rule = Boxes(report={"odd": 0.5}, escalate={"odd": 0.5}, confirm={"bad": 0.5}, grow=0.0)

    def test_every_heavy_box_needs_a_match(self) -> None:
        """The heavy stage sees two things in the whole unit. The cheap one sends it one of them only."""
        seen = measured(self.rule, picture((0.9, 0.9), (0.3, 0.9)), boxes=True)
        assert seen.positives == 1
        assert seen.misses[at(seen, 0.6)] == 1
        assert seen.misses[at(seen, 0.2)] == 0
        # in a crop it boxes half of what it boxes in the whole: enough or not, as one asks for
        strict = measured(self.rule, picture((0.9, 0.9), (0.3, 0.9)), boxes=True, match_iou=0.6)
        assert strict.misses[at(strict, 0.2)] == 1

    def test_with_the_whole_window_escalated_it_finds_what_it_finds(self) -> None:
        rule = self.rule.model_copy(update={"region": "whole"})
        seen = measured(rule, picture((0.9, 0.9), (0.3, 0.9)), picture((0.1, 0.9)), boxes=True)
        assert [int(seen.misses[at(seen, t)]) for t in (0.0, 0.09, 0.2, 0.8, 1.0)] == [0, 0, 1, 1, 2]
        assert seen.escalated[at(seen, 0.2)] == 1

    def test_one_box_is_no_match_for_two(self) -> None:
        path = path_of(self.rule)
        box, near, far = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (40.0, 0.0, 50.0, 10.0)
        flagged = [Detection("bad", 0.9, box), Detection("bad", 0.8, near)]
        assert path.reports(flagged, Flag((Detection("bad", 0.6, near), Detection("bad", 0.6, box))))
        assert not path.reports(flagged, Flag((Detection("bad", 0.9, box),)))
        assert not path.reports(flagged, Flag((Detection("bad", 0.9, box), Detection("bad", 0.9, far))))
        assert not path.reports(flagged, Flag((Detection("bad", 0.9, box), Detection("odd", 0.9, near))))
        assert path.reports([], Clear())
        everywhere = [Detection("bad", 0.9)]
        assert path.reports(everywhere, Flag((Detection("bad", 0.9, far),)))
        assert not path.reports(everywhere, Clear())

    def test_what_the_cheap_stage_reports_by_itself_is_no_proof_of_misses_alone(self) -> None:
        shared = Boxes(report={"odd": 0.4}, escalate={"odd": 0.2}, confirm={"odd": 0.5})
        assert max(step.threshold for step in path_of(shared).steps) == 0.4  # from there on it would report unseen
        assert max(step.threshold for step in path_of(shared, decides_alone=True).steps) == 1.0
        unseen = Boxes(report={"odd": 0.4, "bad": 0.5}, escalate={"odd": 0.2}, confirm={"bad": 0.5})
        with pytest.raises(InputError, match="bad by itself"):
            path_of(unseen)
        assert isinstance(path_of(unseen, decides_alone=True), BoxesPath)


def of(positives: int, negatives: int, misses: Sequence[int], false_alarms: Sequence[int] | None = None) -> Measured:
    seen = Measured(tuple(range(len(misses))), ("bad", "ugly"), ["x"] * (positives + negatives), positives)
    seen.misses = np.array(misses)
    seen.false_alarms = np.array(false_alarms or [0] * len(misses))
    return seen


class TestProof:
    def test_too_few_are_refused_before_anybody_looks(self) -> None:
        (lack,) = lacks(of(40, 900, [0]), Claim(0.02, 0.05))
        assert lack == Lack("positives", 0.02, 40, 109, pytest.approx(0.0722, abs=1e-4))
        assert lacks(of(149, 0, [149]), Claim(0.02, 0.05)) == []  # however many are missed
        assert [one.missing for one in lacks(of(149, 0, [0]), Claim(0.02, 0.05, "e-value"))] == [21]
        assert [one.what for one in lacks(of(149, 10, [0]), Claim(0.02, 0.05, alpha_false=0.1))] == ["negatives"]

    def test_the_boldest_that_holds_and_nothing_behind_a_failure(self) -> None:
        claim = Claim(0.02, 0.05)
        assert verify(of(313, 0, [0, 1, 2, 3, 2]), claim).chosen == 2
        assert verify(of(313, 0, [3, 0]), claim).chosen is None
        assert verify(of(313, 0, [0, 1, 2]), Claim(0.02, 0.05, "e-value")).chosen == 0

    def test_false_alarms_are_held_to_the_same_delta_on_the_same_path(self) -> None:
        seen = of(313, 313, [0, 1, 2], [0, 0, 3])
        assert verify(seen, Claim(0.02, 0.05)).chosen == 2
        assert verify(seen, Claim(0.02, 0.05, alpha_false=0.02)).chosen == 1

    def test_each_class_by_itself(self) -> None:
        seen, each = of(313, 0, [0, 1, 2]), Claim(0.02, 0.05, each_class=True)
        for label, count, misses in (("bad", 163, [0, 0, 1]), ("ugly", 150, [0, 1, 1])):
            seen.classes[label] = Group(np.array(misses), count)
        assert verify(seen, Claim(0.02, 0.05)).chosen == 2
        assert lacks(seen, each) == []
        assert verify(seen, each).chosen == 0
        seen.classes["ugly"].count = 140
        assert [(one.what, one.missing) for one in lacks(seen, each)] == [("positives of ugly", 9)]

    def test_against_the_truth_as_well(self) -> None:
        seen = of(313, 0, [0, 1, 2])
        assert verify(seen, Claim(0.02, 0.05)).truth is None
        for misses, holds in (([0, 0, 2], True), ([0, 0, 3], False), ([9, 0, 0], False)):
            seen.truth = Group(np.array(misses), 320)
            assert verify(seen, Claim(0.02, 0.05)).truth is holds


def test_the_truth_is_counted_beside_the_heavy_stage() -> None:
    """Of four true positives the heavy stage flags two; at 0.5 the cascade reports one of them."""
    greens = (0.9, 0.8, 0.2, 0.2, 0.1)
    made = [
        Unit(str(number), "x", FrameImage.from_array(picture((red, green))), number < 4)
        for number, (red, green) in enumerate(zip((0.9, 0.3, 0.3, 0.9, 0.1), greens, strict=True))
    ]
    seen = measure(Channel("cheap", "odd", 0), Channel("heavy", "bad", 1), path_of(SCORES), made)
    assert (seen.positives, seen.truth.count, seen.truth_unflagged) == (2, 4, 2)
    assert [int(seen.truth.misses[at(seen, t)]) for t in (0.0, 0.5, 1.0)] == [2, 3, 4]
    good = measure(Channel("cheap", "odd", 0), Channel("heavy", "bad", 1), path_of(SCORES), [
        Unit(one.id, one.digest, FrameImage.from_array(picture((0.9, green))), False)
        for one, green in zip(made, greens, strict=True)
    ])  # fmt: skip
    assert (good.truth.count, good.truly_good.count, good.negatives) == (0, 5, 3)
    assert int(good.truly_good.misses[at(good, 0.5)]) == 2  # which the heavy stage flags: no false alarm by its word
    assert int(good.false_alarms[at(good, 0.5)]) == 0


def test_a_claim_against_the_truth_counts_what_truly_is() -> None:
    """A heavy stage with false alarms of its own: what the cascade does not repeat of them is no miss of the truth."""
    seen = Measured((0.0, 0.1), positives=70, units=[str(n) for n in range(200)])
    seen.misses[:] = (0, 20)
    assert lacks(seen, Claim(0.05, 0.05, against="truth"))[0].what == "true positives"
    seen.truth = Group(np.array([0, 0]), 60)
    assert not lacks(seen, Claim(0.05, 0.05, against="truth"))
    assert verify(seen, Claim(0.05, 0.05, against="truth")).chosen == 1
    assert verify(seen, Claim(0.05, 0.05)).chosen == 0
    seen.truly_good = Group(np.array([0, 20]), 100)
    assert verify(seen, Claim(0.05, 0.05, alpha_false=0.1, against="truth")).chosen == 0
