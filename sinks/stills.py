"""Single pictures on disk: encoded, named after their windows, and never there in part."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from pipeline.core.contracts import Picture
from pipeline.core.errors import FrameGone
from pipeline.core.files import UNFINISHED, write_whole
from pipeline.core.pictures import Kind, encode
from pipeline.core.records import Array, Window

_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")
_LONGEST = 80
_OURS = re.compile(r"[A-Za-z0-9._-]+_[A-Za-z0-9.-]+_\d{8,}\.(png|jpg)")


def file_name(window: Window, kind: Kind) -> str:
    """`door_01K…_00001234.png`: the window's id, by letters that every file system takes."""
    stream, epoch = (_UNFIT.sub("-", text).strip("-.")[:_LONGEST] or "-" for text in (window.stream, window.epoch))
    return f"{stream}_{epoch}_{window.seq:08}.{kind}"


def is_ours(path: Path) -> bool:
    """Whether `path` could be a picture that a sink named: nothing else is ever removed."""
    return _OURS.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def sweep(folder: Path) -> None:
    """Remove what a killed program left half-written in `folder`."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            path.unlink()


def pixels_of(picture: Picture, max_width: int | None = None) -> Array | None:
    """The picture's own pixels, uint8 RGB `[h, w, 3]`, or None where it is no longer held."""
    if picture.image is None:
        return None
    try:
        return picture.image.rgb(max_width)
    except FrameGone:
        return None


__all__ = ["Kind", "encode", "file_name", "is_ours", "pixels_of", "sweep", "write_whole"]
