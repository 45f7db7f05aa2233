"""Real, tiny parts to drive the engine with: a stage that measures brightness, rules over it, and faults on demand."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.core.contracts import Clear, Decision, Escalate, Flag, Generation
from pipeline.core.payloads import View, ViewSpec
from pipeline.core.records import Array, Detection, Findings, Region

LABELS = ("bright",)


def grey(level: int, size: int = 16) -> Array:
    """A picture of one brightness."""
    return np.full((size, size, 3), level, np.uint8)


@dataclass
class Brightness:
    """Scores the mean brightness of a view, 0 to 1. Raises on views of the levels in `poison`."""

    name: str = "cheap"
    spec: ViewSpec = field(default_factory=lambda: ViewSpec(8, 8))
    labels: tuple[str, ...] = LABELS
    max_batch: int = 4
    workers: int = 1
    slow_s: float = 0.0
    poison: frozenset[int] = frozenset()
    hang: threading.Event | None = None
    batches: list[int] = field(default_factory=list)
    warmed: int = 0

    def score(self, views: Sequence[View]) -> Sequence[Findings]:
        self.batches.append(len(views))
        if self.hang is not None:
            self.hang.wait(30)
        if self.slow_s:
            time.sleep(self.slow_s)
        levels = [round(float(view.pixels.mean())) for view in views]
        if self.poison.intersection(levels):
            raise RuntimeError("a poisoned picture")
        return [Findings(self.labels, np.array([level / 255], np.float32), np.zeros(1, np.int64)) for level in levels]

    def warm(self) -> None:
        self.warmed += 1

    def describe(self) -> dict[str, object]:
        return {"model": self.name}


@dataclass(frozen=True)
class Levels:
    """Clear below `low`, flagged from `high` on, in between the heavy stage decides by `low` (any region will do)."""

    low: float = 0.3
    high: float = 0.7
    regions: tuple[Region, ...] = ()

    def decide(self, cheap: Findings) -> Decision:
        score = float(cheap.scores[0])
        if score < self.low:
            return Clear()
        return Flag((Detection("bright", score),)) if score >= self.high else Escalate(self.regions)

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        found = tuple(Detection("bright", float(h.scores[0])) for h in heavy if h.scores[0] >= self.low)
        return Flag(found) if found else Clear()


_numbers = itertools.count(1)


def generation(
    cheap: Brightness | None = None, heavy: Brightness | None = None, rule: Levels | None = None
) -> Generation:
    return Generation(
        f"levels@{next(_numbers)}", cheap or Brightness(), heavy, rule or Levels(high=0.3 if heavy is None else 0.7)
    )
