"""Detections to the package `supervision` and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import supervision
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.records import Detection, Result, Window
from pipeline.core.supervision import from_supervision, to_supervision

WINDOW = Window("door", "e", 1, 0, 1, 0, 0)
numbers = st.floats(-1e4, 1e4, width=32)
labels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
detections = st.lists(
    st.builds(Detection, labels, st.floats(0, 1, width=32), st.tuples(numbers, numbers, numbers, numbers)), max_size=12
)


def result(*found: Detection, flagged: bool = True) -> Result:
    return Result(WINDOW, 0, "heavy", "x@1", found, flagged, certified=True)


@given(detections, st.lists(labels, max_size=4, unique=True))
def test_there_and_back_is_the_same(found: list[Detection], known: list[str]) -> None:
    there = result(*found).to_supervision(known)
    assert isinstance(there, supervision.Detections) and len(there) == len(found)
    assert there.xyxy.shape == (len(found), 4)
    assert from_supervision(there) == tuple(found)
    assert result(*found).with_supervision(there).detections == tuple(found)
    for one, number in zip(found, there.class_id.tolist(), strict=True):
        assert one.label not in known or known[number] == one.label


def test_a_filter_of_theirs_makes_a_result_of_ours() -> None:
    door, car = Detection("door", 0.9, (0, 0, 4, 4)), Detection("car", 0.4, (1, 1, 3, 3))
    whole = Detection("night", 0.7)
    one = result(door, car, whole)
    seen = one.to_supervision()
    assert seen.data["class_name"].tolist() == ["door", "car"], "what has no box has no place there"
    kept = one.with_supervision(seen[seen.confidence > 0.5])
    assert [found.label for found in kept.detections] == ["night", "door"]
    assert kept.flagged and not kept.certified and kept.window is one.window
    nothing = result(car).with_supervision(supervision.Detections.empty())
    assert not nothing.detections and not nothing.flagged


def test_detections_of_another_make_have_names_and_scores_as_far_as_they_do() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3]], np.float32)
    bare = supervision.Detections(xyxy=boxes)
    assert [(one.label, one.score) for one in from_supervision(bare)] == [("", 1.0), ("", 1.0)]
    numbered = supervision.Detections(xyxy=boxes, class_id=np.array([0, 7]), confidence=np.array([0.5, 0.25]))
    assert [(one.label, one.score) for one in from_supervision(numbered, ["cat"])] == [("cat", 0.5), ("7", 0.25)]


def test_a_label_has_the_same_number_everywhere() -> None:
    code = (
        "from pipeline.core.supervision import to_supervision as to; from pipeline.core.records import Detection as D;"
        "print(to([D('person', .5, (0, 0, 1, 1))]).class_id[0])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(ran.stdout) == to_supervision([Detection("person", 0.5, (0, 0, 1, 1))]).class_id[0]
