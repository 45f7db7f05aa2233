"""JSON Lines: one outcome, event, ruling or audit a line, in a file that rotates, or on standard output."""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import InputError, SinkBusy, SinkGone, SinkRefused
from pipeline.core.files import sync_folder
from pipeline.core.outages import Outage, outage_document
from pipeline.core.records import Audit, Event, Result, audit_document, event_document, outcome_document
from pipeline.core.rulings import Ruling, ruling_document
from pipeline.core.tapes import Recording
from sinks.paths import check_file, expanded, make_parents, same_file

STDOUT = "-"
_encode = json.JSONEncoder(ensure_ascii=False).encode


class Jsonl(Sink):
    """Appends to `path`, creating folders as needed; `-` is standard output.

    A batch is acknowledged once the system has all of it: it survives the death of this program. To survive a loss of
    power too, say `sync: batch` (one fsync a batch). A batch that does not fit on the disk is taken back whole, and
    comes again. Lines have an `id` (outcomes), `event` and `type` (events), `ruling` and `type` (rulings) or `audit`
    (audits); where a recording is run twice, the last line with an id is the one that counts.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "audits", "rulings", "outages"})

    path: str = Field(default="results.jsonl", min_length=1, description="file to append to; - is standard output")
    outcomes: Literal["all", "flagged", "none"] = Field(
        default="all",
        description="which outcomes get a line: every one, only results with something to act on, or none",
    )
    events: bool = Field(default=True, description="write events as well")
    rulings: bool = Field(default=True, description="write what the policy rules as well")
    rotate_mb: PositiveFloat | None = Field(
        default=None, description="start a new file before one grows beyond this; the old one becomes PATH.1"
    )
    keep: int = Field(default=5, ge=1, le=10_000, description="how many rotated files to keep")
    sync: Literal["none", "batch"] = Field(default="none", description="batch: wait for the disk before acknowledging")

    def check(self) -> None:
        if self.path != STDOUT:
            check_file(expanded(self.path))
        elif sys.__stdout__ is None:
            raise InputError("standard output is closed, and the results were to go there: give them a file", "path")

    def open(self) -> Writer:
        return _Writer(self, _Stdout() if self.path == STDOUT else _File(self))

    def line(self, item: Delivery) -> str | None:
        """`item` as a line with its end, or None where it is not wanted."""
        if isinstance(item, Event):
            return _encode(event_document(item)) + "\n" if self.events else None
        if isinstance(item, Ruling):
            return _encode(ruling_document(item)) + "\n" if self.rulings else None
        if isinstance(item, Audit):
            return _encode(audit_document(item)) + "\n"
        if isinstance(item, Outage):
            return _encode(outage_document(item)) + "\n"
        outcome = item.outcome if isinstance(item, Picture) else item
        flagged = isinstance(outcome, Result) and outcome.flagged
        if isinstance(outcome, Recording) or self.outcomes == "none" or (self.outcomes == "flagged" and not flagged):
            return None
        return _encode(outcome_document(outcome)) + "\n"


class _Writer:
    def __init__(self, plan: Jsonl, target: _File | _Stdout) -> None:
        self._plan = plan
        self._target = target

    def write(self, items: Sequence[Delivery]) -> None:
        text = "".join(line for item in items if (line := self._plan.line(item)) is not None)
        if text:
            # a lone surrogate (a file name of another age) becomes \udcxx, which is how JSON spells it
            self._target.append(text.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        self._target.close()


class _File:
    """Appends whole batches. Anything else than a regular file (a pipe, a device) is neither rotated nor taken back."""

    def __init__(self, plan: Jsonl) -> None:
        self._path = expanded(plan.path)
        self._limit = int(plan.rotate_mb * 1e6) if plan.rotate_mb else None
        self._keep = plan.keep
        self._sync = plan.sync == "batch"
        self._fd: int | None = None
        make_parents(self._path)
        try:
            self._open()
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", str(self._path)) from error

    def _open(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            known = os.fstat(fd)
            regular = stat.S_ISREG(known.st_mode)
            # what a crash left half-written must not swallow the next line
            lead = b"\n" if regular and not _ends_whole(self._path) else b""
            if self._sync and regular:
                sync_folder(self._path.parent)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._known, self._regular, self._lead = fd, known, regular, lead

    def append(self, data: bytes) -> None:
        try:
            fd = self._ready(len(data))
            before = os.fstat(fd).st_size
            self._all_or_nothing(fd, self._lead + data, before)
        except BrokenPipeError as error:
            raise SinkRefused(f"{self._path}: nobody reads it any more") from error
        except OSError as error:
            raise SinkBusy(f"{self._path}: {error.strerror}") from error

    def _ready(self, coming: int) -> int:
        """The descriptor to write `coming` bytes to: that of the file which stands at the path, with room in it."""
        if self._fd is not None and self._regular:
            if not same_file(self._path, self._known):  # a log rotator or a person moved it away
                self._shut()
            elif self._limit is not None and (size := os.fstat(self._fd).st_size) > 0 and size + coming > self._limit:
                self._rotate()
        if self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        assert self._fd is not None
        return self._fd

    def _rotate(self) -> None:
        """PATH → PATH.1 → PATH.2 …; each step is one rename, oldest first, so that dying between two loses nothing."""
        older = [self._numbered(number) for number in range(1, self._keep + 1)]
        first_free = next((number for number, path in enumerate(older) if not path.exists()), self._keep - 1)
        for number in range(first_free, 0, -1):
            older[number - 1].replace(older[number])
        self._path.replace(older[0])
        self._shut()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _all_or_nothing(self, fd: int, data: bytes, before: int) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(fd, data[done:])
            if self._sync and self._regular:
                os.fsync(fd)
        except OSError:
            # only what is ours is taken back: nobody else has appended if the file ends where we stopped
            if self._regular and done:
                if os.fstat(fd).st_size == before + done:
                    os.ftruncate(fd, before)
                else:
                    self._lead = b"\n"
            raise
        self._lead = b""

    def _shut(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        self._shut()


def _ends_whole(path: Path) -> bool:
    """Whether `path` is empty or ends with the end of a line."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


class _Stdout:
    """Standard output, which belongs to the program: written past Python's buffer, so that a batch is out when it is
    acknowledged, and never closed."""

    def append(self, data: bytes) -> None:
        try:
            sys.stdout.flush()
            fd = sys.stdout.fileno()
            done = 0
            while done < len(data):
                try:
                    done += os.write(fd, data[done:])
                except BlockingIOError:  # a terminal or pipe that somebody made non-blocking: a line is never torn
                    select.select([], [fd], [])
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and done == 0:
                raise SinkBusy(f"standard output: {error.strerror or error}") from error
            if error.errno == errno.EPIPE:
                raise SinkGone("nobody reads standard output any more") from error
            raise SinkRefused(f"standard output: {error.strerror or error}") from error

    def close(self) -> None:
        """It is not ours to close."""
