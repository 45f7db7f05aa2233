"""Whether a model in another runtime or precision still says the same of the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectors.image.boxes import between
from pipeline.core.payloads import FrameImage, View, ViewSpec
from pipeline.core.pictures import SUFFIXES, read_picture
from pipeline.core.records import Box, Findings

SAMPLES = Path(__file__).parents[1] / "zoo" / "samples"
_SAME_THING = 0.5  # of overlap
_WORTH_COMPARING = 0.1  # boxes below that are noise in either


def sample_views(spec: ViewSpec, folder: Path | None = None) -> list[View]:
    """Real pictures as a model with that input sees them: those in `folder`, or the shipped ones. A model of tiles sees
    the four quarters' middles of each."""
    views = []
    for file in sorted(path for path in (folder or SAMPLES).iterdir() if path.suffix in SUFFIXES):
        image = FrameImage(read_picture(file))
        if spec.tile is not None and (spec.width, spec.height) == (spec.tile, spec.tile):
            views += [image.view(spec, _around(image, x, y)) for y in (0.25, 0.75) for x in (0.25, 0.75)]
        else:
            views.append(image.view(spec))
    return views


def _around(image: FrameImage, x: float, y: float) -> Box:
    return (image.width * x - 1, image.height * y - 1, image.width * x + 1, image.height * y + 1)


def moved(reference: Sequence[Findings], candidate: Sequence[Findings]) -> float:
    """The furthest that any score went between two readings of the same views, from 0 to 1.

    Boxes are compared with the one of their label in the other reading that overlaps them most; one that is missing
    there moved by all of its score above the noise.
    """
    pairs = list(zip(reference, candidate, strict=True))
    return max((max(_moved(one, other), _moved(other, one)) for one, other in pairs), default=0.0)


def _moved(one: Findings, other: Findings) -> float:
    if one.boxes is None or other.boxes is None:
        return float(np.abs(one.scores - other.scores).max())
    told = one.scores >= _WORTH_COMPARING
    if not told.any():
        return 0.0
    scores, classes, boxes = one.scores[told], one.classes[told], one.boxes[told]
    if not len(other.scores):
        return float(scores.max() - _WORTH_COMPARING)
    same = (between(boxes, other.boxes) >= _SAME_THING) & (classes[:, None] == other.classes)
    apart = np.where(same, np.abs(scores[:, None] - other.scores), np.inf).min(axis=1)
    return float(np.minimum(apart, np.where(same.any(axis=1), np.inf, scores - _WORTH_COMPARING)).max())
