"""Ctrl-C and SIGTERM, by which a person and a service manager ask a program to end."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def asked_to_end(again: Callable[[int], object]) -> Iterator[Callable[[], bool]]:
    """Whether somebody asked for an end since; who asks a second time gets `again`, told the signal's number. In the
    main thread alone; what was in place before is put back."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            again(number)
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
