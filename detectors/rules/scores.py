"""For a cheap stage that scores the whole picture: low is clear, high is flagged, the heavy stage judges between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from detectors.rules.picking import Threshold, Thresholds, above, detection, unknown_labels
from pipeline.core.contracts import Clear, Decision, Escalate, Flag
from pipeline.core.records import Detection, Findings
from pipeline.core.settings import Settings


class Scores(Settings):
    """The scores of the `watch` labels are summed. Below `clear_below` the window is clear; from `flag_at` on it is
    flagged with the strongest of them and the sum; between, the heavy stage looks, and what it finds above `confirm`
    flags the window. Without a heavy stage, `flag_at` alone decides.
    """

    watch: tuple[str, ...] = Field(min_length=1, description="labels of the cheap stage that matter")
    clear_below: Threshold | None = Field(default=None, description="below that the cheap stage settles it")
    flag_at: Threshold | None = Field(default=None, description="from there on the cheap stage flags by itself")
    confirm: Thresholds = Field(default_factory=dict, description="label of the heavy stage → least score to flag")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.clear_below is not None and self.flag_at is not None and self.clear_below > self.flag_at:
            raise ValueError("clear_below must not be above flag_at")
        if len(set(self.watch)) != len(self.watch):
            raise ValueError("watch names a label twice")
        return self

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        """The mistakes that show once the stages' labels are known, one line each."""
        wrong = unknown_labels("watch", self.watch, cheap, "the cheap stage")
        if heavy is None:
            wrong += ["confirm: there is no heavy stage"] if self.confirm else []
            wrong += ["clear_below: there is no heavy stage; use flag_at"] if self.clear_below is not None else []
            wrong += ["flag_at: needed without a heavy stage"] if self.flag_at is None else []
            return wrong
        wrong += unknown_labels("confirm", self.confirm, heavy, "the heavy stage")
        wrong += [] if self.confirm else ["confirm: needed with a heavy stage, which else is never listened to"]
        wrong += [] if self.clear_below is not None else ["clear_below: needed, or the heavy stage has to judge all"]
        return wrong

    def reports(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(self.watch if self.flag_at is not None else ()), *self.confirm)))

    def least(self, label: str, *, heavy: bool) -> float | None:
        """From which score on a stage's word on `label` is reported; None where it never is."""
        return self.confirm.get(label) if heavy else self.flag_at if label in self.watch else None

    def decide(self, cheap: Findings) -> Decision:
        watched = [cheap.labels.index(label) for label in self.watch]
        score = min(cheap.score(watched), 1.0)  # a sum of rounded scores can be a hair above
        if self.flag_at is not None and score >= self.flag_at:
            return Flag((self._strongest(cheap, watched, score),))
        if not self.confirm or (self.clear_below is not None and score < self.clear_below):
            return Clear()
        return Escalate()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        found = [detection for findings in heavy for detection in above(findings, self.confirm)]
        return Flag(tuple(found)) if found else Clear()

    @staticmethod
    def _strongest(cheap: Findings, watched: Sequence[int], score: float) -> Detection:
        eligible = [i for i in range(len(cheap.scores)) if int(cheap.classes[i]) in watched]
        best = max(eligible, key=lambda i: float(cheap.scores[i]))
        return detection(cheap, best, score)
