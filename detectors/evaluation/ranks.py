"""Findings by the places that they speak of."""

from __future__ import annotations

import numpy as np

from pipeline.core.records import Array, Findings


def named(findings: Findings, boxes: Array) -> Array:
    """For each of `boxes` `[n, 4]`: the highest score among findings whose middle lies in it, 0 where there is none."""
    assert findings.boxes is not None
    x = (findings.boxes[:, 0] + findings.boxes[:, 2]) / 2
    y = (findings.boxes[:, 1] + findings.boxes[:, 3]) / 2
    inside = (x >= boxes[:, :1]) & (x <= boxes[:, 2:3]) & (y >= boxes[:, 1:2]) & (y <= boxes[:, 3:])
    scores: Array = np.where(inside, findings.scores, 0.0).max(1, initial=0.0)
    return scores
