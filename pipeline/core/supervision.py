"""Detections as the package `supervision` has them, and back: for its annotators, trackers, zones and metrics."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.core.errors import MissingPart
from pipeline.core.records import Box, Detection

if TYPE_CHECKING:
    from supervision import Detections

_NAMES = "class_name"


def to_supervision(detections: Sequence[Detection], labels: Sequence[str] = ()) -> Detections:
    """Those with a box; what speaks of the whole window, or of a stretch of time or text, has no place there.

    `class_id` is the label's index in `labels`. What is not among them gets a number made of its name, the same always
    and everywhere. Raises `MissingPart` where the package is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise MissingPart("needs the package supervision: pip install 'thresher[supervision]'") from error
    placed = [one for one in detections if one.box is not None]
    numbers = {label: number for number, label in enumerate(labels)}
    return Detections(
        xyxy=np.array([one.box for one in placed], np.float32).reshape(-1, 4),
        confidence=np.array([one.score for one in placed], np.float32),
        class_id=np.array([numbers.get(one.label, _number(one.label)) for one in placed], np.int64),
        data={_NAMES: np.array([one.label for one in placed], np.str_)},
    )


def from_supervision(detections: Detections, labels: Sequence[str] = ()) -> tuple[Detection, ...]:
    """A label is `class_name`, or that of `labels` with the index `class_id`, or that number; a score that is missing
    is 1."""
    count = len(detections)
    given, numbers = detections.data.get(_NAMES), detections.class_id
    if given is not None:
        names = [str(name) for name in given]
    elif numbers is not None:
        names = [labels[number] if 0 <= number < len(labels) else str(number) for number in numbers.tolist()]
    else:
        names = [""] * count
    scores = [1.0] * count if detections.confidence is None else detections.confidence.tolist()
    boxes: list[Box] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in np.asarray(detections.xyxy, np.float64).tolist()]
    return tuple(Detection(*one) for one in zip(names, scores, boxes, strict=True))


def _number(label: str) -> int:
    return zlib.crc32(label.encode()) & 0x7FFFFFFF
