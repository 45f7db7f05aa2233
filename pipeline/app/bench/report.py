"""What a bench says: rows of figures, each beside its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from pipeline.app.bench.measure import Pairs, Spread


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a bench does. `quick` is enough to see that it works, and its figures mean nothing; `minutes` is for
    those that watch for so long."""

    quick: bool = False
    minutes: float = 1.0

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """`value` of the subject in `unit`, `baseline` in the same, and how they compare. `at_least` and `at_most` bound
    `ratio`, or `value` where there is none."""

    figure: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: Spread | float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bounds hold (a NaN holds none); None without any."""
        if self.at_least is None and self.at_most is None:
            return None
        measured = self.value if self.ratio is None else _middle(self.ratio)
        return (self.at_least is None or measured >= self.at_least) and (
            self.at_most is None or measured <= self.at_most
        )

    def document(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "figure": self.figure,
            "value": _digits(self.value),
            "unit": self.unit,
            "baseline": None if self.baseline is None else _digits(self.baseline),
            "ratio": None if self.ratio is None else _digits(_middle(self.ratio)),
        }
        if isinstance(self.ratio, Spread):
            said["ratio_95"] = [_digits(self.ratio.low), _digits(self.ratio.high)]
        bounds = [
            f"{sign} {bound:g}" for sign, bound in (("≥", self.at_least), ("≤", self.at_most)) if bound is not None
        ]
        if bounds:
            said |= {"target": ", ".join(bounds), "holds": self.holds}
        if self.note:
            said["note"] = self.note
        return said


@dataclass(frozen=True, slots=True)
class Report:
    """`conditions` is what the figures hang on beside the machine: models, the precision that really ran, clips."""

    rows: Sequence[Row]
    conditions: Mapping[str, Any] = field(default_factory=dict)


def paired(figure: str, unit: str, pairs: Pairs, at_least: float | None = None, note: str = "") -> Row:
    """The row of figures taken in turns: medians, and the spread of the ratio."""
    said = f"{len(pairs.subject)} pairs" + (f"; {note}" if note else "")
    return Row(figure, median(pairs.subject), unit, median(pairs.baseline), pairs.ratio, at_least, note=said)


def _middle(ratio: Spread | float) -> float:
    return ratio.median if isinstance(ratio, Spread) else ratio


def _digits(value: float) -> float:
    """Four significant digits: more were noise."""
    return float(f"{value:.4g}")
