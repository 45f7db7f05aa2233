"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import InputError

UNFINISHED = ".unfinished"


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace `path` by `data`: whoever looks, also after a loss of power, finds all of it or what was there before.
    `private`: nobody but this user may read it. Raises `OSError`."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """The name of a new file survives a loss of power only once its folder is on the disk. Raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def save_text(path: Path, text: str) -> None:
    """The same for a file that a person asked for. Raises `InputError`."""
    try:
        write_whole(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(path)) from None
