"""Which files of a folder are new and complete."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

_TICK_S = 0.5
_REMEMBERED = 4096
_TELLS_CLOSING = sys.platform == "linux"
_PATIENCE = 8  # times the settling time, for files that are never closed: links


class Watch(FileSystemEventHandler):
    """Watches `folder` with the system's own notifications.

    A file is complete once its writer closed it or moved it here, and nobody touched it for `settle_s`.
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
        self._touched(event.src_path, writing=_TELLS_CLOSING)

    def on_modified(self, event: FileSystemEvent) -> None:
        self._touched(event.src_path, writing=_TELLS_CLOSING)

    def on_closed(self, event: FileSystemEvent) -> None:
        self._touched(event.src_path, writing=False)

    def on_moved(self, event: FileSystemEvent) -> None:
        self._touched(event.dest_path, writing=False)

    def _touched(self, name: bytes | str, *, writing: bool) -> None:
        path = Path(name.decode() if isinstance(name, bytes) else name)
        if self._wanted(path):
            with self._lock:
                self._fresh[path] = (time.monotonic(), writing)
            self._news.set()

    def settled(self) -> list[Path]:
        """The files that have become complete, oldest first; waits half a second for the first."""
        return [path for path, _ in self.arrived()]

    def arrived(self) -> list[tuple[Path, int]]:
        """The same, each with the moment (`time.monotonic_ns()`) at which its writer let go of it."""
        deadline = time.monotonic() + _TICK_S
        while True:
            now = time.monotonic()
            with self._lock:
                ready = [
                    (path, int(touched * 1e9))
                    for path, (touched, writing) in self._fresh.items()
                    if self._done(now - touched, writing)
                ]
                for path, _ in ready:
                    del self._fresh[path]
                idle = not self._fresh
            if ready or now >= deadline:
                return [(path, touched_ns) for path, touched_ns in ready if path.is_file()]
            self._news.clear()
            self._news.wait(deadline - now if idle else min(self._settle_s / 2, deadline - now))

    def _done(self, quiet_s: float, writing: bool) -> bool:
        return quiet_s >= self._settle_s * (_PATIENCE if writing else 1)

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
