"""What was accepted for a receiver elsewhere and is not there yet: a folder, and a ledger that adds up.

    accepted = delivered + refused + expired + dropped + damaged + waiting

`accepted` counts letters that were on the disk when the sink said so. They leave in order. The ledger is over all runs;
it lies in `cursor`, two slots of which one is always whole. If both are lost, what is in the log comes once more.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pipeline.core.contracts import OutboxSettings
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.letters import Kind, Letter
from pipeline.core.records import iso_time
from pipeline.core.snapshot import OutboxSnapshot
from pipeline.engine.record_log import LARGEST, Record, RecordLog

log = logging.getLogger(__name__)

DEAD = "dead.jsonl"
_DEAD_BYTES = 64 << 20  # of dead letters a file; one older file is kept
_SLOT = 4096  # apart, so that no torn write reaches both
_CHECKSUM = struct.Struct("<I")
_SYNC_S = 1.0
_PORTION = 256
_PLAUSIBLE_NS = 1_700_000_000_000_000_000  # a clock that says less was not set when the letter was written


@dataclass(frozen=True, slots=True)
class Ledger:
    """Over all runs. `settled` is the number up to which nothing waits, `last` the last one given away."""

    turn: int = 0
    settled: int = 0
    last: int = 0
    delivered: int = 0
    refused: int = 0
    expired: int = 0
    dropped: int = 0
    damaged: int = 0


_LEDGER = struct.Struct(f"<{len(fields(Ledger))}Q")


class OutboxInUse(InputError):
    """Somebody else has it."""


class Outbox:
    """Letters in a folder. Thread-safe; one process has it.

    Raises `InputError` at opening where the folder cannot be used at all. Damage stops nothing: what is damaged is set
    aside and named in the log.
    """

    def __init__(self, folder: Path, settings: OutboxSettings) -> None:
        self.folder = folder
        self._settings = settings
        self._most_bytes = int(settings.max_mb * (1 << 20))
        self._changed = threading.Condition()
        self._lock = self._locked()
        try:
            self._cursor = os.open(folder / "cursor", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            kept = _kept(self._cursor)
            after = 0 if kept is None else max(kept.last, kept.settled)
            self._log = RecordLog(folder, after=after, sync=settings.sync, room=self._most_bytes)
        except OSError as error:
            raise InputError(f"cannot be used as an outbox: {error.strerror}", str(folder)) from None
        self._ledger = replace(kept, last=self._log.last) if kept is not None else self._made_up()
        self._opened_wall_ns, self._opened_s = time.time_ns(), time.monotonic()
        self._synced_s = 0.0
        self._oldest: Record | None = None
        for damage in self._log.damages:
            what = "an unfinished write at its end" if damage.torn else "damaged"
            log.warning(
                "outbox %s: %d bytes of %s at %d are %s; set aside in %s, and everything behind them is sent",
                *(folder, damage.size, damage.segment.name, damage.start, what, damage.aside),
            )

    def _locked(self) -> int:
        place = str(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"cannot be used as an outbox: {error.strerror}", place) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise OutboxInUse(
                "another run, or another sink, has its outbox here: give this one a `path` of its own", place
            ) from None
        return lock

    def _made_up(self) -> Ledger:
        """Without a cursor: nothing that is there counts as delivered, and what came before it is not known."""
        settled = self._log.first - 1
        if settled:
            log.warning("outbox %s: its ledger is gone; what waits is sent, some of it perhaps again", self.folder)
        return Ledger(settled=settled, last=self._log.last, delivered=settled)

    def _keep(self, ledger: Ledger, *, at_once: bool = False) -> None:
        """Remember it: for the death of the program at once, for a loss of power once a second, or `at_once`."""
        self._ledger = ledger = replace(ledger, turn=ledger.turn + 1)
        body = _LEDGER.pack(*(getattr(ledger, field.name) for field in fields(ledger)))
        os.pwrite(self._cursor, body + _CHECKSUM.pack(zlib.crc32(body)), (ledger.turn % 2) * _SLOT)
        now_s = time.monotonic()
        if self._settings.sync and (at_once or now_s - self._synced_s >= _SYNC_S):
            self._synced_s = now_s
            os.fdatasync(self._cursor)

    # In.

    def accept(self, letters: Sequence[Letter]) -> None:
        """They are on the disk when it returns. Raises `SinkBusy` where there is no room, `SinkRefused` for one that is
        larger than any room; none of them is accepted then."""
        packed = [_packed(letter) for letter in letters]
        if any(len(data) > min(LARGEST, self._most_bytes) for data in packed):
            raise SinkRefused(f"an item of more than {min(LARGEST, self._most_bytes) >> 20} MiB")
        with self._changed:
            if not self._is_there():
                raise SinkBusy(f"{self.folder} was removed or moved while it was in use: put it back, or start again")
            try:
                self._make_room(sum(map(len, packed)))
                self._log.append(packed)
            except OSError as error:
                raise SinkBusy(f"{self.folder}: {error.strerror}") from error
            with suppress(OSError):  # they are accepted: the log says so as well
                self._keep(replace(self._ledger, last=self._log.last))
            self._changed.notify_all()

    def _is_there(self) -> bool:
        """What is written to a file that nobody can find any more is on no disk."""
        try:
            return os.path.samestat(os.stat(self.folder / "lock"), os.fstat(self._lock))
        except OSError:
            return False

    def _make_room(self, size: int) -> None:
        while self._log.size + size > self._most_bytes and self._waiting:
            if self._settings.when_full == "wait":
                raise SinkBusy(f"{self.folder} is full: {self._waiting} letters wait in it")
            self._pass_over(self._log.end_of_oldest(), "dropped")

    # Out.

    @property
    def _waiting(self) -> int:
        return self._ledger.last - self._ledger.settled

    @property
    def waiting(self) -> int:
        with self._changed:
            return self._waiting

    def take(self, most: int, timeout_s: float) -> list[tuple[int, Letter]]:
        """The next letters and their numbers, in order; none where there are none after `timeout_s`. They stay until
        they are settled. Raises `OSError`."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            found: list[Record] = []
            while self._waiting:
                found = self._log.read(self._ledger.settled, most)
                lost = (found[0].number if found else self._ledger.last + 1) - 1 - self._ledger.settled
                if lost:
                    log.error("outbox %s: %d letters were lost to damage", self.folder, lost)
                    self._pass_over(self._ledger.settled + lost, "damaged")
                found = _without_gap(found)
                old = sum(1 for record in found if self._age_s(record) > self._settings.max_age_h * 3600)
                if not old:
                    break
                log.warning("outbox %s: %d letters had waited for too long", self.folder, old)
                self._pass_over(found[old - 1].number, "expired")
                found = []
            self._oldest = found[0] if found else None
            return [(record.number, _unpacked(record.data)) for record in found]

    def _age_s(self, record: Record) -> float:
        """By the clock on the wall only for the time before this program ran: it may leap."""
        running_s = time.monotonic() - self._opened_s
        before_s = (self._opened_wall_ns - record.wall_ns) / 1e9
        if before_s <= 0:  # written since: or by a clock that was ahead
            return max(0.0, running_s + before_s)
        return running_s + (before_s if record.wall_ns > _PLAUSIBLE_NS else 0.0)

    def delivered(self, upto: int) -> None:
        """Letters up to that number have arrived. Raises `OSError`."""
        with self._changed:
            self._pass_over(upto, "delivered")

    def refused(self, number: int, letter: Letter, reason: str) -> None:
        """The receiver will never take this one, the next in turn: it goes to the dead letters. Raises `OSError`."""
        line = {
            "time": iso_time(time.time_ns()),
            "reason": reason,
            "id": letter.id,
            "kind": letter.kind,
            "about": letter.about,
            "stream": letter.stream,
            "body": letter.body.decode("utf-8", "replace"),
        }
        path = self.folder / DEAD
        with self._changed:
            if path.exists() and path.stat().st_size > _DEAD_BYTES:
                path.replace(_dead_files(self.folder)[0])
            with path.open("ab") as file:
                file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._pass_over(number, "refused")

    def revive(self) -> int:
        """Dead letters wait again, behind the rest; how many. Raises `OSError`, `SinkBusy`."""
        dead = [letter for letter, _ in dead_letters(self.folder)]
        for start in range(0, len(dead), _PORTION):
            self.accept(dead[start : start + _PORTION])
        for path in _dead_files(self.folder):
            path.unlink(missing_ok=True)
        return len(dead)

    def _pass_over(self, upto: int, fate: str) -> None:
        """Letters up to that number are settled, in the same way; what meanwhile was settled otherwise stays so."""
        count = upto - self._ledger.settled
        if count > 0:
            settled = replace(self._ledger, settled=upto, **{fate: getattr(self._ledger, fate) + count})
            self._keep(settled, at_once=self._log.frees(upto))  # else a loss of power makes damage of what is deleted
            self._log.release(upto)
            self._oldest = None

    def snapshot(self) -> OutboxSnapshot:
        with self._changed:
            size = self._log.size if self._waiting else 0
            return _said(self.folder, self._ledger, size, 0.0 if self._oldest is None else self._age_s(self._oldest))

    def wake(self) -> None:
        """Whoever waits for letters looks up."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Safe twice."""
        with self._changed:
            if self._lock >= 0:
                self._log.close()
                os.close(self._cursor)
                os.close(self._lock)
                self._lock = -1


def seen(folder: Path) -> OutboxSnapshot:
    """What its ledger says, also while a run has the outbox; nothing is written. How long the next letter has waited
    is not known to it. Raises `InputError` where it cannot be read."""
    try:
        with (folder / "cursor").open("rb") as cursor:
            ledger = _kept(cursor.fileno())
        size = sum(path.stat().st_size for path in folder.glob("*.log"))
    except FileNotFoundError:
        return _said(folder, Ledger(), 0, 0.0)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", str(folder)) from None
    if ledger is None and size:
        raise InputError("its ledger is damaged: the next run makes another one, and sends what waits", str(folder))
    ledger = ledger or Ledger()  # nothing was ever accepted
    return _said(folder, ledger, size if ledger.last > ledger.settled else 0, 0.0)


def _said(folder: Path, ledger: Ledger, size: int, oldest_s: float) -> OutboxSnapshot:
    return OutboxSnapshot(
        path=str(folder),
        accepted=ledger.last,
        delivered=ledger.delivered,
        refused=ledger.refused,
        expired=ledger.expired,
        dropped=ledger.dropped,
        damaged=ledger.damaged,
        waiting=ledger.last - ledger.settled,
        bytes=size,
        oldest_s=oldest_s,
    )


def _kept(cursor: int) -> Ledger | None:
    """The newer of the two slots that is whole."""
    whole = []
    for slot in range(2):
        data = os.pread(cursor, _LEDGER.size + _CHECKSUM.size, slot * _SLOT)
        body, checksum = data[: _LEDGER.size], data[_LEDGER.size :]
        if len(checksum) == _CHECKSUM.size and _CHECKSUM.unpack(checksum)[0] == zlib.crc32(body):
            whole.append(Ledger(*_LEDGER.unpack(body)))
    return max(whole, key=lambda one: one.turn, default=None)


def _without_gap(records: list[Record]) -> list[Record]:
    """Up to the first number that is missing: what is missing is counted when it is next in turn."""
    return [record for n, record in enumerate(records) if record.number == records[0].number + n]


def dead_letters(folder: Path) -> list[tuple[Letter, str]]:
    """Those that were refused, and why. What cannot be read is passed over."""
    found = []
    for path in _dead_files(folder):
        for line in path.read_bytes().splitlines() if os.path.isfile(path) else ():
            try:
                one = json.loads(line)
                body = one["body"].encode()
                found.append((Letter(one["id"], one["kind"], one["about"], one["stream"], body), one["reason"]))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
    return found


def _dead_files(folder: Path) -> tuple[Path, Path]:
    """The older one first."""
    return folder / "dead.old.jsonl", folder / DEAD


def _packed(letter: Letter) -> bytes:
    head = json.dumps([letter.id, letter.kind, letter.about, letter.stream])
    return head.encode() + b"\n" + letter.body


def _unpacked(data: bytes) -> Letter:
    head, _, body = data.partition(b"\n")
    name, kind, about, stream = json.loads(head)
    known: Kind = kind
    return Letter(name, known, about, stream, body)
