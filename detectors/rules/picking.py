"""What the rules share: findings above thresholds as detections, and labels checked against what a model knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import Field

from pipeline.core.catalogue import nearest
from pipeline.core.records import Detection, Findings

Threshold: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
Thresholds: TypeAlias = dict[str, Threshold]


def above(findings: Findings, thresholds: Mapping[str, float]) -> list[Detection]:
    """Every finding that reaches the threshold of its label, best first; labels without one are left out."""
    least = np.array([thresholds.get(label, np.inf) for label in findings.labels])
    reached = np.flatnonzero(findings.scores >= least[findings.classes])
    best_first = reached[np.argsort(-findings.scores[reached], kind="stable")]
    return [detection(findings, int(i)) for i in best_first]


def detection(findings: Findings, index: int, score: float | None = None) -> Detection:
    """One finding, with where it is as far as that is known."""
    label = findings.labels[int(findings.classes[index])]
    score = float(findings.scores[index]) if score is None else score
    if findings.boxes is not None:
        x1, y1, x2, y2 = findings.boxes[index].tolist()
        return Detection(label, score, (x1, y1, x2, y2))
    if findings.spans is not None:
        start, end = findings.spans[index].tolist()
        return Detection(label, score, span_ns=(start, end))
    return Detection(label, score, chars=None if findings.chars is None else findings.chars(index))


def unknown_labels(key: str, labels: Iterable[str], known: Sequence[str], whose: str) -> list[str]:
    """One line for each of `labels` that the model does not know."""
    return [
        f'{key}: {whose} knows no "{label}".{nearest(label, known)}' + ("" if len(known) > 12 else _all(known))
        for label in labels
        if label not in known
    ]


def _all(known: Sequence[str]) -> str:
    return f" It knows {', '.join(known)}."
