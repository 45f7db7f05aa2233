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


def overlaps(boxes: Array) -> Array:
    """Intersection over union of each with each: `[N, 4]` → `[N, N]`, 0 where there is no area."""
    low, high = boxes[:, :2], boxes[:, 2:]
    sides = np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None)
    shared = sides[..., 0] * sides[..., 1]
    area = np.clip(high - low, 0, None).prod(axis=1)
    united = area[:, None] + area - shared
    return cast(Array, np.divide(shared, united, out=np.zeros_like(shared), where=united > 0))


def suppress(boxes: Array, scores: Array, classes: Array, iou: float, most: int) -> Array:
    """Non-maximum suppression within each class: the indices of the boxes to keep, best first, at most `most`."""
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    rival = (overlaps(boxes[order]) > iou) & (classes[order][:, None] == classes[order])
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
