"""What a data set's readers take from disk, and what they do not: nothing outside its folder, nothing without a bound.

A data set comes from somebody else. A name in it that is absolute, that climbs (`..`), or that leads outside by a
symbolic link is refused, so that no list can make this program open what it was not given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from detectors.datasets.base import Reading
from detectors.datasets.headers import size_of
from pipeline.core.errors import InputError
from pipeline.core.pictures import SUFFIXES, BadPicture
from pipeline.core.yaml_text import plain_yaml

PARTS = frozenset({"train", "val", "valid", "validation", "test"})
"""Names of folders that say who a picture is for, not what it shows."""
LARGEST_TEXT = 64 << 20
LARGEST_YAML = 1 << 20
OUTSIDE = "paths that leave the folder"


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """UTF-8, with or without a byte order mark. Raises `InputError`, also for more than `largest` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(path)) from None
    if len(data) > largest:
        raise InputError(f"is larger than {largest >> 20} MiB", str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is no text in UTF-8", str(path)) from None


def read_yaml(path: Path) -> Any:
    """Plain data. Raises `InputError`."""
    return plain_yaml(read_text(path, LARGEST_YAML), str(path))


def is_inside(root: Path, path: Path) -> bool:
    """Whether `path` is still in `root` once every link was followed."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, a zero byte
        return False


def is_file(path: Path) -> bool:
    """False, too, for a name that no file could have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, not to be encoded
        return False


def climbs(name: str) -> bool:
    """Whether a name says by itself that it leaves its folder, on whichever system it was written."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return "\0" in name or ".." in windows.parts or posix.is_absolute() or bool(windows.drive or windows.root)


def subfolders(folder: Path) -> list[Path]:
    """Sorted; those that are hidden are other programs' business. Links are none."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and p.name[0] not in "._")


def is_picture(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in SUFFIXES


def files_under(reading: Reading, folder: Path, *, deep: bool = True) -> Iterator[Path]:
    """Every file in `folder` and, if `deep`, in the folders in it, sorted by name. Hidden ones are passed over; what
    leads outside, links to folders, and names that are no text are left out and counted."""
    for place, folders, names in os.walk(folder):
        for name in sorted(folders):
            if (Path(place) / name).is_symlink():  # walk does not follow it
                reading.leave_out("links to folders", f"{_shown(reading, Path(place) / name)} is a link to a folder")
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith("."):
                continue
            if not str(path).isprintable():
                reading.leave_out("names that are no text", f"{_shown(reading, path)} is no name to write down")
            elif path.is_symlink() and not is_inside(reading.place, path):
                reading.leave_out(OUTSIDE, f"{_shown(reading, path)} leads outside")
            else:
                yield path


def relative(reading: Reading, path: Path) -> str:
    """A path as a data set names it: from its folder on, with `/`."""
    return path.relative_to(reading.place).as_posix()


def readable(reading: Reading, path: Path) -> tuple[int, int] | None:
    """Width and height of the picture in `path`; None, and counted, where its header cannot be read."""
    try:
        return size_of(path)
    except BadPicture as error:
        reading.leave_out("unreadable pictures", f"{relative(reading, path)} {error}")
        return None


def _shown(reading: Reading, path: Path) -> str:
    return ascii(path.relative_to(reading.place).as_posix())
