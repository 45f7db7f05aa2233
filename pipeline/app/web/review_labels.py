"""What may be said of a picture or a message: labels and boxes, as a data set takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from detectors.datasets.base import says_good
from pipeline.app.web.reviewed import Doubt, Label

Tells: TypeAlias = Literal["places", "whole", "either"]
"""Whether a cascade says where things are, or has one word on the whole; `either` where nobody knows it any more."""

_ROUNDING = 0.5  # pixels that a box may lie outside, as rounded boxes do
_LONGEST_LABEL = 100


class Wrong(ValueError):
    """A decision that cannot be. `place` says which part of it."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def detection(annotation: Mapping[str, Any], label: object) -> Label:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
    if not isinstance(label, str) or not _is_safe(label):
        raise ValueError("no label")
    found: Label = {"label": label}
    if isinstance(annotation.get("score"), (int, float)):
        found["score"] = float(annotation["score"])
    if annotation.get("whole") is not True:
        x, y, width, height = (float(side) for side in annotation["bbox"])
        found["box"] = [x, y, round(x + width, 3), round(y + height, 3)]
    return found


def as_said(doubt: Doubt) -> list[Label]:
    """The models' own word, as somebody vouches for it: without scores, within the picture; of words on the whole the
    surest."""
    placed = [one for one in doubt.detections if "box" in one]
    whole = sorted((one for one in doubt.detections if "box" not in one), key=lambda one: -one.get("score", 0.0))
    there: list[Label] = []
    for one in placed:
        x1, y1, x2, y2 = _clipped(one["box"], doubt)
        found = {"label": one["label"], "box": [x1, y1, x2, y2]}
        if x2 - x1 >= 1 and y2 - y1 >= 1 and found not in there:
            there.append(found)
    if not placed:
        there += [{"label": one["label"]} for one in whole[:1] if not says_good(one["label"])]
    return there


def checked(doubt: Doubt, detections: Sequence[Label], tells: Tells) -> list[Label]:
    """What somebody says is there, each thing once; a thing that says that all is good is nothing. Raises `Wrong`."""
    known = [*doubt.labels, *(one["label"] for one in doubt.detections)]
    there: list[Label] = []
    for index, one in enumerate(detections):
        place = f"detections.{index}"
        label = _label(str(one["label"]), known, f"{place}.label")
        box = one.get("box")
        if box is None and says_good(label):
            continue  # what shows nothing has no label
        if box is None and tells == "places":
            raise Wrong(f"{place}.box", f"where is the {label}? x1, y1, x2, y2 in pixels of the picture")
        if box is not None and tells == "whole":
            raise Wrong(f"{place}.box", "this cascade tells no places: take the box away")
        found: Label = {"label": label}
        if box is not None:
            found["box"] = _inside(box, doubt, f"{place}.box")
        if found not in there:
            there.append(found)
    if tells == "whole" and len(there) > 1:
        raise Wrong("detections", "this cascade has one word on the whole: name one label, or none")
    return there


def _inside(box: Sequence[float], doubt: Doubt, place: str) -> list[float]:
    x1, y1, x2, y2 = box
    least, most = -_ROUNDING, _ROUNDING
    if not (least <= x1 and x2 <= doubt.width + most and least <= y1 and y2 <= doubt.height + most):
        raise Wrong(place, f"lies outside the picture, which is {doubt.width}×{doubt.height}")
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise Wrong(place, "is x1, y1, x2, y2 with x1 < x2 and y1 < y2, a pixel wide and high at least")
    return _clipped(box, doubt)


def _clipped(box: Sequence[float], doubt: Doubt) -> list[float]:
    x1, y1, x2, y2 = box
    return [
        round(min(max(side, 0.0), float(most)), 3)
        for side, most in ((x1, doubt.width), (y1, doubt.height), (x2, doubt.width), (y2, doubt.height))
    ]


def _label(label: str, known: Sequence[str], place: str) -> str:
    """Raises `Wrong` for one that could not stand in a data set, or is but a slip of a known one."""
    if label in known:
        return label
    if not _is_safe(label):
        raise Wrong(place, f"a label is up to {_LONGEST_LABEL} letters without control characters or blanks around it")
    same = next((one for one in known if one.casefold() == label.casefold()), None)
    if same is not None:
        raise Wrong(place, f'is written "{same}"')
    return label


def _is_safe(label: str) -> bool:
    return bool(label) and len(label) <= _LONGEST_LABEL and label.isprintable() and label.strip() == label
