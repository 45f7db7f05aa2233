"""The figures of models and cascades over units whose scores and truth are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.evaluation.figures import cost_curve, cost_figures, figures, play, recall_by_defects
from detectors.evaluation.judged import Judged, Subject
from detectors.replay import Heard, Place, Seen
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.errors import InputError
from pipeline.core.records import Box, Findings

DATA = ("open", "spur")
RULE = Boxes(
    report={"suspicious": 1.0}, flag=(), escalate={"suspicious": 0.5}, confirm={"open": 0.5, "spur": 0.5}, grow=0.0
)
CASCADE = Subject(RULE, ("suspicious",), DATA, DATA)


def found(labels: tuple[str, ...], *ones: tuple[str, float, Box]) -> Findings:
    return Findings(
        labels,
        np.array([score for _, score, _ in ones], np.float32),
        np.array([labels.index(label) for label, _, _ in ones], np.int64),
        np.array([box for _, _, box in ones], np.float32).reshape(-1, 4),
    )


def scored(labels: tuple[str, ...], *scores: float) -> Findings:
    return Findings(labels, np.array(scores, np.float32), np.arange(len(labels)))


def unit(
    name: str,
    seen: Seen,
    true: tuple[tuple[str, Box], ...] = (),
    labels: tuple[str, ...] = DATA,
    defects: int | None = None,
    classes: tuple[str, ...] | None = None,
) -> Judged:
    boxes = np.array([box for _, box in true], np.float32).reshape(-1, 4)
    kinds = classes if classes is not None else tuple(label for label, _ in true)
    index = np.array([labels.index(kind) for kind in kinds], np.int64)
    return Judged(name, "g", 100, 100, len(true) if defects is None else defects, boxes, index, seen)


LEFT: Box = (10.0, 10.0, 30.0, 30.0)
RIGHT: Box = (60.0, 60.0, 80.0, 80.0)


def cascade_unit(name: str, suspicion: float, certain: float, true: bool, whole: float | None = None) -> Judged:
    """One place; the cheap stage's score there, the heavy one's, and the heavy one's on the whole."""
    place: Place = LEFT
    heavy = {
        None: Heard(found(DATA, ("open", certain if whole is None else whole, LEFT)), 4.0),
        place: Heard(found(DATA, ("open", certain, LEFT)), 1.0),
    }
    seen = Seen(Heard(found(("suspicious",), ("suspicious", suspicion, LEFT)), 0.5), heavy)
    return unit(name, seen, (("open", LEFT),) if true else ())


UNITS = [
    cascade_unit("caught", 0.9, 0.9, True),
    cascade_unit("slips through", 0.2, 0.9, True),
    cascade_unit("both blind", 0.2, 0.1, True),
    cascade_unit("good", 0.1, 0.1, False),
    cascade_unit("good, looked at", 0.8, 0.1, False),
    cascade_unit("good, rejected", 0.8, 0.7, False),
]


class TestCascade:
    def test_against_truth_and_against_the_heavy_stage(self) -> None:
        metrics, remarks = figures(CASCADE, UNITS)
        assert remarks == []
        assert (metrics["found"], metrics["missed"], metrics["falsely_rejected"]) == (1, 2, 1)
        assert metrics["recall"] == pytest.approx(1 / 3)
        assert metrics["precision"] == pytest.approx(1 / 2)
        assert metrics["false_reject"] == pytest.approx(1 / 3)
        assert metrics["accuracy"] == pytest.approx(3 / 6)
        assert metrics["recall_single"] == pytest.approx(1 / 3)
        assert metrics["against_heavy"] == {
            "positives": 3, "missed": 1, "recall": pytest.approx(2 / 3), "flagged_alone": 0.0,
        }  # fmt: skip
        assert metrics["heavy_on_the_whole"]["recall"] == pytest.approx(2 / 3)
        assert metrics["boxes"]["recall"] == pytest.approx(1 / 3)
        assert metrics["heavy_boxes"]["recall"] == pytest.approx(2 / 3)
        assert metrics["auroc_heavy"] == pytest.approx((3 + 3 + 2 * 0.5 + 0) / 9)

    def test_what_it_costs(self) -> None:
        metrics, _ = figures(CASCADE, UNITS)
        assert metrics["escalated"] == pytest.approx(3 / 6)
        assert metrics["settled_cheap"] == pytest.approx(3 / 6)
        assert metrics["heavy_pixels"] == pytest.approx(3 * 0.04 / 6)
        assert metrics["heavy_time"] == pytest.approx(3 / 24)
        assert metrics["cascade_time"] == pytest.approx((3 + 6 * 0.5) / 24)

    def test_pixels_outside_a_unit_are_not_looked_at(self) -> None:
        one = UNITS[0]
        assert one.share_of_pixels([(-10.0, -10.0, 10.0, 10.0)]) == pytest.approx(0.01)
        assert one.share_of_pixels([(200.0, 0.0, 300.0, 10.0)]) == 0
        assert one.share_of_pixels([None]) == 1

    def test_a_stage_that_looks_at_tiles_sees_all_of_each(self) -> None:
        """Whatever the rule makes of a place: a tile around a corner is moved into the unit."""
        one = UNITS[0]
        assert one.share_of_pixels([LEFT, (-10.0, -10.0, 0.0, 0.0)], 50) == pytest.approx(0.5)
        assert one.share_of_pixels([LEFT, None], 128) == 2
        metrics, _ = figures(replace(CASCADE, tile=50), UNITS)
        assert metrics["heavy_pixels"] == pytest.approx(3 * 0.25 / 6)

    def test_the_curve_from_cautious_to_bold(self) -> None:
        rows = cost_curve(CASCADE, UNITS)
        assert rows[0]["threshold"] == 0 and rows[-1]["threshold"] == 1
        assert (rows[0]["recall"], rows[0]["escalated"]) == (pytest.approx(2 / 3), 1.0)
        assert rows[-1]["recall"] == 0
        for key in ("recall", "escalated", "heavy_time", "recall_of_heavy"):
            values = [row[key] for row in rows]
            assert values == sorted(values, key=lambda value: -(value or 0))

    def test_places_that_nobody_kept_are_said_to_be_unknown(self) -> None:
        wider = Boxes.model_validate(RULE.model_dump() | {"grow": 0.5})
        with pytest.raises(InputError, match=r"3 of 6 units are unknown under this rule.*the first is caught"):
            figures(Subject(wider, CASCADE.cheap, DATA, DATA), UNITS)

    def test_labels_that_do_not_fit_leave_the_parts_to_be_measured(self) -> None:
        metrics, remarks = figures(Subject(RULE, CASCADE.cheap, DATA, ("open", "hole")), UNITS)
        assert "heavy_boxes" not in metrics and metrics["recall"] == pytest.approx(1 / 3)
        assert "no spur" in remarks[0]

    def test_what_the_cheap_stage_reports_where_the_data_know_that_alone(self) -> None:
        rule = Boxes(report={"open": 0.5}, escalate={"open": 0.5}, confirm={"unsafe": 0.5}, grow=0.0)
        heavy = {place: Heard(scored(("unsafe",), 0.1), 1.0) for place in (None, LEFT)}
        units = [
            unit(str(i), Seen(Heard(found(("open",), ("open", score, LEFT)), 0.1), heavy), (("open", LEFT),))
            for i, score in enumerate((0.9, 0.2))
        ]
        metrics, remarks = figures(Subject(rule, ("open",), ("unsafe",), DATA), units)
        assert metrics["boxes"]["recall"] == 0.5 and "heavy_boxes" not in metrics
        assert "no unsafe" in remarks[0]


def test_recall_by_the_number_of_defects() -> None:
    seen = Seen(Heard(scored(("bad",), 0.5), 0.1), {})
    counts = (0, 1, 1, 2, 3, 4, 6, 7, 15)
    units = [unit(str(n), seen, defects=n) for n in counts]
    flagged = np.array([True, True, False, True, False, True, False, True, True])
    rows = recall_by_defects(units, flagged)
    assert {name: (row["found"], row["parts"]) for name, row in rows.items()} == {
        "1": (1, 2), "2": (1, 1), "3": (0, 1), "4-6": (1, 2), "7+": (2, 2),
    }  # fmt: skip
    assert recall_by_defects(units[:1], flagged[:1])["7+"] == {"parts": 0, "found": 0, "recall": None}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_bolder_threshold_finds_no_more_and_costs_no_more(
    scores: list[tuple[float, float, bool]], one: float, other: float
) -> None:
    units = [cascade_unit(str(i), a, b, bad) for i, (a, b, bad) in enumerate(scores)]
    out = []
    for threshold in sorted((one, other)):
        rule = Boxes.model_validate(RULE.model_dump() | {"escalate": {"suspicious": threshold}})
        subject = Subject(rule, CASCADE.cheap, DATA, DATA)
        metrics, _ = figures(subject, units)
        cost = cost_figures(units, play(subject, units))
        out.append([metrics["found"], metrics["falsely_rejected"], cost["escalated"], cost["heavy_time"]])
    assert all(cautious >= bold for cautious, bold in zip(*out, strict=True))


class TestModel:
    def test_boxes(self) -> None:
        rule = Boxes(report={"open": 0.5, "spur": 0.2})
        first = found(DATA, ("open", 0.9, LEFT), ("open", 0.4, RIGHT), ("spur", 0.3, (0.0, 0.0, 9.0, 9.0)))
        units = [
            unit("a", Seen(Heard(first, 0.1), {}), (("open", LEFT), ("open", RIGHT))),
            unit("b", Seen(Heard(found(DATA), 0.1), {})),
        ]
        metrics, _ = figures(Subject(rule, DATA, None, DATA), units)
        assert metrics["map"] == 1.0  # nothing of the other class is there to be found
        assert (metrics["precision"], metrics["recall"], metrics["f"]) == (0.5, 0.5, 0.5)
        assert metrics["threshold"] is None  # they differ
        assert metrics["f_best"] == pytest.approx(1.0)
        assert metrics["classes"]["spur"]["ap"] is None
        assert metrics["auroc"] == 1.0 and metrics["parts"]["recall"] == 1.0

    def test_a_subset_of_the_labels(self) -> None:
        seen = Seen(Heard(found(("open",), ("open", 0.9, LEFT)), 0.1), {})
        units = [unit("a", seen, (("open", LEFT), ("spur", RIGHT)))]
        metrics, remarks = figures(Subject(Boxes(report={"open": 0.5}), ("open",), None, DATA), units)
        assert (metrics["map"], metrics["recall"]) == (1.0, 1.0)
        assert remarks[0].startswith("1 true boxes are of classes that the model does not know")

    def test_classes(self) -> None:
        labels = ("good", "scratch", "dent")
        rule = Scores(watch=("scratch", "dent"), flag_at=0.5)
        scores = {"good": [(0.9, 0.1, 0.0), (0.4, 0.3, 0.3)], "scratch": [(0.1, 0.8, 0.1)], "dent": [(0.2, 0.5, 0.3)]}
        units = [
            unit(f"{kind}{i}", Seen(Heard(scored(labels, *one), 0.1), {}), (), labels, int(kind != "good"), (kind,))
            for kind, ones in scores.items()
            for i, one in enumerate(ones)
        ]
        metrics, _ = figures(Subject(rule, labels, None, labels), units)
        assert metrics["accuracy"] == 0.75  # by the largest score: the dent is taken for a scratch
        assert metrics["confusion"] == {"labels": list(labels), "table": [[2, 0, 0], [0, 1, 0], [0, 1, 0]]}
        assert metrics["f1_weighted"] == pytest.approx((2 * 1 + 1 * (2 / 3) + 0) / 4)
        assert (metrics["auroc"], metrics["recall"], metrics["false_reject"]) == (1.0, 1.0, 0.5)
        assert metrics["parts"]["accuracy"] == 0.75
        assert "recall_by_defects" not in metrics  # how many there are nobody knows

    def test_a_heat_map_on_good_and_bad(self) -> None:
        rule = Boxes(report={"suspicious": 0.5})
        units = [
            unit(str(i), Seen(Heard(found(("suspicious",), ("suspicious", score, LEFT)), 0.1), {}), (), (), bad)
            for i, (score, bad) in enumerate(((0.9, 1), (0.4, 1), (0.6, 0), (0.1, 0)))
        ]
        metrics, _ = figures(Subject(rule, ("suspicious",), None, ()), units)
        assert (metrics["auroc"], metrics["recall"], metrics["false_reject"]) == (0.75, 0.5, 0.5)
        assert metrics["confusion"]["table"] == [[1, 1], [1, 1]]

    def test_labels_of_which_none_says_good(self) -> None:
        labels = ("cat", "dog")
        units = [unit("a", Seen(Heard(scored(labels, 0.5, 0.5), 0.1), {}), (), ("good", "bad"), 1, ("bad",))]
        with pytest.raises(InputError, match="which to `watch`"):
            figures(Subject(Scores(watch=labels, flag_at=0.5), labels, None, ("good", "bad")), units)

    def test_labels_that_do_not_fit(self) -> None:
        units = [unit("a", Seen(Heard(found(("hole",), ("hole", 0.9, LEFT)), 0.1), {}), (("open", LEFT),))]
        with pytest.raises(InputError, match="the model knows hole; the data know open, spur"):
            figures(Subject(Boxes(report={"hole": 0.5}), ("hole",), None, DATA), units)
