"""What was delivered for good, stream by stream, in a folder: what a restart goes on from. And what actions go on.

A checkpoint is written whole or not at all, and on the disk before it counts. A damaged one, or one that is of no use
any more, is put aside under another name; the stream begins at the beginning then.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from pipeline.core.errors import InputError
from pipeline.core.files import sync_folder, write_whole
from pipeline.core.places import Place
from pipeline.core.rulings import Ruling

log = logging.getLogger(__name__)

T = TypeVar("T")
VERSION = 1
_LARGEST = 16 << 20
_AGAIN_S = 1.0
_NOTED_S = 2.0  # so long is a disk waited for

Noted = Callable[[], object]
"""Returns once what was committed is on the disk, or cannot be for now."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One stream. `place` is behind the last window that was delivered for good, `events` what its tracker knew there;
    `wall_ns` is until when it was watched, by the clock on the wall."""

    stream: str
    generation: str
    wall_ns: int
    place: Place | None = None
    events: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION


_JSON: TypeAdapter[Checkpoint] = TypeAdapter(Checkpoint)
_RULINGS: TypeAdapter[dict[str, Ruling]] = TypeAdapter(dict[str, Ruling])


class Checkpoints:
    """Those of all streams. Committing never blocks: a thread of its own writes the newest of each stream.

    One process at a time: `open` takes the folder. Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        self._root, self._folder = folder, folder / "streams"
        self._lock_fd: int | None = None
        self._newest: dict[Path, bytes | None] = {}  # None: it is to go
        self._given = self._written = 0  # commits: all of them, and those up to which all is on the disk
        self._changed = threading.Condition()
        self._closing = False
        self._complained = False
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def open(self) -> None:
        """Raises `InputError` where the folder cannot be used, or another process uses it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InputError(f"cannot be used as a folder for the state: {error.strerror}", str(self._root)) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise InputError(
                "another thresher that runs now keeps its state there: stop it, or give this one a folder of its own",
                str(self._root),
            ) from None
        self._lock_fd = fd
        self._thread.start()

    def close(self, end_s: float) -> None:
        """Write what is left, until `end_s` by the monotonic clock. Safe twice, and without `open`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def path(self, stream: str) -> Path:
        return self._folder / f"{quote(stream, safe='')}.json"

    def known(self, stream: str) -> Checkpoint | None:
        """What was written last; None where there is nothing, or nothing of use."""
        path = self.path(stream)
        known = self._read(path, _JSON)
        if known is not None and (known.version != VERSION or known.stream != stream):
            self.put_aside(stream, "it is of another version of this program, or of another stream")
            return None
        return known

    @property
    def _rulings(self) -> Path:
        return self._root / "rulings.json"

    def rulings(self) -> Mapping[str, Ruling]:
        """The actions of a policy that an earlier run began, and whose end it told to nobody."""
        return self._read(self._rulings, _RULINGS) or {}

    def commit_rulings(self, rulings: Mapping[str, Ruling]) -> Noted:
        return self._commit(self._rulings, _RULINGS.dump_json(dict(rulings)))

    def _read(self, path: Path, kind: TypeAdapter[T]) -> T | None:
        try:
            with path.open("rb") as file:
                return kind.validate_json(file.read(_LARGEST))
        except FileNotFoundError:
            return None
        except ValidationError:
            self._put_aside(path, "it is damaged")
        except OSError as error:
            self._put_aside(path, error.strerror or "it cannot be read")
        return None

    def put_aside(self, stream: str, why: str) -> None:
        self._put_aside(self.path(stream), why)

    @staticmethod
    def _put_aside(path: Path, why: str) -> None:
        aside = path.with_name(f"{path.name}.{time.time_ns()}.aside")
        try:
            path.replace(aside)
        except OSError as error:
            log.warning("the state %s cannot be put aside: %s", path, error.strerror)
            return
        log.warning("the state %s is put aside as %s: %s", path, aside, why)

    def commit(self, checkpoint: Checkpoint) -> Noted:
        return self._commit(self.path(checkpoint.stream), _JSON.dump_json(checkpoint))

    def forget(self, stream: str) -> Noted:
        """The stream is no more."""
        return self._commit(self.path(stream), None)

    def _commit(self, path: Path, data: bytes | None) -> Noted:
        with self._changed:
            self._newest[path] = data
            self._given += 1
            self._changed.notify_all()
            return partial(self._wait, self._given)

    def _wait(self, commit: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._written >= commit or self._complained or not self._thread.is_alive(), _NOTED_S
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._newest and not self._closing:
                    self._changed.wait()
                due, self._newest = self._newest, {}
                given = self._given
            if not due:
                return
            self._write(due, given)

    def _write(self, due: Mapping[Path, bytes | None], given: int) -> None:
        try:
            for path, data in due.items():
                if data is None:
                    path.unlink(missing_ok=True)
                else:
                    write_whole(path, data)
            for folder in {path.parent for path in due}:
                sync_folder(folder)
            with self._changed:
                self._complained, self._written = False, given
                self._changed.notify_all()
        except OSError as error:
            if not self._complained:
                log.error("the state cannot be written, and is tried again: %s: %s", self._folder, error.strerror)
            with self._changed:
                self._complained = True
                self._changed.notify_all()
                self._newest = {**due, **self._newest}
                if self._closing:
                    self._newest.clear()
                else:
                    self._changed.wait(_AGAIN_S)


class Barrier:
    """Put behind what goes to several sinks, so that it is known when all of them are done with what was before it."""

    def __init__(self, sinks: int, then: Callable[[], None]) -> None:
        self._left = sinks + 1
        self._then: Callable[[], None] | None = then
        self._lock = threading.Lock()

    def put(self) -> None:
        """It is in all of them now."""
        self.passed()

    def passed(self) -> None:
        """One sink has written all before it, or has refused or dropped it for good."""
        with self._lock:
            self._left -= 1
            if self._left:
                return
            then, self._then = self._then, None  # which often knows this barrier: no circle is left behind
        if then is not None:
            then()
