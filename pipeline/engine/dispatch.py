"""Sends what waits in an outbox: in order, for as long as it takes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core.backoff import backoff
from pipeline.core.contracts import Courier, Delivery, Observer, Remote, Writer
from pipeline.core.errors import InputError, SinkBusy, SinkRefused, let_go
from pipeline.core.letters import Letter, letter_of
from pipeline.core.secrets import redact
from pipeline.core.snapshot import OutboxSnapshot, Snapshot
from pipeline.engine.outbox import Outbox

log = logging.getLogger(__name__)

FOLDER = "outbox"
_OBSERVE_S = 1.0
_LONGEST_PAUSE_S = 10.0
_PUZZLED = 10  # times a courier may fail at the same letter in a way that it does not explain
_PATIENCE_S = 5.0  # how long a run that is over waits for a receiver that is down


def outbox_folder(name: str, remote: Remote) -> Path:
    """Of the sink of that name."""
    return Path(os.path.expanduser(remote.outbox.path)) if remote.outbox.path else Path(FOLDER) / name


class Dispatch:
    """The outbox of a `Remote`, and the thread that empties it."""

    def __init__(self, name: str, remote: Remote, snapshot: Callable[[], Snapshot]) -> None:
        self._name = name
        self._remote = remote
        self._snapshot = snapshot
        self.outbox: Outbox | None = None
        self._courier: Courier | None = None
        self._stop = threading.Event()
        self._end_s = float("inf")
        self._down_since: float | None = None
        self.detail = ""
        """Why the receiver does not take anything; empty where it does."""
        self.retries = 0
        self.refused = 0
        self._failures = 0  # at the same letter, unexplained
        self._thread = threading.Thread(target=self._run, name=f"send-{name}", daemon=True)

    def open(self) -> Writer:
        """Raises `InputError` where it can never work."""
        if self.outbox is None:
            self.outbox = Outbox(outbox_folder(self._name, self._remote), self._remote.outbox)
            try:
                self._connect()
            except SinkBusy as error:
                self._trouble(error)
            except BaseException:
                self.outbox.close()
                self.outbox = None
                raise
            self._thread.start()
        return _Accepting(self._remote, self.outbox)

    @property
    def alive(self) -> bool:
        """Whether its thread runs, or is not meant to: not yet, or not any more."""
        return self._thread.ident is None or self._stop.is_set() or self._thread.is_alive()

    def settled(self) -> bool:
        """Nothing waits; or it does on the disk, and the receiver has not been there for a while."""
        if self.outbox is None or not self.outbox.waiting:
            return True
        return self._down_since is not None and time.monotonic() - self._down_since > _PATIENCE_S

    def finish(self, end_s: float) -> None:
        """Nothing more will be accepted: send what can be until `end_s` by the monotonic clock. Returns at once."""
        self._end_s = end_s
        self._stop.set()
        if self.outbox is not None:
            self.outbox.wake()

    def join(self, end_s: float) -> None:
        """Wait for that."""
        if self._thread.is_alive():
            self._thread.join(max(0.0, end_s - time.monotonic()))

    def snapshot(self) -> OutboxSnapshot | None:
        return None if self.outbox is None else self.outbox.snapshot()

    def _connect(self) -> Courier:
        if self._courier is None:
            self._courier = self._remote.connect(self._name)
        return self._courier

    def _run(self) -> None:
        assert self.outbox is not None
        batch: list[tuple[int, Letter]] = []
        waits = backoff(0.1, _LONGEST_PAUSE_S)
        observed_s = 0.0
        try:
            while not self._over():
                if time.monotonic() - observed_s >= _OBSERVE_S:
                    observed_s = time.monotonic()
                    self._observe()
                try:
                    if not batch:
                        most = 1 if self._courier is None else max(1, self._courier.most)
                        batch = self.outbox.take(most, _OBSERVE_S / 4)
                    if batch:
                        batch = self._send(batch)
                        waits, self._down_since, self.detail = backoff(0.1, _LONGEST_PAUSE_S), None, ""
                except SinkBusy as error:
                    self._trouble(error)
                    let_go(error)
                    self._pause(next(waits))
                    batch = []  # what is too old by then, or had to make room, does not go any more
                except Exception as error:  # noqa: BLE001 a disk that fails, say: the thread has to live on
                    self._trouble(SinkBusy(f"{self.outbox.folder}: {type(error).__name__}: {redact(error)}"))
                    let_go(error)
                    self._pause(next(waits))
            self._observe()
        finally:
            self._close()

    def _over(self) -> bool:
        assert self.outbox is not None
        return self._stop.is_set() and (self.settled() or time.monotonic() >= self._end_s)

    def _send(self, batch: Sequence[tuple[int, Letter]]) -> list[tuple[int, Letter]]:
        """What is left of the batch. Raises `SinkBusy`."""
        assert self.outbox is not None
        try:
            arrived = self._connect().send([letter for _, letter in batch])
        except SinkBusy:
            raise
        except (SinkRefused, InputError) as error:
            self._refuse(*batch[0], redact(error))
            let_go(error)
            return list(batch[1:])
        except Exception as error:
            self._failures += 1
            log.warning(
                "sink %s: %s: %s", self._name, type(error).__name__, redact(error), exc_info=self._failures == 1
            )
            if self._failures >= _PUZZLED:
                self._refuse(*batch[0], f"{type(error).__name__}: {redact(error)}")
                let_go(error)
                return list(batch[1:])
            raise SinkBusy(f"{type(error).__name__}: {redact(error)}") from error
        if arrived < 1:  # against the contract; but no letter goes for that
            raise SinkBusy("it took nothing, and did not say why")
        self._failures = 0
        arrived = min(arrived, len(batch))
        self.outbox.delivered(batch[arrived - 1][0])
        return list(batch[arrived:])

    def _refuse(self, number: int, letter: Letter, reason: str) -> None:
        assert self.outbox is not None
        self.outbox.refused(number, letter, reason)
        self._failures = 0
        self.refused += 1
        log.error("sink %s refused %s: %s; it is with the dead letters", self._name, redact(letter.id), reason)

    def _trouble(self, error: SinkBusy) -> None:
        self.retries += 1
        if self._down_since is None:
            self._down_since = time.monotonic()
            log.warning("sink %s is busy and will be tried again: %s", self._name, redact(error))
        self.detail = redact(error)

    def _pause(self, seconds: float) -> None:
        if self._stop.is_set():
            time.sleep(min(seconds, 0.2, max(0.0, self._end_s - time.monotonic())))
        else:
            self._stop.wait(seconds)

    def _observe(self) -> None:
        courier: object = self._courier
        if isinstance(courier, Observer):
            try:
                courier.observe(self._snapshot())
            except Exception as error:  # noqa: BLE001 what tells of the state must not stop what it tells of
                log.warning("sink %s could not tell how things are: %s", self._name, redact(error))

    def _close(self) -> None:
        assert self.outbox is not None
        try:
            if self._courier is not None:
                self._courier.close()
        except Exception as error:  # noqa: BLE001 closing is the last thing; say what went wrong and go
            log.error("sink %s: it could not be closed: %s", self._name, redact(error))
        self.outbox.close()


class _Accepting:
    """The writer that the engine sees: what it takes is on the disk."""

    def __init__(self, remote: Remote, outbox: Outbox) -> None:
        self._remote = remote
        self._outbox = outbox

    def write(self, items: Sequence[Delivery]) -> None:
        self._outbox.accept([letter_of(item) for item in items if self._remote.wants(item)])

    def close(self) -> None:
        """The dispatch closes the outbox, once it has sent what it could."""
