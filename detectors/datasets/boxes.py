"""Boxes as formats write them down → boxes as a sample holds them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from detectors.datasets.base import DataSet, Reading
from pipeline.core.records import Array

SLACK = 1.0
"""Pixels by which rounding may put a box outside its picture; it is cut off there. A box further out is wrong."""


class Boxes:
    """The boxes of one picture of `width`×`height` pixels, gathered one by one."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows: dict[tuple[float, float, float, float, int], None] = {}

    def add(self, x1: float, y1: float, x2: float, y2: float, kind: int) -> tuple[str, str] | None:
        """Take a box (pixels) of class `kind`, or say what is wrong with it: a reason to count, and words."""
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            return "labels that are no numbers", "has a box with a number that is none"
        if x1 >= x2 or y1 >= y2:
            return "empty boxes", "has a box without width or height"
        off = max(-x1, -y1, x2 - self.width, y2 - self.height)
        if off > SLACK:
            return "boxes outside their picture", f"has a box {off:.1f} pixels outside {self.width}×{self.height}"
        x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(self.width)), min(y2, float(self.height))
        if np.float32(x1) >= np.float32(x2) or np.float32(y1) >= np.float32(y2):
            return "empty boxes", "has a box without width or height inside its picture"
        row = (x1, y1, x2, y2, kind)
        if row in self._rows:
            return "labels written twice", "has the same box of the same class twice"
        self._rows[row] = None
        return None

    def arrays(self) -> tuple[Array, Array]:
        """float32 `[n, 4]` and int64 `[n]`."""
        rows = list(self._rows)
        return (
            np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[4] for row in rows], np.int64),
        )


def unseen_told(reading: Reading, labels: list[str]) -> DataSet:
    """What was read, with a remark about classes of which there is no box. Raises `InputError`."""
    seen = Counter(int(kind) for sample in reading.samples for kind in sample.classes)
    if unseen := [label for index, label in enumerate(labels) if not seen[index]]:
        more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
        reading.remarks.append(f"an empty class: nothing is labelled {', '.join(unseen[:3])}{more}")
    return reading.done(labels)
