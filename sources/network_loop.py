"""The one asyncio loop of this process, in a thread of its own, for all network adapters that have many connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_running: list[asyncio.AbstractEventLoop] = []


def network_loop() -> asyncio.AbstractEventLoop:
    """It is begun by whoever needs it first, and ends with the process."""
    with _lock:
        if not _running:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="network", daemon=True).start()
            _running.append(loop)
        return _running[0]


def on_the_network(work: Coroutine[Any, Any, T], most_s: float) -> T:
    """Run `work` there and wait for it. Raises what it raises, and `TimeoutError`."""
    future = asyncio.run_coroutine_threadsafe(work, network_loop())
    try:
        return future.result(most_s)
    except TimeoutError:
        future.cancel()
        raise
