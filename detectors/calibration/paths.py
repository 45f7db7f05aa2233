"""The thresholds that calibration may choose from, in the order in which it tries them: from the one that sends the
most to the heavy stage to the one that sends the least. The ladder is fixed here, so no data ever had a say in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, cast

import numpy as np

from detectors.image.boxes import between
from detectors.replay import Verdict
from detectors.rules.boxes import Boxes
from detectors.rules.picking import Thresholds, above
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.core.contracts import Flag, Rule
from pipeline.core.errors import InputError
from pipeline.core.records import Array, Box, Detection, Findings

LADDER = (0.0, 0.001, 0.002, 0.005, *(round(step / 100, 2) for step in range(1, 101)))

Calibrated: TypeAlias = float | Thresholds


@dataclass(frozen=True)
class Step:
    """One threshold, and the rule that has it."""

    threshold: float
    rule: Rule


class Path(ABC):
    """The steps of one rule, and what a miss is under it."""

    key: ClassVar[str]
    """Which of the rule's settings calibration chooses."""
    confirm: Thresholds
    steps: Sequence[Step]
    matches: bool = False
    """Whether each thing has to be found, with a box that matches; otherwise a unit is missed if it is not flagged."""

    def flagged(self, whole: Findings) -> list[Detection]:
        """What the heavy stage flags, given the whole unit."""
        return above(whole, self.confirm)

    @abstractmethod
    def reports(self, flagged: Sequence[Detection], verdict: Verdict) -> bool:
        """Whether the verdict of the deployed path reports a unit in which the heavy stage flagged these."""

    @abstractmethod
    def reports_any(self, verdict: Verdict) -> bool:
        """Whether the deployed path reports the unit at all: a false alarm, where the heavy stage flags nothing."""


class ScoresPath(Path):
    """`clear_below` rises. A unit is reported if it is flagged."""

    key = "clear_below"

    def __init__(self, rule: Scores, decides_alone: bool) -> None:
        if rule.flag_at is not None and not decides_alone:
            raise InputError(
                "flag_at lets the cheap stage flag by itself: take it away, or say how many false alarms there may be"
                " (--max-false), and they are certified too"
            )
        self.confirm = rule.confirm
        most = 1.0 if rule.flag_at is None else rule.flag_at
        self.steps = [Step(t, Scores.model_validate(rule.model_dump() | {self.key: t})) for t in LADDER if t <= most]

    def reports(self, flagged: Sequence[Detection], verdict: Verdict) -> bool:
        return isinstance(verdict, Flag)

    def reports_any(self, verdict: Verdict) -> bool:
        return isinstance(verdict, Flag)


class BoxesPath(Path):
    """The threshold of all labels in `escalate` rises. A unit is missed if anything the heavy stage finds in the whole
    of it has no match of its own in what is reported: the same label, and boxes that share `match_iou` of their
    union."""

    key = "escalate"

    def __init__(self, rule: Boxes, decides_alone: bool, match_iou: float) -> None:
        self.confirm = rule.confirm
        self.matches = True
        self._match_iou = match_iou
        shared = [label for label in rule.report if label in rule.confirm]
        most = 1.0
        if shared and not decides_alone:
            alone = [label for label in shared if label not in rule.escalate]
            if alone:
                raise InputError(
                    f"report lets the cheap stage report {', '.join(alone)} by itself: escalate it, or say how many"
                    " false alarms there may be (--max-false), and they are certified too"
                )
            most = min(rule.report[label] for label in shared)  # whatever it reports of those, the heavy stage sees
        self.steps = [
            Step(t, Boxes.model_validate(rule.model_dump() | {self.key: dict.fromkeys(rule.escalate, t)}))
            for t in LADDER
            if t <= most
        ]

    def reports(self, flagged: Sequence[Detection], verdict: Verdict) -> bool:
        return _all_found(flagged, verdict, self._match_iou)

    def reports_any(self, verdict: Verdict) -> bool:
        return any(one.label in self.confirm for one in verdict.detections)


class RegionsPath(Path):
    """The threshold of all labels in `escalate` rises. A unit is missed as under `BoxesPath`; where the rule stops at
    the first thing that it finds, if it finds none."""

    key = "escalate"

    def __init__(self, rule: Regions, match_iou: float) -> None:
        self.confirm = rule.confirm
        self._match_iou = match_iou
        self.matches = rule.at_once is None
        self.steps = [
            Step(t, Regions.model_validate(rule.model_dump() | {self.key: dict.fromkeys(rule.escalate, t)}))
            for t in LADDER
        ]

    def reports(self, flagged: Sequence[Detection], verdict: Verdict) -> bool:
        return _all_found(flagged, verdict, self._match_iou) if self.matches else isinstance(verdict, Flag)

    def reports_any(self, verdict: Verdict) -> bool:
        return isinstance(verdict, Flag)


def path_of(rule: Rule | None, *, decides_alone: bool = False, match_iou: float = 0.5) -> Path:
    """The path of a cascade's rule. `decides_alone`: the cheap stage may report by itself, since its false alarms are
    certified too. Raises `InputError` where there is nothing to calibrate, or nothing that would make it a proof."""
    if isinstance(rule, Scores):
        return ScoresPath(rule, decides_alone)
    if isinstance(rule, Boxes):
        return BoxesPath(rule, decides_alone, match_iou)
    if isinstance(rule, Regions):
        return RegionsPath(rule, match_iou)
    raise InputError("this rule has no threshold that calibration knows how to choose")


def _all_found(flagged: Sequence[Detection], verdict: Verdict, iou: float) -> bool:
    """Whether everything that was flagged has a match of its own, of its label, in what the verdict reports."""
    return all(
        _each_matched(
            [one.box for one in flagged if one.label == label],
            [one.box for one in verdict.detections if one.label == label],
            iou,
        )
        for label in {one.label for one in flagged}
    )


def _each_matched(wanted: Sequence[Box | None], reported: Sequence[Box | None], iou: float) -> bool:
    """Whether every one of `wanted` can be given a match of its own. What has no box is somewhere in the whole unit,
    and matches any."""
    if len(reported) < len(wanted):
        return False
    from scipy.optimize import linear_sum_assignment

    fits = between(_array(wanted), _array(reported)) >= iou
    fits |= np.array([box is None for box in wanted])[:, None]
    fits |= np.array([box is None for box in reported])[None, :]
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return bool(fits[rows, columns].sum() == len(wanted))


def _array(boxes: Sequence[Box | None]) -> Array:
    return cast(Array, np.array([box or (0.0, 0.0, 0.0, 0.0) for box in boxes], np.float32).reshape(-1, 4))
