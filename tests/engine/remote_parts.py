"""A receiver in this process, for tests of what lies in front of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from pipeline.core.contracts import Courier, OutboxSettings, Remote
from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.letters import Letter


class Receiver:
    """What arrived, in order. `answer` is asked before each sending: it raises, or says how many to take."""

    def __init__(self, answer: Callable[[Sequence[Letter]], int] = len) -> None:
        self.answer = answer
        self.letters: list[Letter] = []
        self.down = False
        self.lock = threading.Lock()

    @property
    def ids(self) -> list[str]:
        with self.lock:
            return [letter.id for letter in self.letters]


class ToReceiver(Remote):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    receiver: Receiver = Field(exclude=True)
    most: int = 10

    def connect(self, name: str) -> Courier:
        return _Courier(self)


class _Courier:
    def __init__(self, plan: ToReceiver) -> None:
        self.most = plan.most
        self._receiver = plan.receiver

    def send(self, letters: Sequence[Letter]) -> int:
        if self._receiver.down:
            raise SinkBusy("nobody is there")
        taken = self._receiver.answer(letters)
        with self._receiver.lock:
            self._receiver.letters += letters[:taken]
        return taken

    def close(self) -> None:
        pass


def remote(folder: Path, receiver: Receiver, **settings: Any) -> ToReceiver:
    box: dict[str, Any] = {"path": str(folder), "sync": False} | settings.pop("outbox", {})
    return ToReceiver(receiver=receiver, outbox=OutboxSettings(**box), **settings)


def letter(number: int, size: int = 2) -> Letter:
    return Letter(f"door/E/{number}:people@1", "outcome", f"door/E/{number}", "door", b"{}".ljust(size))


def until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return true()


__all__ = ["Receiver", "SinkBusy", "SinkRefused", "ToReceiver", "letter", "remote", "until"]
