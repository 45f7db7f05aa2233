"""A file that grows, by name: whatever lies there; and where it is gone on with after a restart."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.places import Place
from pipeline.core.records import Gap, Item
from sources.ffmpeg import new_epoch
from sources.lines import BLOCK, TICK_S, LineReader
from sources.resuming import PassedOver

if TYPE_CHECKING:
    from sources.lines import Lines

log = logging.getLogger(__name__)

_LOOK_S = 0.05  # how often a followed file is looked at: no system tells of a rotation on every kind of disk
_HEAD = 256  # bytes at a file's beginning that it is known by, should its number be another file's by now
_TELLING = 64  # so many of them tell one log from another
_RECALLED = 1 << 18  # bytes before the place that are read once more, as context
_ROTATED = re.compile(r"[.-]\d[\w.:-]*")
_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst", ".zip"})


@dataclass(frozen=True, slots=True)
class _Mark:
    """The beginning of a line: in which file, at which byte, under which number its first chunk goes."""

    device: int
    inode: int
    offset: int
    seq: int
    head: str  # digest of the first `_HEAD` bytes, or of those before the line if they are fewer

    @classmethod
    def of(cls, position: str) -> _Mark | None:
        """None where that is no position of ours."""
        try:
            device, inode, offset, seq, head = json.loads(position)
            return cls(int(device), int(inode), int(offset), int(seq), str(head))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return json.dumps(astuple(self), separators=(",", ":"))

    def is_number_of(self, there: os.stat_result) -> bool:
        return (there.st_dev, there.st_ino) == (self.device, self.inode)

    def fits(self, path: Path) -> bool:
        """Whether the file that lies there holds what was read."""
        try:
            with path.open("rb") as file:
                there = os.fstat(file.fileno())
                telling = self.is_number_of(there) or self.offset >= _TELLING
                return telling and there.st_size >= self.offset and _head(file.fileno(), self.offset) == self.head
        except OSError:
            return False


def _head(fd: int, offset: int) -> str:
    return blake2b(os.pread(fd, min(_HEAD, offset), 0), digest_size=8).hexdigest()


class FollowReader(LineReader):
    """`start` is where it began, for a restart before the first line."""

    def __init__(self, plan: Lines, stream: str) -> None:
        place = plan._behind.get("")
        mark = None if place is None else _Mark.of(place.position)
        super().__init__(plan, stream, new_epoch() if place is None else place.epoch)
        self._path = Path(plan.path)
        self._fd: int | None = None
        self._known: os.stat_result | None = None
        self._line_at = self._read_to = 0  # bytes: where the next line begins, and how far it was read
        self._heads = 0, ""  # of how many bytes, and what
        self._older: deque[Path] = deque()  # rotated files that are to be read first
        self._missing = False
        self._passed = PassedOver(stream, place)
        if place is None or mark is None:
            fd = self._attach()
            if fd is not None and not plan.from_start:
                self._line_at = self._read_to = os.lseek(fd, 0, os.SEEK_END)
        else:
            self._go_on(place, mark)
        self.start = Place(self.epoch, self._talk.seq - 1, 0, time.time_ns(), self._position())

    # Where to begin.

    def _go_on(self, place: Place, mark: _Mark) -> None:
        """At `mark`, in whatever file that is by now; media time goes on as if it had been watched all the while."""
        self._talk.seq = mark.seq
        self._start_ns = time.monotonic_ns() - place.pts_ns - max(1, time.time_ns() - place.wall_ns)
        rotated = self._rotated()
        fitting = [path for path in (self._path, *reversed(rotated)) if mark.fits(path)]
        found = next((path for path in fitting if mark.is_number_of(path.stat())), None) or next(iter(fitting), None)
        if found is None:
            self._talk.seq = place.seq + 1
            self._missing = mark.offset > 0 or mark.inode > 0
            self._older.extend(path for path in rotated if path.stat().st_mtime_ns > place.wall_ns)
            return
        if found != self._path:
            self._older.append(found)
            self._older.extend(rotated[rotated.index(found) + 1 :])
        fd = self._attach()
        if fd is not None:
            before = max(0, mark.offset - _RECALLED)
            said = os.pread(fd, mark.offset - before, before)
            self._talk.recall(said[said.find(b"\n") + 1 :] if before else said)
            self._line_at = self._read_to = os.lseek(fd, mark.offset, os.SEEK_SET)

    def _rotated(self) -> list[Path]:
        """What was moved away from our path, as far as the names tell, oldest first."""
        name = self._path.name
        with suppress(OSError):
            there = [
                (path.stat().st_mtime_ns, path)
                for path in self._path.parent.iterdir()
                if path.name.startswith(name)
                and _ROTATED.fullmatch(path.name, len(name))
                and path.suffix not in _PACKED
                and path.is_file()
            ]
            return [path for _, path in sorted(there)]
        return []

    def _attach(self) -> int | None:
        while self._fd is None:
            path = self._older.popleft() if self._older else self._path
            with suppress(FileNotFoundError):
                self._fd = os.open(path, os.O_RDONLY)
                self._known = os.fstat(self._fd)
                self._line_at = self._read_to = 0
                self._heads = 0, ""
            if path == self._path:
                break
        return self._fd

    def _position(self) -> str:
        known, fd = self._known, self._fd
        if known is None or fd is None:
            return str(_Mark(0, 0, 0, self._talk.seq, _head_of_nothing()))
        if self._heads[0] != min(_HEAD, self._line_at) or not self._heads[1]:
            self._heads = min(_HEAD, self._line_at), _head(fd, self._line_at)
        return str(_Mark(known.st_dev, known.st_ino, self._line_at, self._talk.seq, self._heads[1]))

    # Reading.

    def _read(self) -> bytes:
        fd = self._attach() if self._fd is None else self._fd
        return b"" if fd is None else os.read(fd, BLOCK)

    def __iter__(self) -> Iterator[Item]:
        if self._missing:
            yield self._gone()
        yield from self._passed(self._all())

    def _gone(self) -> Gap:
        log.warning(
            "%s: the file that was read last is gone, or was cut off; whatever was written to it since then is lost."
            " It goes on with what is there",
            self._plan.path,
        )
        self._passed = PassedOver(self._stream, None)
        self._talk.seq += 1
        return Gap(self._stream, "undecoded", 1)

    def _all(self) -> Iterator[Item]:
        told_s = time.monotonic()
        while not self._closed:
            block = self._read()
            if block:
                self._arrived()
                yield from self._items(block)
                told_s = time.monotonic()
                continue
            yield from self._look()
            if time.monotonic() - told_s >= TICK_S:
                yield self._watermark()
                told_s = time.monotonic()
            time.sleep(_LOOK_S)

    def _items(self, block: bytes) -> Iterator[Item]:
        """Line by line, so that each message knows where its line begins."""
        read_before, self._read_to = self._read_to, self._read_to + len(block)
        if self._splitter.skipping:
            self._line_at = read_before + (block.find(b"\n") + 1 or len(block))
        whole, too_long = self._splitter.feed(block)
        for line in whole.split(b"\n")[:-1]:
            if line:
                self._talk.position = self._position()
                yield from self._talk.data(line, self._moment)
            self._line_at += len(line) + 1
        if too_long:
            self._line_at = self._read_to
            yield self._talk.damaged(too_long)

    def _last(self) -> Iterator[Item]:
        self._talk.position = self._position()
        return super()._last()

    def _look(self) -> Iterator[Item]:
        """All of it is read: is it still the file of that name, and did it shrink?"""
        if self._fd is None or self._known is None:
            return
        try:
            there = self._path.stat()
        except OSError:
            if not self._older:
                return  # moved away, and nothing in its place yet: its writer may still write to it
            there = None
        if there is None or (there.st_dev, there.st_ino) != (self._known.st_dev, self._known.st_ino):
            if block := os.read(self._fd, BLOCK):  # written between the last look and the move
                self._arrived()
                yield from self._items(block)
                return
            yield from self._last()
            self._detach()
        elif there.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            self._splitter.end()  # what was cut away is no line
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._line_at = self._read_to = 0
            self._heads = 0, ""

    def _detach(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        super().close()
        self._detach()


def _head_of_nothing() -> str:
    return blake2b(digest_size=8).hexdigest()
