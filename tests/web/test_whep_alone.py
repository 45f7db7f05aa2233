"""Watchers without a server: how they are let go and counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.app.web import whep
from pipeline.app.web.gallery import Gallery


def test_a_connection_that_will_not_close_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sources.webrtc_ice._CLOSING_S", 0.05)

    async def fails() -> None:
        raise ConnectionResetError

    async def close(how: Callable[[], Awaitable[object]]) -> None:
        there = whep.Whep(Gallery(), lambda _: True)
        watcher = whep.Watcher(there, "door", "raw")
        there._watchers[watcher.id] = watcher
        real, watcher._peer.close = watcher._peer.close, how  # type: ignore[method-assign, assignment]
        async with asyncio.timeout(10):
            await watcher.close()
        assert not there.watchers
        await real()

    asyncio.run(close(fails))
    asyncio.run(close(asyncio.Event().wait))


def test_what_was_encoded_is_counted_while_encoders_come_and_go() -> None:
    """Whoever scrapes the figures is on another thread."""
    there = whep.Whep(Gallery(), lambda _: True)

    class Counted:
        @property
        def encoded(self) -> int:
            there._encodings["other", "raw", "VP8"] = Counted()  # type: ignore[assignment]
            return 3

    there._encodings["door", "raw", "H264"] = Counted()  # type: ignore[assignment]
    assert there.encoded == 3
