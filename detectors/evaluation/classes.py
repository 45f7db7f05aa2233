"""Figures of verdicts without a place: one class, or one score, for each unit. None stands for what nobody could say,
because there was nothing to count."""

from __future__ import annotations

import numpy as np

from pipeline.core.records import Array


def share(part: float, of: float) -> float | None:
    return None if of == 0 else float(part) / float(of)


def auroc(scores: Array, positive: Array) -> float | None:
    """How likely a positive has the larger score of it and a negative, ties half: float `[n]`, bool `[n]`."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks = ((last - count + 1 + last) / 2)[place]  # from 1, the mean of those that tie
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def confusion(true: Array, said: Array, classes: int) -> Array:
    """int `[classes, classes]`: how often what truly is the row's was said to be the column's."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (true, said), 1)
    return table


def accuracy(table: Array) -> float | None:
    return share(np.trace(table), table.sum())


def f1_weighted(table: Array) -> float | None:
    """The mean over classes of F, each weighted by how often it truly is; F is 0 where nothing was right."""
    true, said, right = table.sum(1), table.sum(0), np.diag(table)
    f = np.divide(2.0 * right, true + said, out=np.zeros(len(table)), where=right > 0)
    return share(float((f * true).sum()), float(true.sum()))


def precision_recall(scores: Array, positive: Array) -> tuple[Array, Array, Array]:
    """At each score that occurs, largest first: the score, precision and recall with all from there on, `[k]` each."""
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    return ranked[last], right[last] / (last + 1), right[last] / max(int(positive.sum()), 1)
