"""What a bench says: rows of figures, each beside its baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """`value` of the subject in `unit`, `baseline` in the same, and how they compare. `target` is what `ratio` (or,
    where there is none, `value`) has to be at least, or with a minus sign in front at most."""

    figure: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: Spread | float | None = None
    target: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        measured = self.value if self.ratio is None else _middle(self.ratio)
        return measured >= self.target if self.target >= 0 else measured <= -self.target

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
        if self.target is not None:
            said["target"] = f"{'≥' if self.target >= 0 else '≤'} {abs(self.target):g}"
            said["holds"] = self.holds
        if self.note:
            said["note"] = self.note
        return said


@dataclass(frozen=True, slots=True)
class Report:
    """`conditions` is what the figures hang on beside the machine: models, the precision that really ran, clips."""

    rows: Sequence[Row]
    conditions: Mapping[str, Any] = field(default_factory=dict)


def paired(figure: str, unit: str, pairs: Pairs, target: float | None = None, note: str = "") -> Row:
    """The row of figures taken in turns."""
    subject, baseline = sorted(pairs.subject), sorted(pairs.baseline)
    middle = len(subject) // 2
    said = f"{len(subject)} pairs"
    return Row(
        figure, subject[middle], unit, baseline[middle], pairs.ratio, target, f"{said}; {note}" if note else said
    )


def _middle(ratio: Spread | float) -> float:
    return ratio.median if isinstance(ratio, Spread) else ratio


def _digits(value: float) -> float:
    """Four significant digits: more were noise."""
    return float(f"{value:.4g}")
