"""Where models are made: looked at before anything starts, and one training's at a time."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from detectors.manifest import MANIFEST
from detectors.training import processes
from pipeline.core.errors import InputError
from pipeline.core.interrupts import asked_to_end

if sys.platform != "win32":
    import fcntl

_LOCK = "lock"


@contextlib.contextmanager
def ended_between_steps(world: int) -> Iterator[Callable[[], bool]]:
    """Whether somebody asked for an end since: what is half done is done first. Asked twice, it ends there and then.
    Several processes are ended by whoever started them, since none may leave the others waiting."""

    def at_once(number: int) -> None:
        raise KeyboardInterrupt

    if world > 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    with asked_to_end(at_once) as asked:
        yield asked


def check_place(folder: Path) -> None:
    """Raises `InputError` where something lies that is no model: the model that is made would take its place."""
    if not (folder.exists() or folder.is_symlink()) or (folder / MANIFEST).is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise InputError(
            "is no model, and one would take its place: choose another name, or another --out", str(folder)
        )


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """`folder`, which is made, is this training's meanwhile, and nobody's once its process ends, however it does. Of
    several processes the first claims it; `InputError` is raised in all of them where another training is at work."""
    held: list[int] = []
    processes.by_the_first(lambda: held.append(_locked(folder)))
    try:
        yield
    finally:
        for lock in held:
            os.close(lock)


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(folder)) from None
    if sys.platform == "win32":
        return lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise InputError("another training is at work here: wait for it, or choose another name", str(folder)) from None
    except OSError:  # a file system without locks
        pass
    return lock
