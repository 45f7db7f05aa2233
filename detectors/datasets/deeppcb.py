"""DeepPCB (github tangsanli5201/DeepPCB, MIT): boards beside their clean templates.

A list (`trainval.txt`, `test.txt`) pairs `group/NNN/NAME.jpg` with `group/NNN_not/NAME.txt`; the pictures are
`NAME_test.jpg` and `NAME_temp.jpg`, the labels a defect a line: `x1 y1 x2 y2 class`, the class from 1 to 6.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample
from detectors.datasets.headers import size_of
from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture

LABELS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
LISTS = ("trainval.txt", "test.txt")
SIDE = 640


def fits(folder: Path) -> bool:
    """Whether there is a list of pairs. Other formats have a `test.txt`, too, with one name a line."""
    for name in LISTS:
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                return len(file.readline(4096).split()) == 2
    return False


def read_deeppcb(folder: Path) -> DataSet:
    """Every pair of whichever lists the folder holds; the group is the board's folder. Raises `InputError`."""
    lists = [folder / name for name in LISTS if (folder / name).is_file()]
    if not lists:
        raise InputError(f"holds neither {' nor '.join(LISTS)}, so it is no DeepPCB folder", str(folder))
    reading = Reading(folder)
    names: set[str] = set()
    for file in lists:
        for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), 1):
            if line.strip():
                _read(reading, line.split(), f"{file.name}:{number}", names)
    return reading.done(LABELS)


def _read(reading: Reading, words: list[str], place: str, names: set[str]) -> None:
    if len(words) != 2 or any(PurePosixPath(w).is_absolute() or ".." in w or not PurePosixPath(w).name for w in words):
        reading.leave_out("malformed lines", f"{place} should name a picture and its labels, inside the folder")
        return
    picture, labels = reading.place / words[0], reading.place / words[1]
    part = picture.with_name(f"{picture.stem}_test{picture.suffix}")
    reference = picture.with_name(f"{picture.stem}_temp{picture.suffix}")
    for file in (part, reference, labels):
        if not file.is_file():
            reading.leave_out("missing files", f"{place} names {file.relative_to(reading.place)}, which is not there")
            return
    if picture.stem in names:
        reading.leave_out("duplicate names", f"{place} names {picture.stem} again")
        return
    names.add(picture.stem)
    size = _size(part)
    boxes: list[list[float]] = []
    classes: list[int] = []
    for row, line in enumerate(labels.read_text("utf-8", "replace").splitlines(), 1):
        fault = _defect(line.replace(",", " ").split(), size, boxes, classes) if line.strip() else None
        if fault is not None:
            reading.leave_out("labels", f"{labels.relative_to(reading.place)}:{row} {fault}")
    reading.samples.append(
        Sample(
            name=picture.stem,
            picture=part,
            group=PurePosixPath(words[0]).parts[0],
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            classes=np.array(classes, np.int64),
            reference=reference,
        )
    )


def _size(part: Path) -> tuple[int, int]:
    """Of a board whose picture cannot be read, what they all have: whoever decodes it will say what is wrong."""
    try:
        return size_of(part)
    except BadPicture:
        return SIDE, SIDE


def _defect(words: list[str], size: tuple[int, int], boxes: list[list[float]], classes: list[int]) -> str | None:
    """Read one line into the lists, or say what is wrong with it."""
    try:
        x1, y1, x2, y2, kind = (int(word) for word in words)
    except ValueError:
        return "is not five whole numbers: x1 y1 x2 y2 class"
    if not 1 <= kind <= len(LABELS):
        return f"has the class {kind}; classes are 1 to {len(LABELS)}"
    if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):
        return f"has a box outside the picture of {size[0]}×{size[1]}, or none at all"
    boxes.append([x1, y1, x2, y2])
    classes.append(kind - 1)
    return None


FORMAT = Format("trainval.txt or test.txt, lists of pairs of a picture and its labels", fits, read_deeppcb)
