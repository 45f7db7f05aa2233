"""Raw PCM from standard input, a named pipe or a file: what `arecord`, `ffmpeg` or `sox` hand over."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.records import Item, Watermark
from sources.ffmpeg import new_epoch
from sources.file import content_digest
from sources.raw_sound import BLOCK, RawDecoder, RawSound

_TICK_S = 0.5
_STDIN = 0


class Pcm(RawSound):
    """Read to its end, which is where the writer closes it. A pipe that nobody writes to yet is waited for.

    A file can be read again and gives the same ids; what came through a pipe is gone.
    """

    path: str = Field("-", min_length=1, description="a file or a named pipe; - is standard input")
    realtime: bool = Field(
        False, description="it comes from a microphone: what is late is dropped, instead of making the writer wait"
    )

    @property
    def paced(self) -> bool:
        return self.realtime

    def check(self) -> None:
        if self.path == "-":
            return
        try:
            mode = os.stat(self.path).st_mode
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", self.path) from None
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise InputError("is no file and no named pipe", self.path)

    def open(self, stream: str) -> PcmReader:
        self.check()
        return PcmReader(self, stream)


class PcmReader:
    """The running part of `Pcm`."""

    def __init__(self, plan: Pcm, stream: str) -> None:
        self._stream = stream
        self._place = "standard input" if plan.path == "-" else plan.path
        self._closed = False
        try:
            if plan.path == "-":
                self._file = os.dup(_STDIN)
            else:  # a pipe opened to wait would do so where nobody can call it off
                self._file = os.open(plan.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", self._place) from None
        mode = os.fstat(self._file).st_mode
        self._waits = stat.S_ISFIFO(mode) and plan.path != "-"  # for somebody to write to it
        self.epoch = content_digest(Path(plan.path)) if stat.S_ISREG(mode) and plan.path != "-" else new_epoch()
        self.decoder = RawDecoder(plan, stream, self.epoch)

    def __iter__(self) -> Iterator[Item]:
        while not self._closed:
            try:
                data = self._read()
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror}", self._place) from None
            if data is None:
                yield Watermark(self._stream, self.decoder.windows.next_ns)
            elif data:
                self._waits = False
                yield from self.decoder.feed(data, time.monotonic_ns(), time.time_ns())
            elif self._waits:
                time.sleep(_TICK_S / 5)
                yield Watermark(self._stream, 0)
            else:
                yield from self.decoder.finish()
                if not self.decoder.windows.received:
                    raise InputError("there was nothing in it", self._place)
                return

    def _read(self) -> bytes | None:
        """What came, nothing where the writer closed it, or None where nothing came for half a second."""
        with suppress(ValueError, OSError):  # Windows cannot wait for a file, and reads it at once
            if not select.select([self._file], [], [], _TICK_S)[0]:
                return None
        try:
            return os.read(self._file, BLOCK)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._file)
