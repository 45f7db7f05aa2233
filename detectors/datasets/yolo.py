"""Boxes in the format of YOLO (Ultralytics, Roboflow): a text file a picture.

    boards/                                 boards/
      data.yaml                               classes.txt            a name a line
      images/train/1.jpg … val/9.jpg …        images/1.jpg …
      labels/train/1.txt … val/9.txt …        labels/1.txt …

`data.yaml` (or the only `.yaml` with `names`) has `names` (a list, or a mapping from 0 on), maybe their number `nc`,
and where the pictures are: `train`, `val`, `test`, each a folder, a list in a `.txt`, or several of those. Paths start
from the folder, or from `path` inside it. `../train/images`, as Roboflow writes for `train/images`, is read as what it
means; nothing else that leaves the folder is. Without a YAML, all of `images/` is read, and `classes.txt` holds the
names. The part (`train`, `val`, `test`) is a picture's group; without one, each picture stands for itself.

The labels of `…/images/…/1.jpg` are in `…/labels/…/1.txt`, or beside the picture where no folder is called `images`. A
line is `class cx cy w h`: the class from 0, the box's middle and sides as shares of the picture as it is shown, turned
upright where the camera was held sideways. A box that rounding put up to a pixel outside is cut off there. A picture
without labels, or without a file of them, shows nothing; how many have no file is said.

Left out and counted: lines that are not five numbers, classes out of range, boxes further outside, empty ones, lines
written twice, labels without a picture, pictures that are missing, unreadable, listed twice or outside the folder, and
of two pictures with one file of labels (`1.jpg`, `1.png`) the second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectors.datasets.base import DataSet, Format, Reading, Sample
from detectors.datasets.boxes import Boxes, unseen_told
from detectors.datasets.files import (
    OUTSIDE,
    climbs,
    files_under,
    is_file,
    is_inside,
    is_picture,
    read_text,
    read_yaml,
    readable,
    relative,
)
from pipeline.core.errors import InputError

PARTS = ("train", "val", "test")
_WHOLE = 1e-9  # how far a class number written as 3.0 may be from a whole one


def fits(folder: Path) -> bool:
    """Whether there is a YAML with `names`, or pictures, labels and their names."""
    plain = (folder / "images").is_dir() and (folder / "labels").is_dir() and (folder / "classes.txt").is_file()
    return plain or any(file.stem == "data" or _has_names(file) for file in _yamls(folder))


def read_yolo(folder: Path) -> DataSet:
    """Raises `InputError` where neither layout is there, or the names are none."""
    reading = _Reading(Reading(folder))
    yaml = _yaml(folder)
    if yaml is not None:
        document = read_yaml(yaml)
        if not isinstance(document, dict):
            raise InputError("is not a mapping with `names`, `train` and `val`", str(yaml))
        labels = _names(document, str(yaml))
        parts = _parts(folder, document, str(yaml))
        for part, place in parts:
            reading.read(place, part, len(labels))
    else:
        names = folder / "classes.txt"
        if not (names.is_file() and (folder / "images").is_dir() and (folder / "labels").is_dir()):
            raise InputError("holds neither data.yaml nor images/, labels/ and classes.txt", str(folder))
        labels = _checked([line.strip() for line in read_text(names).splitlines() if line.strip()], str(names))
        reading.read(folder / "images", "", len(labels))
    return reading.done(labels)


def _yamls(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in {".yaml", ".yml"} and file.is_file())


def _has_names(file: Path) -> bool:
    try:
        document = read_yaml(file)
    except InputError:
        return False
    return isinstance(document, dict) and "names" in document


def _yaml(folder: Path) -> Path | None:
    files = _yamls(folder)
    files = [file for file in files if file.stem == "data"] or [file for file in files if _has_names(file)]
    if len(files) > 1:
        raise InputError(f"holds several: {', '.join(file.name for file in files)}", str(folder))
    if files and not is_inside(folder, files[0]):
        raise InputError("leads outside the data set's folder", str(files[0]))
    return files[0] if files else None


def _names(document: dict[Any, Any], place: str) -> list[str]:
    names, number = document.get("names"), document.get("nc")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise InputError(f"`names` has to count from 0 to {len(names) - 1} without a gap", place)
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        raise InputError("`names` has to be a list of names, or a mapping from 0 on", place)
    if number is not None and number != len(names):
        raise InputError(f"`nc` says {number!s:.20} classes, `names` has {len(names)}", place)
    return _checked([str(name).strip() for name in names], place)


def _checked(names: list[str], place: str) -> list[str]:
    if not names or not all(names):
        raise InputError("has no names, or an empty one", place)
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise InputError(f'has the name "{twice[0]}" twice', place)
    return names


def _parts(folder: Path, document: dict[Any, Any], place: str) -> list[tuple[str, Path]]:
    """Folders and lists of pictures, each with its part. Raises `InputError` for one that is not there."""
    root = folder
    if document.get("path") not in (None, "", "."):
        root = _within(folder, folder, document["path"], f"{place}: path")
    parts: list[tuple[str, Path]] = []
    for part in PARTS:
        given = document.get(part)
        for name in given if isinstance(given, list) else [given]:
            if name in (None, ""):
                continue
            parts.append((part, _within(folder, root, name, f"{place}: {part}")))
    if not parts:
        raise InputError("names no pictures: train, val and test are all empty", place)
    return parts


def _within(folder: Path, root: Path, name: Any, place: str) -> Path:
    if not isinstance(name, str):
        raise InputError("has to be a path", place)
    inner = name.removeprefix("../")
    if inner != name and (climbs(inner) or not (root / inner).exists()):
        raise InputError(f"{name!a} leaves the data set's folder; paths start from it", place)
    if climbs(inner) or not is_inside(folder, root / inner):
        raise InputError(f"{name!a} leaves the data set's folder; paths start from it", place)
    if not (root / inner).exists():
        raise InputError(f"there is no {inner!a} in {root}", place)
    return root / inner


@dataclass(slots=True)
class _Reading:
    reading: Reading
    names: set[str] = field(default_factory=set)
    labels: set[Path] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    without: int = 0

    def read(self, place: Path, part: str, classes: int) -> None:
        for file in self._pictures(place):
            self._picture(file, part, classes)

    def done(self, names: list[str]) -> DataSet:
        for folder in sorted(self.folders):
            for file in sorted(folder.glob("*.txt")):
                if file not in self.labels and file.name != "classes.txt":
                    called = relative(self.reading, file)
                    self.reading.leave_out("labels of no picture", f"{called} belongs to no picture")
        if not self.labels:
            raise InputError("has no file of labels for any of its pictures", str(self.reading.place))
        if self.without:
            self.reading.remarks.append(f"pictures without a file of labels, taken to show nothing: {self.without}")
        return unseen_told(self.reading, names)

    def _pictures(self, place: Path) -> Iterator[Path]:
        if place.is_dir():
            yield from filter(is_picture, files_under(self.reading, place))
            return
        if not place.is_file():  # a pipe would be waited for
            raise InputError("is neither a folder nor a list of pictures", str(place))
        for number, line in enumerate(read_text(place).splitlines(), 1):
            name = line.strip().removeprefix("./")
            if not name:
                continue
            where = f"{relative(self.reading, place)}:{number}"
            found = [root / name for root in (self.reading.place, place.parent)] if not climbs(name) else []
            file = next((path for path in found if is_file(path)), None)
            if not found or (file is not None and not is_inside(self.reading.place, file)):
                self.reading.leave_out(OUTSIDE, f"{where} names {name!a}")
            elif file is None:
                self.reading.leave_out("missing pictures", f"{where} names {name!a}, which is not there")
            else:
                yield file

    def _picture(self, file: Path, part: str, classes: int) -> None:
        called = relative(self.reading, file)
        if called in self.names:
            self.reading.leave_out("duplicate names", f"{called} is listed twice")
            return
        self.names.add(called)
        labels = self._labels(file)
        if labels in self.labels:
            self.reading.leave_out("duplicate names", f"{called} shares its labels with another picture")
            return
        there = labels.is_file()
        if there:
            self.labels.add(labels)
            self.folders.add(labels.parent)
        size = readable(self.reading, file)
        if size is None:
            return
        if there and not is_inside(self.reading.place, labels):
            self.reading.leave_out(OUTSIDE, f"{relative(self.reading, labels)!a} leads outside")
            return
        self.without += not there
        boxes = Boxes(*size)
        try:
            lines = read_text(labels).splitlines() if there else []
        except InputError as error:
            self.reading.leave_out("unreadable labels", f"{relative(self.reading, labels)} {error.message}")
            return
        for row, line in enumerate(lines, 1):
            fault = _taken(boxes, line.split(), classes) if line.strip() else None
            if fault is not None:
                self.reading.leave_out(fault[0], f"{relative(self.reading, labels)}:{row} {fault[1]}")
        corners, kinds = boxes.arrays()
        self.reading.samples.append(Sample(called, file, part, corners, kinds))

    def _labels(self, file: Path) -> Path:
        """The last folder called `images` becomes `labels`."""
        folders = list(file.relative_to(self.reading.place).parts)
        for index in reversed(range(len(folders) - 1)):
            if folders[index] == "images":
                folders[index] = "labels"
                break
        return self.reading.place.joinpath(*folders).with_suffix(".txt")


def _taken(boxes: Boxes, words: list[str], classes: int) -> tuple[str, str] | None:
    try:
        kind, x, y, width, height = map(float, words)
    except ValueError:
        return "labels that are no numbers", "is not five numbers: class cx cy w h"
    if not 0 <= kind < classes or abs(kind - round(kind)) > _WHOLE:
        return "labels out of range", f"has the class {kind:g}; classes are 0 to {classes - 1}"
    x, y, width, height = x * boxes.width, y * boxes.height, width * boxes.width, height * boxes.height
    return boxes.add(x - width / 2, y - height / 2, x + width / 2, y + height / 2, round(kind))


FORMAT = Format("data.yaml with names, or images/, labels/ and classes.txt", fits, read_yolo)
