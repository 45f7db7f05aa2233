"""Average precision and F: by hand, against a slow and plain implementation, and what has to hold of any findings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.evaluation.boxes import IOU, Boxes, ranked
from detectors.evaluation.coco import coco_average
from pipeline.core.records import Array

CLASSES = 3
Picture = list[tuple[tuple[int, int, int, int], int, float]]


def boxes_of(picture: Picture) -> Boxes:
    boxes = np.array([box for box, _, _ in picture], np.float32).reshape(-1, 4)
    kinds = np.array([kind for _, kind, _ in picture], np.int64)
    return Boxes(boxes, kinds, np.array([score for _, _, score in picture], np.float32))


def square(x: int, y: int = 0, side: int = 10) -> tuple[int, int, int, int]:
    return x, y, x + side, y + side


def test_by_hand() -> None:
    true = [boxes_of([(square(0), 0, 1), (square(50), 0, 1), (square(80), 1, 1)]), boxes_of([(square(0), 0, 1)])]
    found = [
        boxes_of(
            [
                (square(1), 0, 0.9),  # right
                (square(2), 0, 0.8),  # its box is taken by a better one
                (square(50), 1, 0.7),  # another class
                (square(80), 1, 0.6),  # right
            ]
        ),
        boxes_of([(square(0, 3), 0, 0.5), (square(30), 2, 0.4)]),  # right; a class of which nothing is there
    ]
    rank = ranked(found, true, CLASSES)
    assert rank.right.tolist() == [True, False, False, True, True, False]
    assert rank.true.tolist() == [3, 1, 0]
    assert rank.average_precision()[:2] == pytest.approx([(1 + 2 / 3) / 3, 1 / 2])
    assert np.isnan(rank.average_precision()[2])
    assert rank.at(0.6) == pytest.approx((2 / 4, 2 / 4, 0.5))
    assert rank.at(np.array([0.85, 0.65, 0.1])) == pytest.approx((1 / 3, 1 / 4, 2 / 7))
    assert rank.only(1).at(0.65) == pytest.approx((0.0, 0.0, 0.0))
    assert rank.only(0).at(0.5) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert rank.best_threshold() == pytest.approx((0.5 + 0.4) / 2)


def test_just_at_the_overlap_is_not_yet_right() -> None:
    true = [boxes_of([((0, 0, 100, 100), 0, 1)])]
    assert not ranked([boxes_of([((0, 0, 100, 33), 0, 1)])], true, 1).right.any()
    assert ranked([boxes_of([((0, 0, 100, 34), 0, 1)])], true, 1).right.all()


def test_nothing_found_and_nothing_there() -> None:
    none = boxes_of([])
    rank = ranked([none], [none], CLASSES)
    assert np.isnan(rank.average_precision()).all()
    assert rank.at(0.5) == (1.0, 0.0, 0.0)
    assert rank.best_threshold() == 0.5
    there = ranked([none], [boxes_of([(square(0), 0, 1)])], CLASSES)
    assert there.average_precision()[0] == 0.0
    assert ranked([], [], 1).at(0.5) == (1.0, 0.0, 0.0)


some_boxes = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def pictures(score: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[Picture, Picture]]]:
    one = st.lists(st.tuples(some_boxes, st.integers(0, CLASSES - 1), score), max_size=6)
    return st.lists(st.tuples(one, one), min_size=1, max_size=4)


def different_scores(data: list[tuple[Picture, Picture]]) -> tuple[list[Boxes], list[Boxes]]:
    """Findings and truth, no two findings with the same score, so that there is one order alone."""
    found, true, taken = [], [], set()
    for mine, theirs in data:
        kept: Picture = []
        for box, kind, score in mine:
            if score not in taken:
                taken.add(score)
                kept.append((box, kind, score))
        found.append(boxes_of(kept))
        true.append(boxes_of(theirs))
    return found, true


scores = st.integers(1, 999).map(lambda n: n / 1000)


def plain_iou(a: Array, b: Array) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


def plain_average_precision(found: list[Boxes], true: list[Boxes], kind: int) -> float | None:
    """One finding after the other, best first, over all pictures."""
    findings = [
        (float(one.scores[i]), picture, one.boxes[i])
        for picture, one in enumerate(found)
        for i in range(len(one.scores))
        if one.classes[i] == kind
    ]
    left = {
        picture: [one.boxes[i] for i in range(len(one.boxes)) if one.classes[i] == kind]
        for picture, one in enumerate(true)
    }
    count = sum(len(boxes) for boxes in left.values())
    if not count:
        return None
    right, total = 0, 0.0
    for seen, (_, picture, box) in enumerate(sorted(findings, key=lambda f: -f[0]), 1):
        overlaps = [plain_iou(box, other) for other in left[picture]]
        if overlaps and max(overlaps) > IOU:
            del left[picture][overlaps.index(max(overlaps))]
            right += 1
            total += right / seen
    return total / count


@settings(deadline=None)
@given(pictures(scores))
def test_it_is_what_a_plain_implementation_says(data: list[tuple[Picture, Picture]]) -> None:
    found, true = different_scores(data)
    average = ranked(found, true, CLASSES).average_precision()
    for kind in range(CLASSES):
        plain = plain_average_precision(found, true, kind)
        assert np.isnan(average[kind]) if plain is None else average[kind] == pytest.approx(plain)


@settings(deadline=None)
@given(pictures(scores))
def test_a_share_of_one_and_fewer_findings_from_a_higher_threshold(data: list[tuple[Picture, Picture]]) -> None:
    found, true = different_scores(data)
    rank = ranked(found, true, CLASSES)
    average = rank.average_precision()
    assert ((average >= 0) & (average <= 1))[np.isfinite(average)].all()
    recalls = [rank.at(threshold)[1] for threshold in np.linspace(0, 1, 21)]
    assert recalls == sorted(recalls, reverse=True)
    best = rank.at(rank.best_threshold())[2]
    assert all(best >= rank.at(threshold)[2] - 1e-12 for threshold in rank.scores)


@settings(deadline=None)
@given(pictures(scores))
def test_perfect_findings_are_perfect(data: list[tuple[Picture, Picture]]) -> None:
    true = [boxes_of(theirs) for _, theirs in data]
    rank = ranked([Boxes(one.boxes, one.classes, np.ones(len(one.boxes))) for one in true], true, CLASSES)
    average = rank.average_precision()
    assert (average[np.isfinite(average)] == 1).all()
    if rank.true.sum():
        assert rank.at(0.5) == pytest.approx((1, 1, 1))


@settings(deadline=None)
@given(pictures(scores), st.randoms(use_true_random=False))
def test_no_order_matters(data: list[tuple[Picture, Picture]], random: object) -> None:
    found, true = different_scores(data)
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]  # hypothesis' own Random
    order = rng.permutation(len(found))
    inside = [rng.permutation(len(one.scores)) for one in found]
    mixed = [Boxes(one.boxes[p], one.classes[p], one.scores[p]) for one, p in zip(found, inside, strict=True)]
    one, other = ranked(found, true, CLASSES), ranked([mixed[i] for i in order], [true[i] for i in order], CLASSES)
    assert other.average_precision() == pytest.approx(one.average_precision(), nan_ok=True)
    assert other.at(0.5) == one.at(0.5)


class TestCoco:
    def test_perfect_and_none(self) -> None:
        true = [boxes_of([(square(0), 0, 1), (square(40), 2, 1)]), boxes_of([(square(20), 0, 1)]), boxes_of([])]
        assert coco_average(true, true, CLASSES) == pytest.approx((1.0, 1.0))
        nothing = [boxes_of([])] * 3
        assert coco_average(nothing, true, CLASSES) == (0.0, 0.0)
        assert coco_average(true, nothing, CLASSES) is None

    def test_a_box_that_fits_three_of_ten_overlaps(self) -> None:
        """An IoU of 0.62 is right at 0.50, 0.55 and 0.60, and at no stricter one."""
        true = [boxes_of([((0, 0, 100, 100), 0, 1)])]
        average = coco_average([boxes_of([((0, 0, 100, 62), 0, 0.9)])], true, 1)
        assert average == pytest.approx((0.3, 1.0))

    def test_a_wrong_one_that_is_surer(self) -> None:
        true = [boxes_of([(square(0), 0, 1)])]
        found = [boxes_of([(square(50), 0, 0.9), (square(0), 0, 0.8)])]
        assert coco_average(found, true, 1) == pytest.approx((0.5, 0.5))
