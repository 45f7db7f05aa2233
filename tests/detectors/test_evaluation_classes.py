"""Verdicts without a place, and which labels are the same: by hand, and against slow and plain implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.evaluation.classes import accuracy, auroc, confusion, f1_weighted, precision_recall
from detectors.evaluation.labels import matched
from detectors.evaluation.rules import rule_of
from detectors.manifest import Manifest
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.errors import InputError

scored = st.lists(st.tuples(st.integers(0, 5).map(lambda n: n / 5), st.booleans()), max_size=30)
verdicts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def arrays(units: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    return np.array([score for score, _ in units], float), np.array([bad for _, bad in units], bool)


def test_auroc_by_hand() -> None:
    assert auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert auroc(np.array([0.5, 0.5]), np.array([False, True])) == 0.5
    assert auroc(np.array([0.5]), np.array([True])) is None
    assert auroc(np.zeros(0), np.zeros(0, bool)) is None


@settings(deadline=None)
@given(scored)
def test_auroc_is_the_share_of_pairs_in_order(units: list[tuple[float, bool]]) -> None:
    pairs = [(a, b) for a, bad in units if bad for b, other in units if not other]
    scores, positive = arrays(units)
    if not pairs:
        assert auroc(scores, positive) is None
        return
    plain = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auroc(scores, positive) == pytest.approx(plain)
    assert auroc(-scores, positive) == pytest.approx(1 - plain)


def test_a_confusion_by_hand() -> None:
    table = confusion(np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1]), 4)
    assert table.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert accuracy(table) == pytest.approx(0.5)
    # F: 2·2/(3+2) = 0.8, 2·1/(2+3) = 0.4, 0, and the last is never there
    assert f1_weighted(table) == pytest.approx((0.8 * 3 + 0.4 * 2) / 6)
    assert accuracy(np.zeros((2, 2), int)) is None and f1_weighted(np.zeros((2, 2), int)) is None


@settings(deadline=None)
@given(verdicts)
def test_f1_is_what_a_plain_implementation_says(units: list[tuple[int, int]]) -> None:
    total = 0.0
    for kind in range(4):
        right = sum(t == s == kind for t, s in units)
        precision = right / max(sum(s == kind for _, s in units), 1)
        recall = right / max(sum(t == kind for t, _ in units), 1)
        f = 2 * precision * recall / (precision + recall) if right else 0.0
        total += f * sum(t == kind for t, _ in units)
    table = confusion(np.array([t for t, _ in units]), np.array([s for _, s in units]), 4)
    assert f1_weighted(table) == pytest.approx(total / len(units))
    assert accuracy(table) == pytest.approx(sum(t == s for t, s in units) / len(units))


@settings(deadline=None)
@given(scored)
def test_precision_and_recall_at_each_score(units: list[tuple[float, bool]]) -> None:
    scores, positive = arrays(units)
    for threshold, precision, recall in zip(*precision_recall(scores, positive), strict=True):
        kept = [bad for score, bad in units if score >= threshold]
        assert precision == pytest.approx(sum(kept) / len(kept))
        assert recall == pytest.approx(sum(kept) / max(sum(positive), 1))
    assert list(precision_recall(scores, positive)[0]) == sorted(set(scores), reverse=True)


class TestLabels:
    data = ("good", "open", "Short", "spur")

    def test_a_subset_whatever_the_order_and_the_case(self) -> None:
        found = matched(("short", "OPEN"), self.data)
        assert found.labels == ("open", "Short")
        assert found.mine.tolist() == [1, 0]
        assert found.data.tolist() == [-1, 0, 1, -1]

    def test_what_says_good_is_nothing_to_find(self) -> None:
        assert matched(("good", "spur"), self.data).mine.tolist() == [-1, 0]

    @pytest.mark.parametrize(
        ("mine", "data"), [(("suspicious",), data), (("open", "spur"), ("good", "defect")), (("bad",), ())]
    )
    def test_where_one_side_only_says_bad_all_faults_are_one(
        self, mine: tuple[str, ...], data: tuple[str, ...]
    ) -> None:
        found = matched(mine, data)
        assert found.labels == ("defect",)
        assert set(found.mine.tolist()) == {0}
        assert [kind for kind, label in zip(found.data.tolist(), data, strict=True) if label == "good"] in ([], [-1])

    def test_a_label_that_the_data_do_not_know(self) -> None:
        with pytest.raises(InputError) as raised:
            matched(("open", "shrt"), self.data)
        said = str(raised.value)
        assert "open, shrt" in said and "good, open, Short, spur" in said and "no shrt" in said


class TestOwnRule:
    def manifest(self, kind: str, **measured: object) -> Manifest:
        task = "classification" if kind == "classification" else "detection"
        return Manifest.model_validate(
            {
                "name": "m", "task": task, "weights": {"file": "m.onnx", "sha256": "0" * 64, "format": "onnx"},
                "view": {"width": 8, "height": 8}, "output": {"kind": kind}, "labels": ["good", "spur", "open"],
                "licence": "none", "measured": measured,
            }
        )  # fmt: skip

    def test_the_manifests_threshold_for_all_or_for_each(self) -> None:
        rule, source = rule_of(self.manifest("heatmap", threshold=0.37))
        assert rule == Boxes(report={"spur": 0.37, "open": 0.37}) and "measured.threshold" in source
        rule, _ = rule_of(self.manifest("heatmap", threshold={"spur": 0.2, "open": 0.4}))
        assert rule == Boxes(report={"spur": 0.2, "open": 0.4})
        rule, _ = rule_of(self.manifest("classification", threshold=0.1))
        assert rule == Scores(watch=("spur", "open"), flag_at=0.1)

    @pytest.mark.parametrize("said", [None, "0.4", 3, True, {"spur": 0.2}, {"spur": 0.2, "open": "x"}])
    def test_a_threshold_that_is_none_is_not_used(self, said: object) -> None:
        rule, source = rule_of(self.manifest("heatmap", threshold=said))
        assert rule == Boxes(report={"spur": 0.5, "open": 0.5}) and "usual" in source
