"""DeepPCB (github tangsanli5201/DeepPCB, MIT): boards beside their clean templates.

A list (`trainval.txt`, `test.txt`) pairs `group/NNN/NAME.jpg` with `group/NNN_not/NAME.txt`; the pictures are
`NAME_test.jpg` and `NAME_temp.jpg`, the labels a defect a line: `x1 y1 x2 y2 class`, the class from 1 to 6.

Left out and counted: lines that are none, files that are missing, outside the folder or unreadable, boxes outside their
picture.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample
from detectors.datasets.files import OUTSIDE, climbs, is_file, is_inside, read_text, readable, relative
from pipeline.core.errors import InputError

LABELS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
LISTS = ("trainval.txt", "test.txt")


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
        if not is_inside(folder, file):
            raise InputError("leads outside the data set's folder", str(file))
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if line.strip():
                _read(reading, line.split(), f"{file.name}:{number}", names)
    return reading.done(LABELS)


def _read(reading: Reading, words: list[str], place: str, names: set[str]) -> None:
    if len(words) != 2 or any(climbs(word) or not PurePosixPath(word).name for word in words):
        reading.leave_out("malformed lines", f"{place} should name a picture and its labels, inside the folder")
        return
    picture, labels = reading.place / words[0], reading.place / words[1]
    part = picture.with_name(f"{picture.stem}_test{picture.suffix}")
    reference = picture.with_name(f"{picture.stem}_temp{picture.suffix}")
    for file in (part, reference, labels):
        if not is_file(file):
            reading.leave_out("missing files", f"{place} names {relative(reading, file)}, which is not there")
            return
        if not is_inside(reading.place, file):
            reading.leave_out(OUTSIDE, f"{place} names {relative(reading, file)!a}, which leads outside")
            return
    if picture.stem in names:
        reading.leave_out("duplicate names", f"{place} names {picture.stem} again")
        return
    names.add(picture.stem)
    size = readable(reading, part)
    if size is None:
        return
    try:
        lines = read_text(labels).splitlines()
    except InputError as error:
        reading.leave_out("unreadable labels", f"{relative(reading, labels)} {error.message}")
        return
    boxes: list[list[float]] = []
    classes: list[int] = []
    for row, line in enumerate(lines, 1):
        fault = _defect(line.replace(",", " ").split(), size, boxes, classes) if line.strip() else None
        if fault is not None:
            reading.leave_out("labels", f"{relative(reading, labels)}:{row} {fault}")
    reading.samples.append(
        Sample(
            name=picture.stem,
            file=part,
            group=PurePosixPath(words[0]).parts[0],
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            classes=np.array(classes, np.int64),
            reference=reference,
        )
    )


def _defect(words: list[str], size: tuple[int, int], boxes: list[list[float]], classes: list[int]) -> str | None:
    """Read one line about a picture of that width and height into the lists, or say what is wrong with it."""
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
