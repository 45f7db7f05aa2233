"""Arithmetic on many boxes at once: `[N, 4]` arrays of x1, y1, x2, y2."""

from __future__ import annotations

from typing import cast

import numpy as np

from pipeline.core.records import Array

MOST_CANDIDATES = 512
"""Boxes that compete; the overlaps of more than that are work without an effect on the best hundred."""


def corners(centred: Array) -> Array:
    """Centre x, centre y, width, height → x1, y1, x2, y2; both `[N, 4]`."""
    middle, half = centred[:, :2], centred[:, 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def between(ones: Array, others: Array) -> Array:
    """Intersection over union of each with each: `[N, 4]`, `[M, 4]` → `[N, M]`, 0 where there is no area."""
    low, high = ones[:, None, :2], ones[:, None, 2:]
    sides = np.clip(np.minimum(high, others[:, 2:]) - np.maximum(low, others[:, :2]), 0, None)
    shared = sides[..., 0] * sides[..., 1]
    united = _areas(ones)[:, None] + _areas(others) - shared
    return cast(Array, np.divide(shared, united, out=np.zeros_like(shared), where=united > 0))


def _areas(boxes: Array) -> Array:
    return cast(Array, np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1))


def suppress(boxes: Array, scores: Array, classes: Array, iou: float, most: int) -> Array:
    """Non-maximum suppression within each class: the indices of the boxes to keep, best first, at most `most`."""
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    rival = (between(boxes[order], boxes[order]) > iou) & (classes[order][:, None] == classes[order])
    np.fill_diagonal(rival, False)
    if not rival.any():  # as good as always among a map's peaks, and the loop below is what costs
        return cast(Array, order[:most])
    beaten = np.zeros(len(order), bool)
    kept: list[int] = []
    for index in range(len(order)):
        if beaten[index]:
            continue
        kept.append(index)
        if len(kept) == most:
            break
        beaten |= rival[index]
    return cast(Array, order[kept])


def rivals_lowered(boxes: Array, scores: Array, iou: float, share: float) -> Array:
    """The scores of boxes that stand best first, `[N]`: one that overlaps a better one keeps a `share` of its own. A
    gentle form of suppression (Bodla et al. 2017, Soft-NMS, arXiv 1704.04503) for labels that exclude each other."""
    beaten = np.triu(between(boxes, boxes) > iou, 1).any(axis=0)
    return np.where(beaten, scores * np.float32(share), scores)
