"""For a cheap stage that names suspicious places, and a heavy one that looks at those alone, at full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from detectors.image.boxes import suppress
from detectors.rules.picking import Thresholds, above, unknown_labels
from pipeline.core.contracts import Clear, Decision, Escalate, Flag
from pipeline.core.records import Box, Detection, Findings, Region
from pipeline.core.settings import Settings

_SAME = 0.45  # of overlap: one thing, seen in two looks


class Regions(Settings):
    """Where the cheap stage's suspicion reaches `escalate`, the heavy stage looks: at a square around the most
    suspicious place, and at further ones until every such place lies within `reach` of the middle of one. What it finds
    from `confirm` on, less `slack`, flags the window; nothing is ever reported without it.

    With `at_once` it looks in rounds, each twice as large as the one before, and no further than to the first that
    flags the window: the verdict is that of looking everywhere, at a fraction of the looks, and the list of what was
    found ends there.
    """

    escalate: Thresholds = Field(min_length=1, description="label of the cheap stage → least score to look there")
    confirm: Thresholds = Field(min_length=1, description="label of the heavy stage → least score to report it")
    reach: float = Field(default=40.0, gt=0, description="source pixels from the middle of a look that it answers for")
    slack: float = Field(
        default=0.1, ge=0, le=1, description="so much less is enough in a look, which sees less around a thing"
    )
    max_regions: int = Field(default=16, ge=1, le=64, description="looks at one window, the most suspicious first")
    at_once: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="looks in the first round; there is no further one once something is found (default: all)",
    )

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        """The mistakes that show once the stages' labels are known, one line each."""
        wrong = unknown_labels("escalate", self.escalate, cheap, "the cheap stage")
        if heavy is None:
            return [*wrong, "escalate: there is no heavy stage"]
        return wrong + unknown_labels("confirm", self.confirm, heavy, "the heavy stage")

    def reports(self) -> tuple[str, ...]:
        return tuple(self.confirm)

    def least(self, label: str, *, heavy: bool) -> float | None:
        """From which score on a stage's word on `label` is reported; None where it never is. Of the whole, which the
        heavy stage judges where the cheap one names no place, it is that, too."""
        least = self.confirm.get(label) if heavy else None
        return None if least is None else max(least - self.slack, 0.0)

    def decide(self, cheap: Findings) -> Decision:
        looks = self._looks(cheap)
        if looks is None:
            return Escalate()
        return Escalate(looks[: self.at_once]) if looks else Clear()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Decision:
        enough = {label: max(least - self.slack, 0.0) for label, least in self.confirm.items()}
        found = [detection for findings in heavy for detection in above(findings, enough)]
        if len(heavy) > 1:
            found = _once(found)
        if found:
            return Flag(tuple(found))
        looks = None if self.at_once is None else self._looks(cheap)
        more = looks[len(heavy) : 2 * len(heavy) + (self.at_once or 0)] if looks else ()
        return Escalate(more) if more else Clear()

    def _looks(self, cheap: Findings) -> tuple[Region, ...] | None:
        """All that is worth a look, the most suspicious first; None where that is the whole."""
        looks: list[Region] = []
        middles: list[tuple[float, float]] = []
        for place in above(cheap, self.escalate):
            if place.box is None:
                return None
            x, y = (place.box[0] + place.box[2]) / 2, (place.box[1] + place.box[3]) / 2
            if any(abs(x - left) <= self.reach and abs(y - top) <= self.reach for left, top in middles):
                continue
            if len(looks) == self.max_regions:
                break
            middles.append((x, y))
            looks.append(Region(self._around(x, y), place.label))
        return tuple(looks)

    def _around(self, x: float, y: float) -> Box:
        return x - self.reach, y - self.reach, x + self.reach, y + self.reach


def _once(found: list[Detection]) -> list[Detection]:
    """Without what a second look at the same spot found again: the surer one stays."""
    placed = [one for one in found if one.box is not None]
    if len(placed) < 2:
        return found
    labels = sorted({one.label for one in placed})
    kept = suppress(
        np.array([one.box for one in placed]), np.array([one.score for one in placed]),
        np.array([labels.index(one.label) for one in placed]), _SAME, len(placed),
    )  # fmt: skip
    return [one for one in found if one.box is None] + [placed[int(index)] for index in kept]
