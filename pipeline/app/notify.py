"""Tells systemd how the program is doing: ready, stopping, a line of status, and a sign of life while it really lives.

The watchdog is fed from what the engine did, never from a timer of its own: where its threads stand still, systemd gets
no sign and starts the program anew. Without systemd (no `NOTIFY_SOCKET`) nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

_SHARE = 3  # signs of life within the time that systemd waits


class Notifier:
    """`healthy` is asked before each sign of life. For one thread."""

    def __init__(self, healthy: Callable[[], bool]) -> None:
        where = os.environ.get("NOTIFY_SOCKET", "")
        self._where = "\0" + where[1:] if where.startswith("@") else where
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if where else None
        self._healthy = healthy
        self._every_s = _watchdog_s() / _SHARE
        self._next_s = 0.0
        self._status = ""
        self._ready = False

    def look(self, status: Callable[[], str]) -> None:
        """Called several times a second from when all is ready."""
        if self._socket is None:
            return
        if not self._ready:
            self._ready = True
            self._send("READY=1")
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + (self._every_s or 5.0)
        if (said := status()) != self._status:
            self._status = said
            self._send(f"STATUS={said}")
        if self._every_s and self._healthy():
            self._send("WATCHDOG=1")

    def stopping(self, most_s: float) -> None:
        """What is inside may take so long to finish."""
        self._send(f"STOPPING=1\nSTATUS=finishing what has begun\nEXTEND_TIMEOUT_USEC={int(most_s * 1e6)}")

    def _send(self, said: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # systemd is not to hold us up, nor to bring us down
                self._socket.sendto(said.encode(), self._where)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_s() -> float:
    """What systemd waits for a sign of life, 0 where it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
