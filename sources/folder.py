"""Pictures from a folder: those that lie there, or those that arrive, too."""

from __future__ import annotations

import hashlib
import logging
import time
from base64 import b32hexencode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, PositiveFloat

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.payloads import FrameImage
from pipeline.core.pictures import MAX_PIXELS, SUFFIXES, BadPicture, read_picture
from pipeline.core.places import Place
from pipeline.core.records import Chunk, Gap, Item, Watermark
from sources.ffmpeg import new_epoch
from sources.resuming import Resumable
from sources.watching import Watch

log = logging.getLogger(__name__)

_ENDS = 4096  # bytes


class Folder(Resumable):
    """Every JPEG, PNG, BMP, WebP and TIFF picture of a folder (not of the folders in it), sorted by name.

    With `watch` it never ends: pictures are taken as they arrive. It is neither live nor paced for all that: the files
    wait, so that none is ever dropped; a restart takes those that lie there once more, whatever the `state`. Without,
    the windows are named after what lies there. A picture that cannot be decoded is logged and counted, and the others
    go on. At log level `debug` each picture's number is logged with its path.
    """

    path: Path = Field(description="the folder")
    watch: bool = Field(False, description="go on for ever with the pictures that arrive later")
    settle_s: PositiveFloat = Field(0.3, description="a new file is complete once it was left alone for this long")
    fps: PositiveFloat = Field(1.0, description="without `watch`: how many pictures make a second of media time")
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="refuse pictures with more pixels")

    def check(self) -> None:
        place = str(self.path)
        if not self.path.exists():
            raise InputError("there is no such folder", place)
        if not self.path.is_dir():
            raise InputError("is not a folder", place)
        if not self.watch and not self.pictures():
            raise InputError("holds no pictures (JPEG, PNG, BMP, WebP, TIFF)", place)

    def pictures(self) -> list[Path]:
        """What lies there now, in the order of reading. Raises `InputError`."""
        try:
            return sorted(p for p in self.path.iterdir() if is_picture(p) and p.is_file())
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", str(self.path)) from None

    def resumed(self, places: Mapping[str, Place]) -> Self | None:
        return None if self.watch else super().resumed(places)  # nobody notes which of those that lie there are done

    def open(self, stream: str) -> FolderReader | WatchReader:
        self.check()
        return WatchReader(self, stream) if self.watch else FolderReader(self, stream)


def is_picture(path: Path) -> bool:
    """By its name. Hidden files are other programs' unfinished business."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def digest_of(paths: Sequence[Path]) -> str:
    """Stands for the content: names, sizes, and both ends of each file."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                digest.update(f"{path.name}/{size}/".encode("utf-8", "surrogateescape") + file.read(_ENDS))
                file.seek(max(0, size - _ENDS))
                digest.update(file.read(_ENDS))
        except OSError:
            continue  # the reading tells
    return b32hexencode(digest.digest()).decode().rstrip("=")


class _Shelf:
    """Makes records of pictures, one after the other."""

    def __init__(self, plan: Folder, stream: str, epoch: str, seq: int = 0) -> None:
        self.judged = 0
        self._plan = plan
        self._stream = stream
        self._epoch = epoch
        self._seq = seq

    def item(self, path: Path, pts_ns: int, duration_ns: int) -> Chunk | Gap:
        mono_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        seq, self._seq = self._seq, self._seq + 1
        try:
            frame = read_picture(path, self._plan.max_pixels)
        except BadPicture as error:
            log.warning("%s: %s", path, error)
            return Gap(self._stream, "undecoded", 1)
        log.debug("%s/%s/%d is %s", self._stream, self._epoch, seq, path)
        self.judged += 1
        name = path.name.encode("utf-8", "replace").decode()  # a name on disk may be no text
        return Chunk(self._stream, self._epoch, seq, pts_ns, duration_ns, mono_ns, wall_ns, FrameImage(frame), name)


class FolderReader:
    """The running part of a `Folder` as it is."""

    def __init__(self, plan: Folder, stream: str) -> None:
        self._plan = plan
        self._paths = plan.pictures()
        self.epoch = digest_of(self._paths)
        place = plan._behind.get("")
        self._done = 0 if place is None else place.seq + 1
        self._shelf = _Shelf(plan, stream, self.epoch, self._done)
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        period_ns = int(1e9 / self._plan.fps)
        for n, path in enumerate(self._paths[self._done :], self._done):
            if self._closed:
                return
            yield self._shelf.item(path, n * period_ns, period_ns)
        if not self._shelf.judged and not self._done:
            raise InputError("holds no picture that can be decoded", str(self._plan.path))

    def close(self) -> None:
        self._closed = True


class WatchReader:
    """The running part of a watched `Folder`. Media time is the time since it was opened."""

    def __init__(self, plan: Folder, stream: str) -> None:
        self.epoch = new_epoch()
        self._plan = plan
        self._stream = stream
        self._shelf = _Shelf(plan, stream, self.epoch)
        self._watch = Watch(plan.path, is_picture, plan.settle_s)  # before the look around: nothing may slip between
        self._waiting = plan.pictures()
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        start_ns = time.monotonic_ns()
        while not self._closed:
            for path in self._waiting:
                if self._watch.first_sight(path):
                    yield self._shelf.item(path, time.monotonic_ns() - start_ns, 0)
            self._waiting = self._watch.settled()
            if not self._waiting:
                yield Watermark(self._stream, time.monotonic_ns() - start_ns)
                if not self._plan.path.is_dir():
                    raise SourceLost(f"{self._plan.path}: the folder is gone")

    def close(self) -> None:
        self._closed = True
        self._watch.close()
