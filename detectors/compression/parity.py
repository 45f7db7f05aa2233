"""Whether two forms of one model say the same of the same pictures. A converted or compressed model that does not is
refused: a wrong verdict is no bargain at any speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import ThresherError
from pipeline.core.records import Array, Findings


class Disagreement(ThresherError):
    """A form of a model that changes verdicts more than it may."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two forms of a model compare on `pictures` pictures.

    `moved` is the furthest that any score of any picture went; `moved_mean` the mean over pictures of the furthest in
    each; `top1` the share of pictures whose highest score has the same label in both; `cosine` the mean cosine of the
    two score vectors, and `cosine_min` the worst.
    """

    pictures: int
    moved: float
    moved_mean: float
    top1: float
    cosine: float
    cosine_min: float


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a form may cost. Pictures whose verdict hangs in the balance flip at the slightest touch, hence `top1` below
    1; `cosine` bounds the outputs as a whole."""

    moved: float = 0.1
    top1: float = 0.95
    cosine: float = 0.98

    def check(self, found: Agreement, what: str) -> None:
        """Raises `Disagreement`, which says every bound that does not hold."""
        broken = [
            f"{name} {value:.4f} is {side} {bound:g}"
            for name, value, side, bound, holds in (
                ("largest move of a score", found.moved, "above", self.moved, found.moved <= self.moved),
                ("share of equal top labels", found.top1, "below", self.top1, found.top1 >= self.top1),
                ("cosine of the outputs", found.cosine, "below", self.cosine, found.cosine >= self.cosine),
            )
            if not holds  # a NaN holds nowhere
        ]
        if broken:
            raise Disagreement(f"{what} is refused on {found.pictures} pictures: {'; '.join(broken)}")


def agreement(reference: Array, candidate: Array) -> Agreement:
    """Compare two float arrays `[pictures, outputs]` of the same shape, at least one picture."""
    if reference.shape != candidate.shape or reference.ndim != 2 or not len(reference):
        raise ValueError(f"expected two like arrays [pictures, outputs], got {reference.shape} and {candidate.shape}")
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    moved = np.abs(a - b).max(1)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_empty = ~a.any(1) & ~b.any(1)  # nothing found by either: that is agreement
    cosine = np.where(both_empty, 1.0, (a * b).sum(1) / np.where(lengths == 0, 1.0, lengths))
    return Agreement(
        pictures=len(a),
        moved=float(moved.max()),
        moved_mean=float(moved.mean()),
        top1=float((a.argmax(1) == b.argmax(1)).mean()),
        cosine=float(cosine.mean()),
        cosine_min=float(cosine.min()),
    )


def label_scores(findings: Sequence[Findings]) -> Array:
    """Float64 `[pictures, labels]`: how sure each label is of being in each picture, whether the model speaks of whole
    pictures or of boxes (then its best box counts). The form in which any two models of one task can be compared."""
    rows = np.zeros((len(findings), len(findings[0].labels) if findings else 0))
    for row, found in zip(rows, findings, strict=True):
        np.maximum.at(row, found.classes, found.scores)
    return rows
