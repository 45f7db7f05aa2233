"""For a cheap stage that finds things: some are reported as they are, some call for the heavy stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from detectors.rules.picking import Thresholds, above, unknown_labels
from pipeline.core.contracts import Clear, Decision, Escalate, Flag
from pipeline.core.records import Box, Detection, Findings, Region
from pipeline.core.settings import Settings


class Boxes(Settings):
    """A thing that reaches its label's threshold in `report` is reported, one that reaches it in `escalate` is looked
    at by the heavy stage. What that stage then finds above `confirm` is reported too; of a label that both stages
    know, its word replaces the cheap one's wherever it looked.

    A window is flagged if anything confirmed, or anything reported of a label in `flag`, is in it.
    """

    report: Thresholds = Field(min_length=1, description="label of the cheap stage → least score to report it")
    escalate: Thresholds = Field(
        default_factory=dict, description="label of the cheap stage → least score to look twice"
    )
    region: Literal["whole", "box"] = Field(default="box", description="what the heavy stage looks at")
    grow: float = Field(default=0.1, ge=0.0, le=2.0, description="share of its size that a box gets on each side")
    max_regions: int = Field(default=8, ge=1, le=64, description="the best of so many are looked at in one window")
    confirm: Thresholds = Field(default_factory=dict, description="label of the heavy stage → least score to report it")
    flag: tuple[str, ...] | None = Field(default=None, description="reported labels to act on (default: all of them)")

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        """The mistakes that show once the stages' labels are known, one line each."""
        wrong = [
            *unknown_labels("report", self.report, cheap, "the cheap stage"),
            *unknown_labels("escalate", self.escalate, cheap, "the cheap stage"),
            *unknown_labels("flag", self.flag or (), tuple(self.report), "report"),
        ]
        if heavy is None:
            wrong += [f"{key}: there is no heavy stage" for key in ("escalate", "confirm") if getattr(self, key)]
            return wrong
        wrong += unknown_labels("confirm", self.confirm, heavy, "the heavy stage")
        wrong += [
            f"{key}: needed with a heavy stage, which else is never {use}"
            for key, use in (("escalate", "asked"), ("confirm", "listened to"))
            if not getattr(self, key)
        ]
        return wrong

    def reports(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.report, *self.confirm)))

    def least(self, label: str, *, heavy: bool) -> float | None:
        """From which score on a stage's word on `label` is reported; None where it never is."""
        return (self.confirm if heavy else self.report).get(label)

    def decide(self, cheap: Findings) -> Decision:
        looked_at = self._looked_at(cheap)
        if not looked_at:
            return self._verdict(above(cheap, self.report), [])
        if self.region == "whole":
            return Escalate()
        return Escalate(tuple(Region(self._grown(d.box), d.label) for d in looked_at if d.box is not None))

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        looked_at = self._looked_at(cheap)
        everywhere = self.region == "whole" or any(d.box is None for d in looked_at)
        confirmed: list[Detection] = []
        for place, findings in zip([None] if everywhere else looked_at, heavy, strict=True):
            found = above(findings, self.confirm)
            confirmed += found if place is None else [d if d.box else replace(d, box=place.box) for d in found]
        kept = [
            d for d in above(cheap, self.report) if d.label not in self.confirm or not (everywhere or d in looked_at)
        ]
        return self._verdict(kept, confirmed)

    def _looked_at(self, cheap: Findings) -> list[Detection]:
        return above(cheap, self.escalate)[: self.max_regions]

    def _grown(self, box: Box) -> Box:
        x1, y1, x2, y2 = box
        more_x, more_y = (x2 - x1) * self.grow, (y2 - y1) * self.grow
        return x1 - more_x, y1 - more_y, x2 + more_x, y2 + more_y

    def _verdict(self, reported: list[Detection], confirmed: list[Detection]) -> Clear | Flag:
        acted_on = self.report if self.flag is None else self.flag
        flagged = bool(confirmed) or any(d.label in acted_on for d in reported)
        return (Flag if flagged else Clear)((*reported, *confirmed))
