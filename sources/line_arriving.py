"""Parts that arrive as files."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.core.errors import SourceLost
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Item, Watermark
from sources.ffmpeg import new_epoch
from sources.parts import Belt
from sources.watching import Watch

if TYPE_CHECKING:
    from sources.line import Line

log = logging.getLogger(__name__)

_TELL_S = 1.0
_BUDGET_NS = 5_000_000_000  # what a live window gets where no deadline was set


class ArrivingReader:
    """The running part of a `Line` with `trigger: folder`. A part arrives when its writer lets go of the file, so the
    time that it is left to settle counts; its reference must be there by then. One whose time is over before it can be
    decoded is passed over: those behind it would else be late, too. Media time begins at the opening."""

    def __init__(self, plan: Line, stream: str) -> None:
        assert plan.path is not None
        self.epoch = new_epoch()
        self._bench = plan.bench()
        self._folder = plan.path
        self._stream = stream
        self._budget_ns = int(plan.latency_budget_ms * 1e6) if plan.latency_budget_ms else _BUDGET_NS
        self._missed, self._told_s = 0, 0.0
        self._belt = Belt(stream, self.epoch)
        self._watch = Watch(plan.path, self._bench.is_part, plan.settle_s)
        self._closed = False

    def __iter__(self) -> Iterator[Item]:
        start_ns = last_ns = time.monotonic_ns()
        while not self._closed:
            arrived = self._watch.arrived()
            for path, let_go_ns in arrived:
                if not self._watch.first_sight(path):
                    continue
                last_ns = max(let_go_ns, last_ns + 1)  # one that took long to settle is not older than the one before
                if time.monotonic_ns() - last_ns > self._budget_ns:
                    self._tell()
                    yield self._belt.gap()
                    continue
                try:
                    frame = self._bench.read(path)
                except BadPicture as error:
                    log.warning("%s: %s", path, error)
                    yield self._belt.gap()
                    continue
                yield self._belt.chunk(frame, path.name, last_ns, last_ns - start_ns)
            if not arrived:
                yield Watermark(self._stream, time.monotonic_ns() - start_ns)
                if not self._folder.is_dir():
                    raise SourceLost(f"{self._folder}: the folder is gone")

    def _tell(self) -> None:
        """Each is counted; they are told of once a second."""
        self._missed += 1
        if (now_s := time.monotonic()) - self._told_s >= _TELL_S:
            log.warning("%s: decoding cannot keep pace: %d parts were passed over", self._stream, self._missed)
            self._missed, self._told_s = 0, now_s

    def close(self) -> None:
        self._closed = True
        self._watch.close()
