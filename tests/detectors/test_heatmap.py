"""What heat maps mean, and what of their boxes is one thing."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.decode import decoder
from detectors.evaluation.judged import suspicion
from detectors.evaluation.ranks import named
from detectors.image.boxes import rivals_lowered
from detectors.manifest import Manifest, Output, ViewSettings, Weights
from pipeline.core.errors import InputError
from pipeline.core.payloads import FrameImage, View, ViewSpec
from pipeline.core.records import Array, Findings

LABELS = ("open", "short")


def manifest(**output: object) -> Manifest:
    return Manifest(
        name="map", task="detection", weights=Weights(file="m.onnx", sha256="0" * 64, format="onnx"),
        view=ViewSettings(width=64, height=64), labels=LABELS, licence="none",
        output=Output.model_validate({"kind": "heatmap", **output}),
    )  # fmt: skip


def view(side: int = 64, source: int = 128) -> View:
    return FrameImage.from_array(np.zeros((source, source, 3), np.uint8)).view(ViewSpec(side, side))


def maps(channels: int, *peaks: tuple[int, int, int, float]) -> Array:
    out = np.zeros((1, channels, 16, 16), np.float32)
    for channel, row, column, value in peaks:
        out[0, channel, row, column] = value
    return out


class TestDecoder:
    def test_a_box_reaches_from_its_cell_s_middle_and_lands_in_source_pixels(self) -> None:
        answer = maps(6, (1, 4, 8, 0.9), (2, 4, 8, 10), (3, 4, 8, 6), (4, 4, 8, 12), (5, 4, 8, 8))
        findings = decoder(manifest()).read({"maps": answer}, [view()])[0]
        assert [LABELS[k] for k in findings.classes] == ["short"]
        assert findings.boxes is not None
        np.testing.assert_allclose(findings.boxes[0], [2 * (34 - 10), 2 * (18 - 6), 2 * (34 + 12), 2 * (18 + 8)])

    def test_without_distances_a_finding_is_three_cells_wide(self) -> None:
        findings = decoder(manifest()).read({"maps": maps(2, (0, 4, 8, 0.9))}, [view()])[0]
        assert findings.boxes is not None
        np.testing.assert_allclose(findings.boxes[0], [2 * 28, 2 * 12, 2 * 40, 2 * 24])

    def test_a_view_of_another_size_has_cells_of_the_same_size(self) -> None:
        answer = maps(2, (0, 4, 8, 0.9))[:, :, :8]
        whole = FrameImage.from_array(np.zeros((32, 64, 3), np.uint8)).view(ViewSpec(64, 32))
        findings = decoder(manifest()).read({"maps": answer}, [whole])[0]
        assert findings.boxes is not None
        np.testing.assert_allclose(findings.boxes[0], [28, 12, 40, 24])

    def test_what_is_below_the_floor_is_left_out(self) -> None:
        read = decoder(manifest(score_floor=0.5)).read
        assert len(read({"maps": maps(2, (0, 4, 8, 0.4))}, [view()])[0].scores) == 0

    def test_maps_that_do_not_fit_the_labels_are_refused(self) -> None:
        decoder(manifest()).check({"maps": (None, 6, None, None)})
        with pytest.raises(InputError, match="maps"):
            decoder(manifest()).check({"maps": (None, 5, 16, 16)})

    def test_of_two_labels_for_one_thing_the_weaker_loses(self) -> None:
        reach = [(channel, 4, 8, 10.0) for channel in range(2, 6)]
        answer = maps(6, (0, 4, 8, 0.8), (1, 4, 8, 0.6), *reach)
        told = decoder(manifest(rival=0.25)).read({"maps": answer}, [view()])[0]
        np.testing.assert_allclose(told.scores, [0.8, 0.15])
        both = decoder(manifest()).read({"maps": answer}, [view()])[0]
        np.testing.assert_allclose(both.scores, [0.8, 0.6])


def test_only_what_overlaps_a_better_one_is_lowered() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    np.testing.assert_allclose(rivals_lowered(boxes, np.array([0.9, 0.8, 0.7]), 0.45, 0.5), [0.9, 0.4, 0.7])


class TestRanks:
    def test_a_defect_is_named_by_a_finding_whose_middle_lies_in_it(self) -> None:
        boxes = np.array([[0, 0, 4, 4], [8, 8, 12, 12]], np.float32)
        findings = Findings(("s",), np.array([0.9, 0.4], np.float32), np.zeros(2, np.int64), boxes)
        np.testing.assert_allclose(named(findings, np.array([[0, 0, 4, 4], [20, 20, 30, 30]])), [0.9, 0.0])

    def test_suspicion_is_the_highest_box_or_the_sum_of_what_is_watched(self) -> None:
        boxes = Findings(("s",), np.array([0.3, 0.6], np.float32), np.zeros(2, np.int64), np.zeros((2, 4), np.float32))
        assert suspicion(boxes, ("s",)) == pytest.approx(0.6)
        classes = Findings(("good", "a", "b"), np.array([0.5, 0.3, 0.2], np.float32), np.arange(3))
        assert suspicion(classes, ("a", "b")) == pytest.approx(0.5)
        turned = Findings(classes.labels, classes.scores[::-1], classes.classes[::-1])
        assert suspicion(turned, ("a", "b")) == suspicion(classes, ("b", "a"))
