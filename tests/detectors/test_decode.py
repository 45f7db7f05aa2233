from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.decode import Decoder, decoder
from detectors.image.boxes import between, suppress
from detectors.manifest import Manifest
from pipeline.core.errors import InputError, StageError
from pipeline.core.payloads import FrameImage, View, ViewSpec
from pipeline.core.records import Array

WIDE = FrameImage.from_array(np.zeros((100, 200, 3), np.uint8))


def reads(kind: str, labels: tuple[str, ...], side: int = 100, **output: Any) -> Decoder:
    return decoder(
        Manifest.model_validate(
            {
                "name": "given",
                "task": "detection",
                "weights": {"file": "x.onnx", "sha256": "0" * 64, "format": "onnx"},
                "view": {"width": side, "height": side},
                "output": {"kind": kind, **output},
                "labels": labels,
                "licence": "none",
            }
        )
    )


def stretched(side: int = 100) -> View:
    return WIDE.view(ViewSpec(side, side))


def test_classification_takes_the_scores_as_they_are() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)
    found = reads("classification", ("a", "b", "c")).read({"out": scores}, [stretched()] * 2)
    assert [f.scores.tolist() for f in found] == scores.tolist()
    assert found[0].boxes is None


def test_softmax_where_the_manifest_says_so() -> None:
    values = np.array([[1000.0, 1001.0]], np.float32).reshape(1, 2, 1, 1)  # would overflow if done plainly
    found = reads("classification", ("a", "b"), activation="softmax").read({"out": values}, [stretched()])[0]
    assert found.scores == pytest.approx([1 / (1 + np.e), np.e / (1 + np.e)])


def test_sigmoid_where_the_manifest_says_so() -> None:
    values = np.array([[0.0, -1000.0]], np.float32)
    found = reads("classification", ("a", "b"), activation="sigmoid").read({"out": values}, [stretched()])[0]
    assert found.scores == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
def test_numbers_that_mean_nothing_are_an_error(rubbish: float) -> None:
    with pytest.raises(StageError, match="not finite"):
        reads("classification", ("a", "b")).read({"out": np.array([[0.5, rubbish]])}, [stretched()])


def test_logits_are_no_scores() -> None:
    with pytest.raises(StageError, match=r"-3\.00 to 8\.00 .* softmax"):
        reads("classification", ("a", "b")).read({"out": np.array([[-3.0, 8.0]])}, [stretched()])


def test_ssd_after_suppression() -> None:
    tensors = {
        "detection_boxes:0": np.array([[[0.1, 0.2, 0.5, 0.4], [0, 0, 1, 1], [0, 0, 1, 1]]], np.float32),
        "detection_scores:0": np.array([[0.9, 0.8, 0.01]], np.float32),
        "detection_classes:0": np.array([[2.0, 90.0, 1.0]], np.float32),
    }
    found = reads("ssd", ("person", "bicycle"), class_offset=1).read(tensors, [stretched()])[0]
    assert found.classes.tolist() == [1]  # class 90 has no label here, the third is below the floor
    assert found.boxes is not None
    assert found.boxes.tolist() == [pytest.approx([40.0, 10.0, 80.0, 50.0])]  # the picture is 200×100


def test_ssd_before_suppression() -> None:
    boxes = np.array([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.48], [0.5, 0.5, 1, 1]]], np.float32)
    scores = np.array([[[0.1, 0.9], [0.1, 0.8], [0.1, 0.7]]], np.float32)
    found = reads("ssd", ("person",), class_offset=1).read({"boxes": boxes, "scores": scores}, [stretched()])[0]
    assert found.scores == pytest.approx([0.9, 0.7])


V8 = np.zeros((1, 6, 3), np.float32)
V8[0, :, 0] = [50, 50, 20, 40, 0.1, 0.9]
V8[0, :, 1] = [51, 50, 20, 40, 0.2, 0.8]
V8[0, :, 2] = [20, 20, 10, 10, 0.6, 0.0]
V5 = np.concatenate([V8[0, :4].T, np.full((3, 1), 0.5), V8[0, 4:].T], axis=1)[None]
V10 = np.array([[[40, 30, 60, 70, 0.9, 1], [15, 15, 25, 25, 0.6, 0], [0, 0, 9, 9, 0.01, 0]]], np.float32)


@pytest.mark.parametrize(
    ("values", "scores"),
    [
        (V8, [0.9, 0.6, 0.2]),
        (np.concatenate([V8] * 3, axis=2).transpose(0, 2, 1), [0.9, 0.6, 0.2]),
        (V5, [0.45, 0.3, 0.1]),
    ],
)
def test_yolo_layouts_say_the_same(values: Array, scores: list[float]) -> None:
    found = reads("yolo", ("cat", "dog")).read({"output0": values}, [stretched()])[0]
    assert found.scores == pytest.approx(scores, abs=1e-6)
    assert found.classes[:2].tolist() == [1, 0]
    assert found.boxes is not None
    assert found.boxes[0].tolist() == [80, 30, 120, 70]


def test_yolo_that_suppressed_by_itself() -> None:
    found = reads("yolo", ("cat", "dog", "cow")).read({"output0": V10}, [stretched()])[0]
    assert found.classes.tolist() == [1, 0]
    assert found.boxes is not None
    assert found.boxes[0].tolist() == [80, 30, 120, 70]


def test_letterboxed_boxes_come_back_to_the_picture() -> None:
    view = WIDE.view(ViewSpec(100, 100, fit="letterbox"))  # the picture fills rows 25 to 75
    values = np.zeros((1, 5, 2), np.float32)
    values[0, :, 0] = [50, 50, 20, 20, 0.9]
    values[0, :, 1] = [50, 10, 20, 20, 0.8]  # in the bar above the picture
    found = reads("yolo", ("cat",)).read({"output0": values}, [view])[0]
    assert found.boxes is not None
    assert found.boxes.tolist() == [pytest.approx([80, 30, 120, 70])]


def test_torchvision_padding_does_not_count() -> None:
    tensors = {
        "boxes": np.array([[[10, 10, 20, 30], [0, 0, 99, 99]]], np.float32),
        "scores": np.array([[0.9, 0.9]], np.float32),
        "labels": np.array([[1, 1]]),
        "counts": np.array([1]),
    }
    found = reads("torchvision", ("person",), class_offset=1).read(tensors, [stretched()])[0]
    assert found.boxes is not None
    assert found.boxes.tolist() == [[20, 10, 40, 30]]


def test_infinite_boxes_are_an_error() -> None:
    values = V8.copy()
    values[0, 2, 0] = np.inf
    with pytest.raises(StageError, match="boxes that are not finite"):
        reads("yolo", ("cat", "dog")).read({"output0": values}, [stretched()])


def test_no_more_boxes_than_asked_for() -> None:
    values = np.zeros((1, 5, 400), np.float32)
    values[0, 0] = np.arange(400) % 20 * 5 + 2
    values[0, 1] = np.arange(400) // 20 * 5 + 2
    values[0, 2:4] = 4
    values[0, 4] = np.linspace(0.2, 0.9, 400)
    found = reads("yolo", ("cat",), max_boxes=7).read({"output0": values}, [stretched()])[0]
    assert found.scores == pytest.approx(np.linspace(0.9, 0.2, 400)[:7])


@pytest.mark.parametrize(
    ("kind", "shapes", "said"),
    [
        ("classification", {"out": (None, 7)}, "does not fit 2 labels"),
        ("yolo", {"out": (None, 84, 8400)}, r"\[N, 6, A\]"),
        ("ssd", {"boxes": (None, 10, 4), "scores": (None, 10, 5)}, "does not fit 2 labels"),
        ("ssd", {"boxes": (None, 10, 5), "scores": (None, 10, 2)}, r"boxes \[N, A, 4\]"),
        ("ssd", {"one": (None, 10, 4), "two": (None, 10, 2)}, "no output called boxes or detection_boxes"),
        ("torchvision", {"boxes": (None, 10, 4), "scores": (None, 10)}, 'no output "labels"'),
    ],
)
def test_outputs_that_cannot_be_read_show_beforehand(kind: str, shapes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        reads(kind, ("a", "b")).check(shapes)


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("classification", {"out": (None, 2)}),
        ("classification", {"out": (None, 2, 1, 1)}),
        ("yolo", {"output0": (None, 6, None)}),
        ("yolo", {"output0": (None, 6, 8400)}),
        ("yolo", {"output0": (None, 25200, 7)}),
        ("ssd", {"detection_boxes:0": (None, 100, 4), "detection_scores:0": (None, 100), "detection_classes:0": ()}),
    ],
)
def test_outputs_that_can_be_read_pass(kind: str, shapes: Any) -> None:
    reads(kind, ("a", "b")).check(shapes)


some_boxes = st.integers(0, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, (n, 4), elements=st.floats(0, 100, width=16)),
        hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=16)),
        hnp.arrays(np.int64, n, elements=st.integers(0, 2)),
    )
)


@given(some_boxes, st.floats(0.1, 0.9))
def test_suppression_is_what_the_plain_loop_does(given_boxes: tuple[Array, Array, Array], iou: float) -> None:
    corners, scores, classes = given_boxes
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = [k for k in kept if classes[k] == classes[index]]
        if all(between(boxes[[index]], boxes[[k]])[0, 0] <= iou for k in rivals):
            kept.append(int(index))
    assert suppress(boxes, scores, classes, iou, 100).tolist() == kept


@given(some_boxes)
def test_overlap_is_symmetric_and_bounded(given_boxes: tuple[Array, Array, Array]) -> None:
    boxes = given_boxes[0]
    shared = between(boxes, boxes)
    assert ((shared >= 0) & (shared <= 1 + 1e-6)).all()
    assert np.allclose(shared, shared.T)


def test_overlap_of_known_boxes() -> None:
    one, half = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10]])
    assert between(one, half)[0, 0] == pytest.approx(1 / 3)
