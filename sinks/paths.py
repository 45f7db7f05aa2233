"""Files that sinks write: found unwritable before anything starts, and noticed when somebody moves them away."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.errors import InputError


def expanded(path: str | Path) -> Path:
    """`path` with `~` resolved, absolute: a plan opened from another folder or process means the same file."""
    return Path(os.path.expanduser(path)).absolute()


def check_file(path: Path) -> None:
    """Raises `InputError` naming `path` where a file could not be written there. Creates nothing."""
    if path.is_dir():
        raise InputError("is a folder; give the name of a file in it", str(path))
    if path.exists():
        if path.is_socket():
            raise InputError("is a socket; give the name of a file", str(path))
        if not os.access(path, os.W_OK):
            raise InputError("this file cannot be written; check its permissions", str(path))
        return
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir():
        raise InputError(f"cannot be created: {nearest} is no folder", str(path))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot be created: the folder {nearest} is not writable", str(path))


def make_parents(path: Path) -> None:
    """The folders above `path`. Raises `InputError` naming `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be created: {error.strerror}", str(path)) from error


def same_file(path: Path, known: os.stat_result) -> bool:
    """Whether `path` still is the file that was opened, and not moved, deleted or replaced since."""
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (known.st_dev, known.st_ino)


def check_folder(path: Path) -> None:
    """Raises `InputError` naming `path` where files could not be written into that folder. Creates nothing."""
    if path.exists() and not path.is_dir():
        raise InputError("is no folder", str(path))
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    if not nearest.is_dir():
        raise InputError(f"cannot be created: {nearest} is no folder", str(path))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot be written to: {nearest} is not writable", str(path))
