"""Records on disk, appended and read in order, each found again whatever became of its neighbours.

A log is a folder of segments, files of a few MiB named after the number of their first record. A record is a header
(magic, length, CRC-32, number, time) and its bytes. A segment is dropped when nobody needs any record of it any more.

Why not a database: here a damaged byte costs the record that holds it and no other. A reader that meets nonsense looks
for the next header whose checksum fits. A B-tree loses whatever hangs below a damaged page, and SQLite's own log all
that was written behind a damaged frame.
"""

from __future__ import annotations

import errno
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pipeline.core.files import sync_folder, write_whole

_MAGIC = b"\xf1Thr"
_HEADER = struct.Struct("<4sIIQQ")  # magic, length, checksum, number, time
_NUMBERED = struct.Struct("<QQ")
LARGEST = 64 << 20
"""Bytes of one record. A length beyond it is damage."""
SEGMENT = 8 << 20
_SEGMENTS = 16  # at least, where there is little room: they go as a whole
_SUFFIX = ".log"
_READ = 1 << 18
_BLOCK = 4096  # bytes that a disk loses at once


@dataclass(frozen=True, slots=True)
class Record:
    """`number` counts from 1 without a gap; `wall_ns` is when it was appended."""

    number: int
    wall_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no records, and where they were set aside. `torn`: they end the last segment, as what
    was being written when the program died does."""

    segment: Path
    start: int
    size: int
    aside: Path
    torn: bool


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    last: int  # first - 1 where it is empty
    size: int


class RecordLog:
    """One process, one writer, one reader; they may be different threads if the caller lets one in at a time.

    Opening looks at every record. What is damaged is copied to `damaged/`, cut out, and told by `damages`. A number
    that is missing was lost. Raises `OSError` where the disk fails.
    """

    def __init__(self, folder: Path, *, after: int = 0, sync: bool = True, room: int | None = None) -> None:
        """`after`: numbers up to this one were given away before, even if no segment is left that tells of it. `room`:
        how many bytes it shall take at most. It may take more; but what is not needed any more is then little of it."""
        self._folder = folder
        self._sync = sync
        self._largest = SEGMENT if room is None else min(SEGMENT, room // _SEGMENTS)
        self.damages: list[Damage] = []
        files = self._files()
        ends = [int(path.stem) for path in files[1:]]
        examined = [self._examined(path, end) for path, end in zip_longest(files, ends)]
        self._segments = [segment for segment in examined if segment is not None]
        self._next = max([after, *(segment.last for segment in self._segments)]) + 1
        self._writing: int | None = None
        self._reading: tuple[int, int, int] | None = None  # the first record of a segment, a place in it, what is there

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())

    @property
    def last(self) -> int:
        """The number that was given away last."""
        return self._next - 1

    @property
    def first(self) -> int:
        """The lowest number that is there, or the next to be given away."""
        return next((segment.first for segment in self._segments if segment.last >= segment.first), self._next)

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.size for segment in self._segments)

    # Writing.

    def append(self, records: Sequence[bytes]) -> None:
        """All of them or, where it raises `OSError`, none. They are on the disk when it returns (`sync`)."""
        if not records:
            return
        now = time.time_ns()
        block = b"".join(_framed(self._next + n, now, data) for n, data in enumerate(records))
        segment = self._segments[-1] if self._writing is not None else None
        if segment is None or (segment.size and segment.size + len(block) > self._largest):
            segment = self._begin()
        assert self._writing is not None
        try:
            view = memoryview(block)
            while view:
                view = view[os.pwrite(self._writing, view, segment.size + len(block) - len(view)) :]
            if self._sync:
                os.fdatasync(self._writing)
        except OSError:
            self._undo(segment)
            raise
        segment.size += len(block)
        segment.last = self._next + len(records) - 1
        self._next += len(records)

    def _begin(self) -> _Segment:
        """A segment to write to."""
        path = self._folder / f"{self._next:020d}{_SUFFIX}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if self._sync:
                sync_folder(self._folder)
        except OSError:
            os.close(fd)
            raise
        self._stop_writing()
        self._writing = fd
        if self._segments and self._segments[-1].path == path:
            self._segments.pop()  # nothing was ever written to it
        self._segments.append(_Segment(path, self._next, self._next - 1, 0))
        return self._segments[-1]

    def _undo(self, segment: _Segment) -> None:
        """Leave no part of what could not be written as a whole: its numbers will be given away again."""
        assert self._writing is not None
        try:
            os.ftruncate(self._writing, segment.size)
        except OSError:
            self._stop_writing()  # what is behind its end stays there: another one begins, and its name says so

    def _stop_writing(self) -> None:
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None

    # Reading.

    def read(self, after: int, most: int, most_bytes: int = 4 << 20) -> list[Record]:
        """Up to `most` records with numbers beyond `after`, in order; fewer where they are large, one at least where
        there is one."""
        found: list[Record] = []
        size = 0
        for segment in self._segments:
            if segment.last <= after:
                continue
            for record in self._records(segment, after):
                found.append(record)
                size += len(record.data)
                if len(found) >= most or size >= most_bytes:
                    return found
        return found

    def _records(self, segment: _Segment, after: int) -> Iterator[Record]:
        """Of one segment; it goes on where it was left, if that is what is asked for. What has been damaged meanwhile,
        or could not be cut out for want of room, is passed over: a number is missing then."""
        place = number = 0
        if self._reading is not None and self._reading[0] == segment.first and self._reading[1] <= after:
            _, number, place = self._reading
        with segment.path.open("rb", buffering=_READ) as file:
            file.seek(place)
            while place < segment.size:
                record = _next_record(file.read(_HEADER.size), file.read)
                if record is None:
                    file.seek(place)
                    place += _resume(file.read(segment.size - place), 1, number)
                    file.seek(place)
                    continue
                number, place = record.number, place + _HEADER.size + len(record.data)
                self._reading = (segment.first, number, place)
                if number > after:
                    yield record

    def release(self, upto: int) -> None:
        """Records up to this one are needed no more. Whole segments of such are deleted, but for the one that is being
        written to."""
        while self.frees(upto):
            if len(self._segments) == 1:
                self._stop_writing()
            self._segments[0].path.unlink(missing_ok=True)
            del self._segments[0]

    def frees(self, upto: int) -> bool:
        """Whether `release` would delete anything."""
        if not self._segments or self._segments[0].last > upto:
            return False
        return len(self._segments) > 1 or self._writing is None or self._segments[0].size >= self._largest // 2

    def end_of_oldest(self) -> int:
        """The last number of the oldest segment."""
        return self._segments[0].last if self._segments else self.last

    def close(self) -> None:
        self._stop_writing()

    # Looking for damage.

    def _examined(self, path: Path, end_number: int | None) -> _Segment | None:
        """What is in the segment, once what is damaged has been cut out of it; None where nothing is left. What has
        `end_number` or more was never accepted: the next segment begins with that number."""
        data = _contents(path)
        whole: list[tuple[int, int, int]] = []  # number, from, to
        damaged: list[tuple[int, int]] = []
        place = 0
        while place < len(data):
            record = _record_at(data, place)
            if record is not None and end_number is not None and record.number >= end_number:
                damaged.append((place, len(data)))
                break
            if record is not None and (not whole or record.number > whole[-1][0]):
                end = place + _HEADER.size + len(record.data)
                whole.append((record.number, place, end))
                place = end
                continue
            start, place = place, _resume(data, place + 1, whole[-1][0] if whole else 0)
            damaged.append((start, place))
        for start, end in damaged:
            torn = end == len(data) and path == self._files()[-1]
            self.damages.append(self._set_aside(path, start, data[start:end], torn))
        if not whole:
            path.unlink()
            return None
        size = len(data)
        if damaged:
            with suppress(OSError):  # a full disk: reading passes over it, and the next start tries again
                write_whole(path, b"".join(data[start:end] for _, start, end in whole))
                size = sum(end - start for _, start, end in whole)
        return _Segment(path, whole[0][0], whole[-1][0], size)

    def _set_aside(self, path: Path, start: int, data: bytes, torn: bool) -> Damage:
        aside = self._folder / "damaged" / f"{path.stem}.{start}-{start + len(data)}.bin"
        aside.parent.mkdir(exist_ok=True)
        with suppress(OSError):  # a full disk: better without it than not at all
            write_whole(aside, data)
        return Damage(path, start, len(data), aside, torn)


def _contents(path: Path) -> bytes:
    """Zeros stand for what the disk cannot read."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    with path.open("rb", buffering=0) as file:
        return b"".join(_block(file.fileno(), place) for place in range(0, os.fstat(file.fileno()).st_size, _BLOCK))


def _block(fd: int, place: int) -> bytes:
    try:
        return os.pread(fd, _BLOCK, place)
    except OSError:
        return bytes(min(_BLOCK, os.fstat(fd).st_size - place))


def _framed(number: int, wall_ns: int, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(_NUMBERED.pack(number, wall_ns)))
    return _HEADER.pack(_MAGIC, len(data), checksum, number, wall_ns) + data


def _next_record(header: bytes, read: Callable[[int], bytes]) -> Record | None:
    if len(header) < _HEADER.size:
        return None
    magic, length, checksum, number, wall_ns = _HEADER.unpack(header)
    if magic != _MAGIC or length > LARGEST:
        return None
    data = read(length)
    if len(data) != length or zlib.crc32(data, zlib.crc32(_NUMBERED.pack(number, wall_ns))) != checksum:
        return None
    return Record(number, wall_ns, data)


def _record_at(data: bytes, place: int) -> Record | None:
    body = place + _HEADER.size
    return _next_record(data[place:body], lambda length: data[body : body + length])


def _resume(data: bytes, place: int, after: int) -> int:
    """The place of the next whole record with a number beyond `after`, or the end."""
    while (place := data.find(_MAGIC, place)) >= 0:
        record = _record_at(data, place)
        if record is not None and record.number > after:
            return place
        place += 1
    return len(data)
