"""Names of a model beside names of the data: which are the same, and which only say that something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.datasets.base import says_good
from pipeline.core.errors import InputError
from pipeline.core.records import Array

BAD = frozenset(
    {"bad", "defect", "defects", "defective", "anomaly", "anomalous", "suspicious"}
    | {"fault", "faulty", "ng", "nok", "fail", "reject", "damaged"}
)
"""Names of classes that say that something is wrong, and not what."""
ANYTHING = "defect"


@dataclass(frozen=True, slots=True)
class Matching:
    """`labels` are what both sides are counted in; `mine` `[M]` and `data` `[D]` give for each label of the model and
    of the data its index in them, -1 where it has none."""

    labels: tuple[str, ...]
    mine: Array
    data: Array


def says_no_more_than_bad(labels: Sequence[str]) -> bool:
    """Whether none of `labels` tells one fault from another."""
    return all(says_good(label) or label.casefold() in BAD for label in labels)


def matched(mine: Sequence[str], data: Sequence[str]) -> Matching:
    """By name, whatever the case; labels that say good are nothing that could be found. Where either side says no more
    than that something is wrong, all faults are one. Raises `InputError` where the model says what the data do not
    know: its findings could be neither right nor wrong."""
    if says_no_more_than_bad(mine) or says_no_more_than_bad(data):
        return Matching((ANYTHING,), _faults(mine), _faults(data))
    known = {label.casefold(): index for index, label in enumerate(data) if not says_good(label)}
    faults = [label for label in mine if not says_good(label)]
    strangers = [label for label in faults if label.casefold() not in known]
    if strangers:
        raise InputError(
            f"the labels do not fit: the model knows {', '.join(mine)}; the data know {', '.join(data)};"
            f" these hold no {', '.join(strangers)}",
            "--data",
        )
    shared = sorted(known[label.casefold()] for label in faults)
    place = {index: at for at, index in enumerate(shared)}
    return Matching(
        tuple(data[index] for index in shared),
        np.array([-1 if says_good(label) else place[known[label.casefold()]] for label in mine], np.int64),
        np.array([place.get(index, -1) for index in range(len(data))], np.int64),
    )


def _faults(labels: Sequence[str]) -> Array:
    return np.array([-1 if says_good(label) else 0 for label in labels], np.int64)
