"""A data set in two, so that what one half teaches cannot be recognised in the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.datasets.base import DataSet, Sample
from pipeline.core.errors import InputError
from pipeline.core.records import Array

_ORDERS = 64  # in which groups are dealt out; the one that comes closest is taken


def split(data: DataSet, share: float, seed: int = 0) -> tuple[DataSet, DataSet]:
    """The rest, and about `share` (more than 0, less than 1) of the samples held out.

    All samples of a group are on one side; a sample without one is a group by itself. The share is aimed at among good
    and bad samples apart, and met to one sample where groups are single samples. The same samples, share and seed give
    the same sides, whatever the order of the samples. No side is empty. Raises `InputError` where that cannot be.
    """
    if not 0 < share < 1:
        raise InputError(f"the share to hold out has to lie between 0 and 1; it is {share}")
    groups: dict[tuple[str, str], Array] = {}
    for sample in data.samples:
        count = groups.setdefault(_group(sample), np.zeros(2, np.int64))
        count[int(data.bad(sample))] += 1
    if len(groups) < 2:
        raise InputError(f"all {len(data)} samples are of one group, so none can be held out")
    keys = sorted(groups)
    held = {keys[index] for index in _dealt(np.array([groups[key] for key in keys]), share, seed)}
    return data.where(lambda s: _group(s) not in held), data.where(lambda s: _group(s) in held)


def _group(sample: Sample) -> tuple[str, str]:
    return (sample.group, "") if sample.group else ("", sample.name)


def _dealt(counts: Array, share: float, seed: int) -> Sequence[int]:
    """Of int `[n, 2]`, the good and bad samples of each group, the rows to hold out."""
    total = counts.sum(0)
    aim = share * total
    weight = 1 / np.maximum(total, 1)
    rng = np.random.default_rng(seed)
    best: tuple[float, list[int]] | None = None
    for _ in range(_ORDERS):
        held = _once(counts, rng.permutation(len(counts)), aim, weight)
        off = np.abs(counts[held].sum(0) - aim)
        distance = float(((off * weight) ** 2).sum())
        if best is None or distance < best[0]:
            best = distance, held
        if (off < 1).all():
            break
    assert best is not None
    return best[1]


def _once(counts: Array, order: Array, aim: Array, weight: Array) -> list[int]:
    """Take each group that brings the sum nearer to the aim; at least one, and not all."""
    held: list[int] = []
    gap = aim.astype(float)
    for index in order:
        left = gap - counts[index]
        if ((left * weight) ** 2).sum() < ((gap * weight) ** 2).sum() and len(held) < len(counts) - 1:
            held.append(int(index))
            gap = left
    return held or [int(order[0])]
