"""Pictures that say which one they are, and a stage that reads it: so that a box can be told to belong to its picture,
however that has travelled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pipeline.core.contracts import Clear, Flag, Generation
from pipeline.core.media import Spec
from pipeline.core.payloads import View, ViewSpec
from pipeline.core.records import Array, Detection, Findings

NUMBERS: Final = 128
_BITS: Final = 8  # seven, and one that makes their sum even
_CELLS: Final = 10  # across the picture: the bits, and a margin at both sides
_ACROSS, _DOWN = 160, 120

COLOURS: Final = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 50, 200)}
"""Of the lower third, from left to right."""


def numbered(number: int, width: int = 640, height: int = 480) -> Array:
    """uint8 RGB `[height, width, 3]`: a row of light and dark squares above, three colours below."""
    picture = np.full((height, width, 3), 90, np.uint8)
    word = number << 1 | number.bit_count() & 1
    for bit in range(_BITS):
        left, right = (round((bit + 1 + side) * width / _CELLS) for side in (0, 1))
        picture[height // 8 : height // 3, left:right] = 235 if word >> bit & 1 else 20
    for index, colour in enumerate(COLOURS.values()):
        picture[height * 2 // 3 :, width * index // 3 : width * (index + 1) // 3] = colour
    return picture


def number_of(pixels: Array) -> int | None:
    """The number in a picture of any size, uint8 `[h, w, 3]`; None where it cannot be read."""
    height, width = pixels.shape[:2]
    row = pixels[height // 8 + height // 16 : height // 3 - height // 16].mean((0, 2))
    word = 0
    for bit in range(_BITS):
        middle = (bit + 1.5) * width / _CELLS
        light = row[int(middle - width / 40) : int(middle + width / 40) + 1].mean()
        if 90 < light < 165:
            return None
        word |= int(light > 128) << bit
    number = word >> 1
    return number if number.bit_count() & 1 == word & 1 else None


class Reading:
    """A stage: the left side of the box that it finds is the picture's number, in source pixels."""

    def __init__(self) -> None:
        self.name = "reading"
        self.spec: Spec = ViewSpec(_ACROSS, _DOWN)
        self.labels: tuple[str, ...] = ("number",)
        self.max_batch = 4
        self.workers = 1

    def score(self, views: Sequence[View]) -> Sequence[Findings]:
        return [self._read(view) for view in views]

    def _read(self, view: View) -> Findings:
        number = number_of(view.pixels)
        boxes = np.zeros((0, 4), np.float32) if number is None else np.array([[number, 8, number + 32, 40]], np.float32)
        count = len(boxes)
        return Findings(self.labels, np.ones(count, np.float32), np.zeros(count, np.int64), boxes)

    def warm(self) -> None:
        self.score([])

    def describe(self) -> dict[str, object]:
        return {"model": self.name}


class Reported:
    """The rule: what was read is reported."""

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        return []

    def decide(self, cheap: Findings) -> Clear | Flag:
        assert cheap.boxes is not None
        left, top, right, bottom = cheap.boxes[0].tolist() if len(cheap.boxes) else (0.0, 0.0, 0.0, 0.0)
        return Flag((Detection("number", 1.0, (left, top, right, bottom)),)) if len(cheap.boxes) else Clear()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        return self.decide(cheap)


def reading() -> Generation:
    return Generation("reading", Reading(), None, Reported())
