"""Messages that are lines: of a file, of one that grows, of a pipe, of standard input."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Self

from pydantic import Field, PositiveFloat

from pipeline.core.errors import InputError
from pipeline.core.places import Place
from pipeline.core.records import Chunk, Gap, Item, Watermark
from sources.conversation import Conversation, Moment, Talk
from sources.ffmpeg import new_epoch
from sources.file import content_digest
from sources.line_splitter import LineSplitter
from sources.resuming import PassedOver, Resumable

STDIN = "-"
BLOCK = 1 << 16
TICK_S = 0.5
_BOM = b"\xef\xbb\xbf"


class Lines(Conversation, Resumable):
    """One message a line, in UTF-8: as it is, or a JSON object.

    A file is replayable: its windows are named after what it holds. With `follow` it never ends: lines are taken as
    they are written, also when the file is truncated, moved away and begun anew, or not there yet (`tail -F`). Standard
    input and pipes end when their writer closes them. None of them is live: what is written waits, in the file or with
    its writer, and no line is ever dropped; say `overflow: drop_oldest` where a late verdict is none.

    With a folder for `state`, a followed file is taken up where it was left, also where it was rotated meanwhile (to
    PATH.1, PATH-20260131 and the like); what was rotated away and is not found is logged, and counted as undecoded.
    """

    path: str = Field(STDIN, min_length=1, description="a file or a pipe; - is standard input")
    follow: bool = Field(False, description="go on for ever with the lines that are written later")
    from_start: bool = Field(False, description="with `follow`: take the lines that are there already, too")
    per_second: PositiveFloat = Field(
        1.0, le=1e6, description="of a file without `follow`: how many messages make a second of media time"
    )

    def check(self) -> None:
        if self.path == STDIN:
            if self.follow:
                raise InputError("standard input is followed anyway: leave `follow` away", "follow")
            return
        path = Path(self.path)
        if path.is_dir():
            raise InputError("is a folder, and lines come from a file", self.path)
        if not path.exists() and not self.follow:
            raise InputError("there is no such file (`follow: true` waits for one)", self.path)

    @property
    def endless(self) -> bool:
        return self.follow

    def resumed(self, places: Mapping[str, Place]) -> Self | None:
        waits = self.follow or (self.path != STDIN and Path(self.path).is_file())  # a pipe keeps nothing
        return super().resumed(places) if waits else None

    def open(self, stream: str) -> LineReader:
        self.check()
        if self.path == STDIN:
            return PipeReader(self, stream, _stdin())
        try:
            if self.follow:
                from sources.lines_followed import FollowReader

                return FollowReader(self, stream)
            if stat.S_ISREG(os.stat(self.path).st_mode):
                return FileReader(self, stream)
            return PipeReader(self, stream, os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", self.path) from None


def _stdin() -> int:
    """A descriptor of our own for it."""
    try:
        return os.dup(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError):
        raise InputError("standard input is closed: there is nothing to read", STDIN) from None


class LineReader:
    """What readers of lines share."""

    epoch: str

    def __init__(self, plan: Lines, stream: str, epoch: str) -> None:
        self.epoch = epoch
        self._plan = plan
        self._stream = stream
        self._talk = Talk(plan, stream, epoch)
        self._splitter = LineSplitter(plan.largest_bytes)
        self._start_ns = self._now_ns = time.monotonic_ns()
        self._moment: Moment = (0, 0, 0)
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        raise NotImplementedError

    def _arrived(self) -> None:
        """What is read next arrives now."""
        self._now_ns = now_ns = time.monotonic_ns()
        self._moment = now_ns, time.time_ns(), now_ns - self._start_ns

    def _clock(self) -> Moment:
        return self._moment

    def _items(self, block: bytes) -> Iterator[Item]:
        whole, too_long = self._splitter.feed(block)
        if whole:
            yield from self._talk.lines(whole, self._clock)
        if too_long:
            yield self._talk.damaged(too_long)

    def _last(self) -> Iterator[Item]:
        """The line that no end of line ended."""
        if rest := self._splitter.end():
            yield from self._talk.lines(rest, self._clock)

    def _watermark(self) -> Watermark:
        return Watermark(self._stream, time.monotonic_ns() - self._start_ns)

    def close(self) -> None:
        self._closed = True


class FileReader(LineReader):
    """A file as it lies there."""

    def __init__(self, plan: Lines, stream: str) -> None:
        super().__init__(plan, stream, content_digest(Path(plan.path)))
        self._fd = os.open(plan.path, os.O_RDONLY)
        self._numbers = count()
        self._period_ns = 1e9 / plan.per_second
        self._passed = PassedOver(stream, plan._behind.get(""))  # all of it: earlier messages are context of later ones

    def _clock(self) -> Moment:
        """A line that waits on the disk arrives when it is taken."""
        return time.monotonic_ns(), time.time_ns(), int(next(self._numbers) * self._period_ns)

    def __iter__(self) -> Iterator[Item]:
        yield from self._passed(self._all())

    def _all(self) -> Iterator[Item]:
        judged = damaged = False
        first = True
        while not self._closed and (block := os.read(self._fd, BLOCK)):
            for item in self._items(block.removeprefix(_BOM) if first else block):
                judged, damaged = judged or isinstance(item, Chunk), damaged or isinstance(item, Gap)
                yield item
            first = False
        for item in self._last() if not self._closed else ():
            judged, damaged = judged or isinstance(item, Chunk), damaged or isinstance(item, Gap)
            yield item
        if damaged and not judged:
            raise InputError("holds no line that can be read: UTF-8 is what is needed", self._plan.path)

    def close(self) -> None:
        if not self._closed:
            super().close()
            os.close(self._fd)


class PipeReader(LineReader):
    """Standard input, or a pipe that somebody writes to. Takes the descriptor over."""

    def __init__(self, plan: Lines, stream: str, fd: int) -> None:
        super().__init__(plan, stream, new_epoch())
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def __iter__(self) -> Iterator[Item]:
        while not self._closed:
            if not self._poll.poll(TICK_S * 1000):
                yield self._watermark()
                continue
            try:
                block = os.read(self._fd, BLOCK)
            except BlockingIOError:
                continue
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror}", self._plan.path) from None
            self._arrived()
            if not block:
                yield from self._last()
                return
            yield from self._items(block)

    def close(self) -> None:
        if not self._closed:
            super().close()
            os.close(self._fd)
