"""Labels that are likely wrong, planted and found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.datasets.base import Sample
from detectors.training.labels import WARN_FROM, Report, suspect_boxes, suspect_classes
from pipeline.core.records import Array, Findings

SEEDS = st.integers(0, 2**32 - 1)
LABELS = ("good", "dent", "hole")


def spoken(true: Array, rng: np.random.Generator) -> Array:
    """Scores `[n, C]` of a network that is right, and nearly always as sure of it."""
    scores = rng.dirichlet([0.3] * len(LABELS), len(true)) * 0.1
    scores[np.arange(len(true)), true] += 0.9
    return scores.astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, planted=st.sampled_from([0.0, 0.1]))
def test_wrong_classes(seed: int, planted: float) -> None:
    rng = np.random.default_rng(seed)
    true = np.arange(200) % 3
    given_one = true.copy()
    wrong = np.arange(0, 200, 10)[: int(200 * planted)]  # of each class as many
    given_one[wrong] = (true[wrong] + 1) % 3
    report = suspect_classes(LABELS, [str(number) for number in range(200)], given_one, spoken(true, rng))
    found = {int(one.picture) for one in report.suspects}
    assert report.labels == 200
    assert found == set(wrong.tolist())
    assert report.document()["warning"] is (report.share > WARN_FROM) is (planted > 0)
    for one in report.suspects:
        at = int(one.picture)
        assert (one.given, one.likelier) == (LABELS[given_one[at]], LABELS[true[at]])


def test_one_class_of_which_there_is_nothing() -> None:
    report = suspect_classes(LABELS, ["a", "b"], np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]]))
    assert report.suspects == () and report.share == 0


def placed(rng: np.random.Generator, pictures: int) -> list[tuple[Array, Array]]:
    """Boxes that do not overlap, and classes, of each picture."""
    out = []
    for _ in range(pictures):
        cells = rng.permutation(16)[:4]
        corners = np.stack([cells % 4, cells // 4], 1) * 40.0 + rng.uniform(2, 8, (4, 2))
        out.append((np.concatenate([corners, corners + 20], 1).astype(np.float32), rng.integers(0, 3, 4)))
    return out


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, planted=st.sampled_from([0.0, 0.1]))
def test_wrong_boxes(seed: int, planted: float) -> None:
    """Of the planted ones a third is of another class, a third is of nothing, and a third was forgotten."""
    rng = np.random.default_rng(seed)
    truth = placed(rng, 40)
    samples, found, wrong = [], [], set()
    for number, (boxes, kinds) in enumerate(truth):
        noisy = boxes + rng.uniform(-1, 1, boxes.shape).astype(np.float32)
        scores = rng.uniform(0.85, 0.9, 4).astype(np.float32)
        found.append(Findings(LABELS, scores, kinds.copy(), noisy))
        labelled, named = boxes.copy(), kinds.copy()
        if planted and number % 5 < 2:
            at = int(rng.integers(4))
            how = ("class", "nothing", "forgotten")[number % 3]
            wrong.add((number, how))
            if how == "class":
                named[at] = (named[at] + 1) % 3
            elif how == "nothing":
                labelled[at] += 200
                found[-1] = Findings(LABELS, np.delete(scores, at), np.delete(kinds, at), np.delete(noisy, at, 0))
            else:
                labelled, named = np.delete(labelled, at, 0), np.delete(named, at)
                scores[at] = 0.95
        samples.append(Sample(str(number), Path("none"), boxes=labelled, classes=named))
    report = suspect_boxes(LABELS, samples, found)
    said = {
        (
            int(one.picture),
            "nothing" if one.likelier == "nothing" else "forgotten" if one.given == "nothing" else "class",
        )
        for one in report.suspects
    }
    assert len(said - wrong) / report.labels < WARN_FROM
    assert {one for one in wrong if one[1] != "class"} <= said
    assert report.document()["warning"] is bool(planted)
    for one in report.suspects:
        assert one.box is not None and len(one.box) == 4


def test_a_sure_word_for_another_class_of_a_box() -> None:
    box = np.array([[10, 10, 30, 30]], np.float32)
    samples = [Sample(str(n), Path("none"), boxes=box, classes=np.array([0])) for n in range(5)]
    kinds = [0, 0, 0, 0, 1]
    found = [Findings(LABELS, np.array([0.9], np.float32), np.array([kind]), box) for kind in kinds]
    (one,) = suspect_boxes(LABELS, samples, found).suspects
    assert (one.picture, one.given, one.likelier, one.sure) == ("4", "good", "dent", pytest.approx(0.9))


def test_pictures_without_a_box_and_without_a_find() -> None:
    nothing = Findings(LABELS, np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    report = suspect_boxes(LABELS, [Sample("a", Path("none"))], [nothing])
    assert report == Report(0, ()) and report.share == 0


def test_the_report_in_words() -> None:
    box = np.array([[10, 10, 30, 30]], np.float32)
    samples = [Sample(f"{n}.png", Path("none"), boxes=box, classes=np.array([0])) for n in range(30)]
    nothing = Findings(LABELS, np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
    lines = suspect_boxes(LABELS, samples, [nothing] * 30).lines()
    assert lines[0] == "30 of 30 labels are suspect (100.0%)"
    assert "  0.png at 10, 10, 30, 30: labelled good, rather nothing (1.00)" in lines
    assert "  and 10 more" in lines
    assert "more than 3.7%" in lines[-1]
