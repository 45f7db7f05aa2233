"""Which files of a folder are new and complete."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from stat import S_ISLNK

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

_TICK_S = 0.5
_REMEMBERED = 4096
_TELLS_CLOSING = sys.platform == "linux"
_STALLED_S = 10.0  # nobody writes so slowly; whoever holds a file open for longer has forgotten it


class Watch(FileSystemEventHandler):
    """Watches `folder` with the system's own notifications.

    A file is complete once its writer closed it or moved it here, and nobody touched it for `settle_s`. A writer that
    pauses, as on a slow network, is waited for.
    """

    def __init__(self, folder: Path, wanted: Callable[[Path], bool], settle_s: float) -> None:
        self._wanted = wanted
        self._settle_s = settle_s
        self._lock = threading.Lock()
        self._fresh: dict[Path, tuple[float, bool]] = {}  # last touched, and whether it is still being written
        self._seen: dict[Path, tuple[int, int]] = {}
        self._news = threading.Event()
        self._observer = Observer()
        self._observer.schedule(self, str(folder))
        self._observer.start()

    def on_created(self, event: FileSystemEvent) -> None:
        self._touched(event.src_path, writing=_TELLS_CLOSING and not _is_link(_path(event.src_path)))

    def on_modified(self, event: FileSystemEvent) -> None:
        self._touched(event.src_path)

    def on_closed(self, event: FileSystemEvent) -> None:
        self._touched(event.src_path, writing=False)

    def on_moved(self, event: FileSystemEvent) -> None:
        self._touched(event.dest_path, writing=False)

    def _touched(self, name: bytes | str, *, writing: bool | None = None) -> None:
        """`writing` None: as it was. A new date or new permissions are a change, too, and come after the closing."""
        path = _path(name)
        if self._wanted(path):
            with self._lock:
                if writing is None:
                    writing = self._fresh.get(path, (0.0, _TELLS_CLOSING))[1]
                self._fresh[path] = (time.monotonic(), writing)
            self._news.set()

    def settled(self) -> list[Path]:
        """The files that have become complete, oldest first; waits half a second for the first."""
        return [path for path, _ in self.arrived()]

    def arrived(self) -> list[tuple[Path, int]]:
        """The same, each with the moment (`time.monotonic_ns()`) at which its writer let go of it."""
        deadline = time.monotonic() + _TICK_S
        while True:
            self._news.clear()
            now = time.monotonic()
            with self._lock:
                due = {path: touched + self._quiet_s(writing) for path, (touched, writing) in self._fresh.items()}
                ready = [(path, int(touched * 1e9)) for path, (touched, _) in self._fresh.items() if due[path] <= now]
                for path, _ in ready:
                    del self._fresh[path]
            if ready or now >= deadline:
                return [(path, touched_ns) for path, touched_ns in ready if path.is_file()]
            self._news.wait(min([deadline, *due.values()]) - now)

    def _quiet_s(self, writing: bool) -> float:
        """For how long nobody must have touched a file."""
        return max(self._settle_s, _STALLED_S) if writing else self._settle_s

    def first_sight(self, path: Path) -> bool:
        """Whether this is not the very file that was handed out last under that name."""
        try:
            stat = path.stat()
        except OSError:
            return False
        seen = (stat.st_mtime_ns, stat.st_size)
        if self._seen.get(path) == seen:
            return False
        self._seen[path] = seen
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return True

    def close(self) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()


def _path(name: bytes | str) -> Path:
    return Path(os.fsdecode(name))


def _is_link(path: Path) -> bool:
    """Whether nobody will close it: it was whole before it came here."""
    try:
        stat = path.lstat()
    except OSError:
        return False
    return S_ISLNK(stat.st_mode) or stat.st_nlink > 1
