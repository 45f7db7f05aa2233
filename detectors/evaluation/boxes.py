"""Boxes against true boxes: the protocol of DeepPCB (Tang et al. 2019, arXiv 1902.06197).

A finding is right if a true box of its class, which no better finding has taken, overlaps it by more than an IoU of
0.33. The mean average precision is over classes, each the mean of the precisions at which a true box is found (no
interpolation); F is the harmonic mean of precision and recall over all classes at one threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.image.boxes import between
from pipeline.core.records import Array

IOU = 0.33


@dataclass(frozen=True, slots=True)
class Boxes:
    """Of one picture: boxes float `[n, 4]`, classes int `[n]`; scores `[n]` where they are findings."""

    boxes: Array
    classes: Array
    scores: Array


@dataclass(frozen=True, slots=True)
class Ranked:
    """All findings of a data set, best first: `scores` and `classes` `[n]`, whether each was `right`, in which
    `picture`; `true` counts the true boxes by class `[C]`."""

    scores: Array
    classes: Array
    right: Array
    picture: Array
    true: Array

    def average_precision(self) -> Array:
        """By class `[C]`; NaN where nothing is to be found."""
        found = np.full(len(self.true), np.nan)
        for kind, true in enumerate(self.true):
            if true:
                right = self.right[self.classes == kind]
                precision = np.cumsum(right) / np.arange(1, len(right) + 1)
                found[kind] = (precision * right).sum() / true
        return found

    def precision_recall(self) -> tuple[Array, Array, Array]:
        """At each score as the threshold: precision, recall, F, `[n]` each, over all classes."""
        right = np.cumsum(self.right)
        precision = right / np.arange(1, len(right) + 1)
        recall = right / max(int(self.true.sum()), 1)
        return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-9)

    def only(self, kind: int) -> Ranked:
        """The findings and the true boxes of one class; the others count as if nobody knew them."""
        mine = self.classes == kind
        true = np.where(np.arange(len(self.true)) == kind, self.true, 0)
        return Ranked(self.scores[mine], self.classes[mine], self.right[mine], self.picture[mine], true)

    def at(self, threshold: float | Array) -> tuple[float, float, float]:
        """Precision, recall and F with every finding from `threshold` on, which is one for all or `[C]`, one a
        class. Precision is 1 where nothing is found."""
        least = np.asarray(threshold, np.float64)
        kept = self.right[self.scores >= (least[self.classes.astype(np.int64)] if least.ndim else least)]
        right, true = int(kept.sum()), max(int(self.true.sum()), 1)
        precision = right / len(kept) if len(kept) else 1.0
        recall = right / true
        return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)

    def best_threshold(self) -> float:
        """Where F is largest, halfway to the next finding, so that it does not hang on a rounding."""
        if not len(self.scores):
            return 0.5
        best = int(np.argmax(self.precision_recall()[2]))
        following = self.scores[best + 1] if best + 1 < len(self.scores) else 0.0
        return float((self.scores[best] + following) / 2)


def ranked(found: Sequence[Boxes], true: Sequence[Boxes], classes: int, iou: float = IOU) -> Ranked:
    """Match every picture's findings, best first, with its true boxes."""
    scores, kinds, right, picture = [], [], [], []
    for index, (mine, theirs) in enumerate(zip(found, true, strict=True)):
        order = np.argsort(-mine.scores, kind="stable")
        scores.append(mine.scores[order])
        kinds.append(mine.classes[order])
        right.append(_right(mine.boxes[order], mine.classes[order], theirs, iou))
        picture.append(np.full(len(order), index))
    best_first = np.argsort(-_joined(scores), kind="stable")
    all_true = np.bincount(_joined([one.classes for one in true]).astype(np.int64), minlength=classes)
    return Ranked(
        _joined(scores)[best_first], _joined(kinds)[best_first], _joined(right)[best_first].astype(bool),
        _joined(picture)[best_first], all_true,
    )  # fmt: skip


def _joined(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _right(boxes: Array, classes: Array, true: Boxes, iou: float) -> Array:
    right = np.zeros(len(boxes), bool)
    if not len(boxes) or not len(true.boxes):
        return right
    overlap = between(boxes, true.boxes)
    overlap[classes[:, None] != true.classes[None]] = 0
    for index in range(len(boxes)):
        best = int(np.argmax(overlap[index]))
        if overlap[index, best] > iou:
            right[index] = True
            overlap[:, best] = 0
    return right
