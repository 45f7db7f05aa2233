"""What a browser has instead of a token: a random name, known here and nowhere else. A restart ends them all."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")

LONGEST_S = 30 * 86400
_IDLE_S = 12 * 3600.0
_MOST = 256


class Sessions(Generic[R]):
    """At most 256 at once: the one that was idle longest makes room. Each ends twelve hours after its last use, and
    thirty days after it was begun. Used by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: OrderedDict[bytes, tuple[R, float, float]] = OrderedDict()

    def begin(self, role: R) -> str:
        name = secrets.token_urlsafe(32)
        now = self._clock()
        self._open[_hidden(name)] = (role, now, now)
        while len(self._open) > _MOST:
            self._open.popitem(last=False)
        return name

    def role(self, name: str) -> R | None:
        key, now = _hidden(name), self._clock()
        role, begun, used = self._open.get(key, (None, 0.0, 0.0))
        if role is None:
            return None
        if now - used > _IDLE_S or now - begun > LONGEST_S:
            del self._open[key]
            return None
        self._open[key] = (role, begun, now)
        self._open.move_to_end(key)
        return role

    def end(self, name: str) -> None:
        self._open.pop(_hidden(name), None)


def _hidden(name: str) -> bytes:
    """A look-up takes as long whatever part of a name is right."""
    return hashlib.sha256(name.encode()).digest()
