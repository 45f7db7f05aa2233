"""One clip: packets from a tape into a film, under another name until it is whole."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final

import av
from av.container import OutputContainer
from av.error import FFmpegError

from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.files import UNFINISHED
from pipeline.core.records import Event
from pipeline.core.tapes import Piece, Tape

_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
_SECOND = 1_000_000_000


def cannot(error: Exception, path: Path) -> SinkBusy | SinkRefused:
    """What to raise where the film at `path` cannot be written: later it may be, or never."""
    reason = getattr(error, "strerror", None) or str(error)
    kind = SinkBusy if getattr(error, "errno", None) in _PASSING else SinkRefused
    return kind(f"{path}: {reason}")


class Cut:
    """The film of one event. Its packets stay on the tape until they are written, and are nowhere else.

    Raises `SinkBusy` and `SinkRefused`; there is no half file then, and it may be begun again.
    """

    def __init__(self, event: Event, tape: Tape, shift_ns: int, path: Path, margins_ns: tuple[int, int, int]) -> None:
        """`shift_ns`: see `Tape.shift_ns`. `margins_ns`: before the event, after it, and how long at most."""
        self.event = event
        self.tape = tape
        self.path = path
        self._shift_ns = shift_ns
        before_ns, self._after_ns, longest_ns = margins_ns
        self._wanted_ns = max(0, event.start_ns - before_ns)
        self._limit_ns = self._wanted_ns + longest_ns
        self.next: int | None = None  # the packet that comes next
        self._file: BufferedWriter | None = None
        self._container: OutputContainer | None = None
        self._streams: dict[int, Any] = {}
        self._decoded: dict[int, int] = {}  # the latest time stamp of each track
        self.packets = self.bytes = 0
        self.first_ns = self.last_ns = 0
        self._zero_ns = 0
        self.cut_off = False

    @property
    def unfinished(self) -> Path:
        return self.path.with_name(f".{self.path.name}{UNFINISHED}")

    def go_on(self, *, everything: bool = False) -> bool:
        """Write what is there and belongs to it; whether that was all. With `everything`, nothing more will come."""
        if self.next is None:
            self.next = self.tape.begin(self._wanted_ns - self._shift_ns)
        until_ns = min(self._limit_ns, self.event.end_ns + self._after_ns)
        done = False
        for piece in () if self.next is None else self.tape.since(self.next):
            stamp_ns = piece.dts * piece.base.numerator * _SECOND // piece.base.denominator + self._shift_ns
            if stamp_ns >= until_ns:
                done = True
                break
            self._put(piece)
            self.next = piece.number + 1
        self.cut_off = self._limit_ns < self.event.end_ns + self._after_ns
        ended = self.event.kind == "end" or self.cut_off
        return everything or (ended and (done or self.tape.over))

    def _put(self, piece: Piece) -> None:
        picture = self.tape.is_picture(piece)
        if self._container is None and not (picture and piece.key):
            return  # what was to be its beginning is gone: it begins with the next key frame
        if self._container is not None and not picture and piece.at_ns < self._zero_ns:
            return  # sound of before the first picture
        try:
            container = self._container or self._begin(piece)
            packet = piece.packet()
            zero = self._zero_ns * piece.base.denominator // (piece.base.numerator * _SECOND)
            packet.pts, packet.dts = piece.pts - zero, piece.dts - zero
            packet.stream = self._streams[piece.track]
            if packet.dts <= self._decoded.get(piece.track, packet.dts - 1):
                return  # the sender's clock went back: a film's cannot
            self._decoded[piece.track] = packet.dts
            container.mux(packet)
        except (FFmpegError, OSError, ValueError) as error:
            self.abandon()
            raise cannot(error, self.path) from error
        self.packets += 1
        self.bytes += len(piece.data)
        if picture:
            self.last_ns = max(self.last_ns, piece.at_ns + self._shift_ns)

    def _begin(self, piece: Piece) -> OutputContainer:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.unfinished.open("wb")  # our own: PyAV leaves its file open where closing fails
        self._container = container = av.open(self._file, "w", format=self.tape.form)
        self._streams = {
            track: container.add_stream_from_template(template, opaque=True)
            for track, template in self.tape.templates.items()
        }
        self._zero_ns = piece.at_ns  # what is decoded before it is shown lies before zero, as in any film
        self.first_ns = self.last_ns = piece.at_ns + self._shift_ns
        return container

    def finish(self) -> bool:
        """Close the film and put it on the disk, still under its other name; whether there is anything in it."""
        if self._container is None or self._file is None:
            return False
        try:
            self._container.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._container = self._file = None
        except (FFmpegError, OSError) as error:
            self.abandon()
            raise cannot(error, self.path) from error
        return True

    def abandon(self) -> None:
        """Nothing is left of it but the wish."""
        for part in (self._container, self._file):
            if part is not None:
                with suppress(FFmpegError, OSError, ValueError):
                    part.close()
        self._container = self._file = None
        with suppress(OSError):
            self.unfinished.unlink()
        self.next, self.packets, self.bytes, self._decoded = None, 0, 0, {}

    def says(self) -> dict[str, Any]:
        """Where in the stream's media time it lies. It begins at a key frame; `begins_late_s` says by how much the tape
        no longer reached back to where it was to begin."""
        late_ns = self.first_ns - self._wanted_ns
        return {
            "start_ns": self.first_ns,
            "end_ns": self.last_ns,
            "event_at_s": round((self.event.start_ns - self.first_ns) / 1e9, 3),
            "begins_late_s": round(max(0, late_ns) / 1e9, 3),
            "whole": self.event.kind == "end" and not self.cut_off,
            "codecs": list(self.tape.codecs),
            "packets": self.packets,
        }
