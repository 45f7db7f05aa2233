"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531): what a heavy stage says is what a cheap one learns.

The teacher looks at every picture once, before the training, in whatever runtime is fastest here. Labels are optional:
with a share of 1 a cheap stage learns nothing but the teacher's word, on a stream that nobody labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.datasets.base import Sample
from detectors.image.boxes import between
from pipeline.core.contracts import Stage
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array, Findings

_SAME = 0.3  # of overlap: the teacher means this box
_WORTH = 0.1  # a score below is noise


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is to be learned of one picture: boxes `[n, 4]` in source pixels with classes `[n]` and how sure each is
    `[n]`; or, of a whole picture, `shares` `[C]` of the classes."""

    boxes: Array
    classes: Array
    sure: Array
    shares: Array | None = None


def untaught(sample: Sample, classes: int) -> Lesson:
    """The labels as they are; with one class, whatever is labelled is that."""
    kinds = sample.classes if classes > 1 else np.zeros(len(sample.classes), np.int64)
    return Lesson(sample.boxes, kinds, np.ones(len(sample.boxes), np.float32))


def lessons(
    teacher: Stage,
    samples: Sequence[Sample],
    share: float,
    classes: int,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Lesson]:
    """By the sample's name: a `share` of the teacher's word, the rest the labels'. `classes` is the learner's number of
    classes. Pictures that cannot be read are left out."""
    taught: dict[str, Lesson] = {}
    for sample in samples:
        try:
            found = teacher.score([sample.image().view(teacher.spec)])[0]
        except BadPicture:
            continue
        taught[sample.name] = mixed(untaught(sample, classes), found, share, classes)
        progress(len(taught))
    return taught


def mixed(known: Lesson, found: Findings, share: float, classes: int) -> Lesson:
    """A `share` of what the teacher found, the rest what is known."""
    if found.boxes is None:
        word = np.zeros(classes, np.float32)
        word[found.classes] = found.scores
        told = np.eye(classes, dtype=np.float32)[known.classes[0]] if len(known.classes) else word
        return Lesson(known.boxes, known.classes, known.sure, share * word + (1 - share) * told)
    worth = found.scores >= _WORTH
    boxes, scores = found.boxes[worth], found.scores[worth]
    kinds = found.classes[worth] if classes > 1 else np.zeros(int(worth.sum()), np.int64)
    same = (between(known.boxes, boxes) >= _SAME) & (known.classes[:, None] == kinds)
    confirmed = np.where(same, scores, 0).max(1, initial=0)
    new = ~same.any(0)
    return Lesson(
        np.concatenate([known.boxes, boxes[new]]).astype(np.float32),
        np.concatenate([known.classes, kinds[new]]).astype(np.int64),
        np.concatenate([1 - share + share * confirmed, share * scores[new]]).astype(np.float32),
    )
