"""Units with the truth about them and all that the stages said: what figures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.datasets.base import says_good
from detectors.evaluation.boxes import Boxes as BoxesOfOne
from detectors.evaluation.labels import Matching
from detectors.replay import Heard, Seen
from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.core.contracts import Rule
from pipeline.core.records import Array, Box, Detection, Findings


@dataclass(frozen=True, slots=True)
class Judged:
    """One unit. `defects` counts what is wrong with it, 1 where no more is known; `boxes` `[n, 4]` and `classes` `[n]`
    (indices into the data's labels) say where and what, if that is known; a class without a box speaks of the whole."""

    name: str
    group: str
    width: int
    height: int
    defects: int
    boxes: Array
    classes: Array
    seen: Seen

    @property
    def bad(self) -> bool:
        return self.defects > 0

    def share_of_pixels(self, places: Iterable[Box | None], tile: int | None = None) -> float:
        """How much of the unit a stage sees that looks at `places`, what two of them share counted twice. With a
        `tile`, it sees a square of that side for each, moved into the unit (see `ViewSpec`)."""
        area = float(self.width * self.height)
        if tile is not None:
            look = min(tile, self.width) * min(tile, self.height) / area
            return sum(1.0 if place is None else look for place in places)
        return sum(1.0 if place is None else _inside(place, self.width, self.height) / area for place in places)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: the rule, and the labels of the stages (`heavy` is None for a model by itself) and the data.
    `tile` is the side of the squares that the heavy stage looks at, if it does."""

    rule: Rule
    cheap: tuple[str, ...]
    heavy: tuple[str, ...] | None
    data: tuple[str, ...]
    tile: int | None = None

    @property
    def watched(self) -> tuple[str, ...]:
        """The labels of the cheap stage that make a unit suspicious."""
        if isinstance(self.rule, Scores):
            return self.rule.watch
        if isinstance(self.rule, Regions):
            return tuple(self.rule.escalate)
        if isinstance(self.rule, Boxes):
            return tuple(label for label in self.rule.escalate or self.rule.report if not says_good(label))
        return tuple(label for label in self.cheap if not says_good(label))

    @property
    def confirmed(self) -> tuple[str, ...]:
        """The labels of the heavy stage that the rule listens to."""
        if isinstance(self.rule, (Scores, Boxes, Regions)):
            return tuple(self.rule.confirm)
        return tuple(label for label in self.heavy or () if not says_good(label))


def suspicion(findings: Findings, watched: Sequence[str]) -> float:
    """The score by which a stage finds a unit suspicious: of boxes the largest, of scores for the whole their sum."""
    return min(findings.score([findings.labels.index(label) for label in watched]), 1.0)


def likeliest(findings: Findings) -> int:
    """The index of the label with the highest score; the first where there is none."""
    return int(np.argmax([findings.score([label]) for label in range(len(findings.labels))]))


def suspicions(answers: Iterable[Heard], watched: Sequence[str]) -> Array:
    return np.array([suspicion(one.findings, watched) for one in answers], np.float64)


def true_boxes(units: Sequence[Judged], matching: Matching) -> list[BoxesOfOne]:
    """The true boxes in the classes that both sides know."""
    out = []
    for unit in units:
        classes = matching.data[unit.classes[: len(unit.boxes)]]
        known = classes >= 0
        out.append(BoxesOfOne(unit.boxes[known], classes[known], np.ones(int(known.sum()))))
    return out


def found_boxes(answers: Iterable[Heard], matching: Matching) -> list[BoxesOfOne]:
    """All that a stage found, thresholds aside, in the classes that both sides know."""
    return [
        _of_known(one.findings.boxes, one.findings.scores, matching.mine[one.findings.classes])
        for one in answers
        if one.findings.boxes is not None
    ]


def reported_boxes(verdicts: Iterable[Sequence[Detection]], kinds: dict[str, int]) -> list[BoxesOfOne]:
    """What was reported with a place and a label in `kinds`, which gives its class."""
    out = []
    for detections in verdicts:
        kept = [one for one in detections if one.box is not None and kinds.get(one.label, -1) >= 0]
        boxes = np.array([one.box for one in kept], np.float32).reshape(-1, 4)
        scores = np.array([one.score for one in kept], np.float32)
        out.append(BoxesOfOne(boxes, np.array([kinds[one.label] for one in kept], np.int64), scores))
    return out


def _of_known(boxes: Array, scores: Array, classes: Array) -> BoxesOfOne:
    known = classes >= 0
    return BoxesOfOne(boxes[known], classes[known], scores[known])


def _inside(box: Box, width: int, height: int) -> float:
    x1, y1, x2, y2 = box
    return max(min(x2, width) - max(x1, 0.0), 0.0) * max(min(y2, height) - max(y1, 0.0), 0.0)
