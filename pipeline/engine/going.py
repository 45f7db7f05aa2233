"""Actions of a policy that go on: should the program die over one, the next run tells its end, so that nothing is muted
or blocked for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.core.rulings import Ruling
from pipeline.engine.checkpoints import Barrier, Checkpoints, Noted
from pipeline.engine.delivery import SinkRunner


class GoingActions:
    """Of one show. `tell` puts a ruling into the sinks. Thread-safe."""

    def __init__(
        self, checkpoints: Checkpoints, sinks: Sequence[SinkRunner], tell: Callable[[Ruling, Noted | None], None]
    ) -> None:
        self._checkpoints, self._tell = checkpoints, tell
        self._sinks = [sink for sink in sinks if "rulings" in sink.takes]
        self._going: dict[str, Ruling] = {}
        self._lock = threading.Lock()

    def take_up(self) -> None:
        """End what an earlier run left, when it would have ended."""
        self._going = dict(self._checkpoints.rulings())
        for ruling in list(self._going.values()):
            self.tell(replace(ruling, kind="end", done_ns=time.monotonic_ns()))

    def tell(self, ruling: Ruling) -> None:
        """That it goes on is noted before anybody hears of it, that it does not, once everybody has."""
        noted = None
        with self._lock:
            self._going[ruling.id] = ruling
            if ruling.kind != "end":
                noted = self._checkpoints.commit_rulings(self._going)
        self._tell(ruling, noted)
        if ruling.kind == "end":
            barrier = Barrier(len(self._sinks), lambda: self._over(ruling))
            for sink in self._sinks:
                sink.mark(barrier)
            barrier.put()

    def _over(self, ruling: Ruling) -> None:
        with self._lock:
            if self._going.get(ruling.id) is ruling:  # else it began once more meanwhile
                del self._going[ruling.id]
                self._checkpoints.commit_rulings(self._going)
