"""Scores of bad against scores of good: how well they are told apart, whatever the threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.core.records import Array, Findings


def auroc(bad: Array, good: Array) -> float:
    """The chance that a bad one scores above a good one, ties counted half; NaN where there are none of either."""
    if not len(bad) or not len(good):
        return float("nan")
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, "left")
    equal = np.searchsorted(ordered, bad, "right") - below
    return float((below + equal / 2).sum() / (len(bad) * len(good)))


def suspicion(findings: Findings, good: Sequence[str] = ()) -> float:
    """Of one part: the highest score of a box, or the sum over the labels that are not `good` where a score speaks of
    the whole."""
    if findings.boxes is not None:
        return float(findings.scores.max(initial=0.0))
    bad = [index for index, kind in enumerate(findings.classes) if findings.labels[int(kind)] not in good]
    return float(findings.scores[bad].sum())


def named(findings: Findings, boxes: Array) -> Array:
    """For each of `boxes` `[n, 4]`: the highest score among findings whose middle lies in it, 0 where there is none."""
    assert findings.boxes is not None
    x = (findings.boxes[:, 0] + findings.boxes[:, 2]) / 2
    y = (findings.boxes[:, 1] + findings.boxes[:, 3]) / 2
    inside = (x >= boxes[:, :1]) & (x <= boxes[:, 2:3]) & (y >= boxes[:, 1:2]) & (y <= boxes[:, 3:])
    scores: Array = np.where(inside, findings.scores, 0.0).max(1, initial=0.0)
    return scores
