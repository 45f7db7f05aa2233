"""Since when nothing of a live stream was received: what comes while nobody listens is gone, and that is said."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

from pipeline.core.outages import Outage
from pipeline.core.records import Chunk, Gap, Item, iso_time
from pipeline.engine.stream import Stream

log = logging.getLogger(__name__)


class Attendance:
    """Of one live stream. With `by_word`, silence is nothing amiss (a chat): any sign of life counts, else frames alone
    do (a camera)."""

    def __init__(self, stream: Stream, tell: Callable[[Outage], None], *, by_word: bool) -> None:
        self._stream, self._tell, self._by_word = stream, tell, by_word
        self._last_ns = 0
        self._missed: Literal["lost", "down", "paused"] | None = None

    @property
    def here(self) -> bool:
        """Whether nothing is missed, as far as anybody knows."""
        return self._missed is None

    def was_down(self, since_ns: int) -> None:
        """The program runs again, and this is until when it had watched."""
        self._last_ns, self._missed = since_ns, "down"

    def lost(self, *, paused: bool = False) -> None:
        """The connection broke off, or hangs; or somebody wants it so for a while."""
        if self._last_ns and self._missed is None:
            self._missed = "paused" if paused else "lost"

    def received(self, item: Item) -> None:
        """It came, and is about to go on its way."""
        if not (self._by_word or isinstance(item, (Chunk, Gap))):
            return
        now_ns = time.time_ns()
        if self._missed is not None:
            outage = Outage(self._stream.name, self._missed, self._last_ns, max(now_ns, self._last_ns))
            self._missed = None
            log.warning(
                "%s: nothing was received from %s to %s (%.1f s): %s",
                outage.stream,
                iso_time(outage.start_wall_ns),
                iso_time(outage.end_wall_ns),
                (outage.end_wall_ns - outage.start_wall_ns) / 1e9,
                outage.why,
            )
            self._stream.missed(outage)
            self._tell(outage)
        self._last_ns = now_ns
