"""Boxes in COCO's detection format: one JSON document for all pictures.

    boards/                        boards/                                  boards/
      annotations.json               annotations/instances_train2017.json     train/_annotations.coco.json, 1.jpg …
      images/1.jpg …                 annotations/instances_val2017.json       valid/_annotations.coco.json, 9.jpg …
                                     train2017/1.jpg … val2017/9.jpg …

The document is `annotations.json`, `_annotations.coco.json`, `instances_*.json`, or the only `.json`; it lies in the
folder or in its `annotations/`, or there is one in each of `train/`, `val/` (`valid/`), `test/`. Several are read as
one data set; then the part (`train`, `val2017`) is a picture's group, else each picture stands for itself. Pictures lie
where their `file_name` says: from the document, from the folder, from `images/`, or from the part's folder on.

`categories` may have any ids; labels are their names in the order of their ids, and a class is the place in that list.
Several documents must agree on them. `bbox` is `[x, y, width, height]` in pixels of the picture as it is shown, turned
upright where the camera was held sideways; a box that rounding put up to a pixel outside is cut off there.

An annotation with `"whole": true` whose box still spans its picture is a word on the whole, as the `doubts` sink writes
down what a model said without a place: the picture has a class then and no box, that of its surest word (by `score`).
Where no picture has a box but some such a word, those without one are good: of the category that says so (`good`, `ok`,
…; `good` where none does), which comes first among the labels. Where pictures have boxes, a word on the whole tells no
place: it is left out, and so is a picture of which nothing else is known.

Left out and counted: crowds (`iscrowd`), boxes further outside, empty ones, numbers that are none, labels written
twice, annotations of an unknown picture or category, pictures that are missing, unreadable, of another size than
stated, named twice, or outside the folder. A picture without annotations is one that shows nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample, says_good
from detectors.datasets.boxes import SLACK, Boxes, unseen_told
from detectors.datasets.files import (
    OUTSIDE,
    PARTS,
    climbs,
    is_file,
    is_inside,
    read_text,
    readable,
    relative,
    subfolders,
)
from pipeline.core.errors import InputError

LARGEST = 512 << 20
_NAMES = ("annotations.json", "_annotations.coco.json")


def fits(folder: Path) -> bool:
    """Whether a document lies where one is looked for."""
    return bool(documents(folder))


def documents(folder: Path) -> list[tuple[str, Path]]:
    """Each with the part that it describes, empty where there is only one. Raises nothing."""
    for place in (folder, folder / "annotations"):
        if found := _in(place):
            several = len(found) > 1
            return [(file.stem.removeprefix("instances_") if several else "", file) for file in found]
    parts = [(sub.name, found) for sub in subfolders(folder) if sub.name.lower() in PARTS and (found := _in(sub))]
    return [(part, file) for part, found in parts for file in found[:1]]


def _in(place: Path) -> list[Path]:
    files = sorted(file for file in place.glob("*.json") if file.is_file())
    for name in _NAMES:
        if place / name in files:
            return [place / name]
    if instances := [file for file in files if file.name.startswith("instances_")]:
        return instances
    return files if len(files) == 1 else []


def read_coco(folder: Path) -> DataSet:
    """Raises `InputError` where there is no document, or one is not what it should be."""
    reading = Reading(folder)
    found = documents(folder)
    if not found:
        raise InputError(f"holds none of {', '.join(_NAMES)}, instances_*.json, so it is no COCO data set", str(folder))
    labels: list[str] | None = None
    names: set[str] = set()
    for part, file in found:
        document = _Document(reading, part, file, names)
        if labels is not None and document.labels != labels:
            raise InputError(f"has other categories than {found[0][1].name}", str(file))
        labels = document.labels
        document.read()
    assert labels is not None
    return unseen_told(reading, _of_the_whole(reading, labels))


def _of_the_whole(reading: Reading, labels: list[str]) -> list[str]:
    """Makes sense of words on the whole, see above; returns the labels."""
    samples = reading.samples
    worded = [sample for sample in samples if len(sample.classes) > len(sample.boxes)]
    if not worded:
        return labels
    if any(len(sample.boxes) for sample in samples):
        for sample in worded:
            reading.leave_out("words on the whole", f"{sample.name} has a label without a place, and others have boxes")
        reading.samples = [sample for sample in samples if len(sample.classes) == len(sample.boxes)]
        return labels
    good = next((label for label in labels if says_good(label)), "good")
    order = [good, *(label for label in labels if label != good)]
    reading.samples = [
        replace(sample, classes=np.array([order.index(labels[kind]) for kind in sample.classes] or [0], np.int64))
        for sample in samples
    ]
    return order


class _Document:
    def __init__(self, reading: Reading, part: str, file: Path, names: set[str]) -> None:
        self.reading, self.part, self.file, self.names = reading, part, file, names
        self.place = relative(reading, file)
        if not is_inside(reading.place, file):
            raise InputError("leads outside the data set's folder", str(file))
        self.document = _load(file)
        for key in ("images", "annotations", "categories"):
            if not isinstance(self.document.get(key), list):
                raise InputError(f"has no list `{key}`, so it is no COCO detection data set", str(file))
        self.labels, self.kinds = self._categories()

    def _categories(self) -> tuple[list[str], dict[int, int]]:
        """Names in the order of their ids, and each id's place among them."""
        found: dict[int, str] = {}
        known: set[str] = set()
        for entry in self.document["categories"]:
            number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
            if not _is_id(number) or not isinstance(name, str) or not name.strip():
                raise InputError("has a category without a whole number `id` and a `name`", str(self.file))
            if number in found or name in known:
                raise InputError(f'has the category {number} "{name}" twice', str(self.file))
            found[number] = name
            known.add(name)
        if not found:
            raise InputError("has no categories", str(self.file))
        numbers = sorted(found)
        return [found[number] for number in numbers], {number: index for index, number in enumerate(numbers)}

    def read(self) -> None:
        labels = self._annotations()
        known: set[int] = set()
        for index, entry in enumerate(self.document["images"]):
            number = entry.get("id") if isinstance(entry, dict) else None
            name = entry.get("file_name") if isinstance(entry, dict) else None
            if not _is_id(number) or not isinstance(name, str) or not name:
                self.reading.leave_out("malformed entries", f"{self.place}: images[{index}] has no id or no file_name")
            elif number in known:
                self.reading.leave_out("duplicate names", f"{self.place}: two pictures have the id {number}")
            else:
                known.add(number)
                mine = labels.pop(number, [])
                if not self._picture(name, entry, mine) and mine:
                    self.reading.left_out["labels of pictures left out"] += len(mine)
        for number, orphans in labels.items():
            for _ in orphans:
                self.reading.leave_out("labels of no picture", f"{self.place}: a label is of the picture {number}")

    def _annotations(self) -> dict[int, list[dict[str, Any]]]:
        """Those that can be used, by picture."""
        labels: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for index, entry in enumerate(self.document["annotations"]):
            where = f"{self.place}: annotations[{index}]"
            if not isinstance(entry, dict) or not _is_id(entry.get("image_id")):
                self.reading.leave_out("malformed entries", f"{where} has no image_id")
            elif entry.get("iscrowd"):
                self.reading.leave_out("crowds", f"{where} is a crowd")
            elif not _is_id(entry.get("category_id")) or entry["category_id"] not in self.kinds:
                self.reading.leave_out("labels out of range", f"{where} has an unknown category_id")
            else:
                labels[entry["image_id"]].append(entry)
        return labels

    def _picture(self, name: str, entry: dict[str, Any], labels: list[dict[str, Any]]) -> bool:
        file = self._found(name)
        if file is None:
            return False
        called = relative(self.reading, file)
        size = readable(self.reading, file)
        if size is None:
            return False
        stated = (entry.get("width"), entry.get("height"))
        if None not in stated and stated != size:
            said = "{}×{}, not {}×{}".format(*size, *stated)
            self.reading.leave_out("pictures of another size", f"{called} is {said!s:.60}")
            return False
        boxes = Boxes(*size)
        words: list[tuple[float, int]] = []
        for label in labels:
            if _spans(label, size):
                words.append((_sure(label), -self.kinds[label["category_id"]]))
                continue
            fault = _taken(boxes, label.get("bbox"), self.kinds[label["category_id"]])
            if fault is not None:
                self.reading.leave_out(fault[0], f"{called} {fault[1]}")
        corners, classes = boxes.arrays()
        if words and not len(corners):
            classes = np.array([-max(words)[1]], np.int64)  # of two that are as sure the first category
        for _ in words[: len(words) if len(corners) else len(words) - 1]:
            self.reading.leave_out("words on the whole", f"{called} has a label without a place beside another one")
        self.reading.samples.append(Sample(called, file, self.part, corners, classes))
        return True

    def _found(self, name: str) -> Path | None:
        """Where the picture is, if it may be read."""
        root = self.reading.place
        places = [self.file.parent, self.file.parent / "images", root, root / "images"]
        if self.part:
            places += [root / self.part, root / "images" / self.part]
        outside = climbs(name)
        file = None if outside else next((p / name for p in places if is_file(p / name)), None)
        if outside or (file is not None and not is_inside(root, file)):
            self.reading.leave_out(OUTSIDE, f"{self.place} names {name!a}")
            return None
        if file is None:
            self.reading.leave_out("missing pictures", f"{self.place} names {name!a}, which is not there")
            return None
        called = relative(self.reading, file)
        if called in self.names:
            self.reading.leave_out("duplicate names", f"{self.place} names {called} again")
            return None
        self.names.add(called)
        return file


def _taken(boxes: Boxes, bbox: Any, kind: int) -> tuple[str, str] | None:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(type(value) in {int, float} for value in bbox):
        return "labels that are no numbers", "has a bbox that is not four numbers: x y width height"
    try:
        x, y, width, height = map(float, bbox)
    except OverflowError:
        return "labels that are no numbers", "has a bbox with a number beyond all bounds"
    return boxes.add(x, y, x + width, y + height, kind)


def _spans(label: dict[str, Any], size: tuple[int, int]) -> bool:
    """Whether it speaks of the whole picture. Whoever drew its box smaller has said where."""
    bbox = label.get("bbox")
    if label.get("whole") is not True or not isinstance(bbox, list) or len(bbox) != 4:
        return False
    return all(
        type(side) in {int, float} and abs(side - whole) <= SLACK
        for side, whole in zip(bbox, (0, 0, *size), strict=True)
    )


def _sure(label: dict[str, Any]) -> float:
    score = label.get("score")
    return float(score) if isinstance(score, (int, float)) and 0 <= score <= 1 else 1.0


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _load(file: Path) -> dict[str, Any]:
    text = read_text(file, LARGEST)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg}", f"{file}:{error.lineno}") from None
    except (RecursionError, ValueError):
        raise InputError(
            "is no JSON that can be read: it is nested too deeply, or a number is too long", str(file)
        ) from None
    if not isinstance(document, dict):
        raise InputError("is not a mapping with images, annotations and categories", str(file))
    return document


FORMAT = Format("annotations.json, _annotations.coco.json, instances_*.json or a single .json", fits, read_coco)
