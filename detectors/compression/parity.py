"""Whether two forms of one model say the same of the same pictures. A converted or compressed model that does not is
refused: a wrong verdict is no bargain at any speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detectors.runtimes.base import Session
from pipeline.core.errors import ThresherError
from pipeline.core.records import Array


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


def answers(session: Session, pictures: Array) -> Array:
    """All float outputs of `session` for uint8 pictures `[P, height, width, 3]`, side by side: `[P, outputs]`.

    For models whose outputs keep their order (classes, dense maps). Boxes after suppression come in any order and
    number: compare those as `detectors.runtimes.parity` does.
    """
    rows, done = [], 0
    while done < len(pictures):
        left = len(pictures) - done
        size = max((size for size in session.batches if size <= left), default=session.batches[0])
        part = pictures[done : done + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        tensors = {id(tensor): tensor for tensor in session.infer(filled).values()}  # one tensor may have many names
        floats = [tensor[: len(part)].reshape(len(part), -1) for tensor in tensors.values() if tensor.dtype.kind == "f"]
        rows.append(np.concatenate(floats, axis=1))
        done += len(part)
    return np.concatenate(rows)
