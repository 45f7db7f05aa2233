"""Real time for what could come faster."""

from __future__ import annotations

import time
from collections.abc import Iterator

_TICK_S = 0.5


def wait_until(mono_ns: int) -> Iterator[None]:
    """Wait until that moment by the monotonic clock; yields every half second on the way."""
    while (left_s := (mono_ns - time.monotonic_ns()) / 1e9) > 0:
        time.sleep(min(left_s, _TICK_S))
        if left_s > _TICK_S:
            yield


class Pace:
    """A clock that starts with the first wait."""

    def __init__(self) -> None:
        self._start_ns: int | None = None

    def until(self, due_ns: int) -> Iterator[None]:
        """Wait until `due_ns` of media time; yields every half second on the way, so that nobody waits blindly. What
        is late already comes at once."""
        if self._start_ns is None:
            self._start_ns = time.monotonic_ns() - due_ns
        yield from wait_until(self._start_ns + due_ns)

    def span(self, seconds: float) -> Iterator[None]:
        """Wait `seconds` from now."""
        self._start_ns = time.monotonic_ns()
        return self.until(int(seconds * 1e9))
