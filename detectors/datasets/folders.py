"""Pictures sorted into folders, a folder a class.

    parts/                      parts/
      good/ 0001.jpg …            train/ good/ … bad/ …
      bad/  dent/0007.jpg …       val/   good/ … bad/ …
                                  test/  good/ … bad/ …

The name of a folder is the name of its class; whichever of them say that nothing is wrong (`good`, `ok`, `free` and
their like: `base.GOOD`) come first among the labels, the others follow, both sorted. Pictures may lie
deeper in a class's folder. With a level `train`, `val` (or `valid`, `validation`), `test` above, that is a picture's
group; without one, each picture stands for itself. A sample is named by its path from the folder on.

Files that are no pictures, pictures outside every class, those whose header cannot be read and those that a link brings
in from outside are left out and counted. A class without a picture is a mistake, not a class.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectors.datasets.base import DataSet, Format, Reading, Sample, says_good
from detectors.datasets.files import PARTS, files_under, is_picture, readable, relative, subfolders
from pipeline.core.errors import InputError


def fits(folder: Path) -> bool:
    """Whether some folder in it holds a picture."""
    return any(map(is_picture, (file for sub in subfolders(folder) for file in sub.rglob("*"))))


def read_folders(folder: Path) -> DataSet:
    """Raises `InputError`, which names the class where one is empty."""
    reading = Reading(folder)
    found: dict[str, list[Sample]] = {}
    for part, place in _parts(folder):
        for file in filter(is_picture, files_under(reading, place, deep=False)):
            reading.leave_out("pictures outside a class", f"{relative(reading, file)} lies in no class's folder")
        for sub in subfolders(place):
            found.setdefault(sub.name, []).extend(_class(reading, sub, part))
    labels = _good_first(found)
    if len({label.lower() for label in labels}) < len(labels):
        raise InputError(f"has classes whose names differ only in case: {', '.join(labels)}", str(folder))
    for index, label in enumerate(labels):
        for sample in found[label]:
            sample.classes[:] = index
            reading.samples.append(sample)
    return reading.done(labels)


def _good_first(labels: dict[str, list[Sample]]) -> list[str]:
    return sorted(labels, key=lambda label: (not says_good(label), label))


def _parts(folder: Path) -> list[tuple[str, Path]]:
    """The folders that hold classes, each with its group."""
    names = [sub.name for sub in subfolders(folder)]
    parts = [name for name in names if name.lower() in PARTS]
    if not parts:
        return [("", folder)]
    if others := [name for name in names if name not in parts]:
        raise InputError(
            f'holds "{parts[0]}" beside "{others[0]}": either all folders are parts, or none is', str(folder)
        )
    return [(name, folder / name) for name in names]


def _class(reading: Reading, folder: Path, group: str) -> list[Sample]:
    samples: list[Sample] = []
    for file in files_under(reading, folder):
        name = relative(reading, file)
        if not is_picture(file):
            reading.leave_out("no pictures", f"{name} is no picture")
        elif readable(reading, file) is not None:
            samples.append(Sample(name, file, group, classes=np.zeros(1, np.int64)))
    if not samples:
        raise InputError(f'the class "{folder.name}" is an empty class: it has no readable picture', str(folder))
    return samples


FORMAT = Format("a folder of pictures for each class", fits, read_folders)
