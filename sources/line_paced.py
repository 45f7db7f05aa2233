"""The parts of a folder at a pace, decoded before they are due."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from av.video.frame import VideoFrame

from pipeline.core.errors import InputError
from pipeline.core.pictures import BadPicture
from pipeline.core.records import Item, Watermark
from sources.folder import digest_of
from sources.pace import wait_until
from sources.parts import BadReference, Belt

if TYPE_CHECKING:
    from sources.line import Line

log = logging.getLogger(__name__)

_TICK_S = 0.5
_TELL_S = 1.0
_PATIENCE_NS = 2_500_000_000  # half of what a live window gets where no deadline was set
_MOST_PRELOADED = 4 << 30

Made: TypeAlias = VideoFrame | None
"""A part, or None where it is of no use: its picture is bad, or there was no time for it."""


class PacedReader:
    """The running part of a `Line` with `fps`. Part `n` arrives `n / fps` seconds after the first (a restart begins
    with a later one, at once), whatever else this machine is doing; what was not decoded in half of its time is passed
    over."""

    def __init__(self, plan: Line, stream: str) -> None:
        assert plan.fps is not None
        self._bench = plan.bench()
        self._paths = plan.pictures(self._bench)
        self.epoch = digest_of([*self._paths, *self._references()])
        self._stream = stream
        place = plan._behind.get("")
        self._first = 0 if place is None else place.seq + 1
        self._belt = Belt(stream, self.epoch, self._first)
        self._period_ns = 1e9 / plan.fps
        self._total = len(self._paths) * plan.repeat or math.inf
        budget_ms = plan.latency_budget_ms
        self._patience_ns = _PATIENCE_NS if budget_ms is None else int(budget_ms * 1e6 / 2)
        self._start_ns: int | None = None
        self._bad: set[Path] = set()
        self._missed, self._told_s = 0, 0.0
        self._closed = False
        self._ready: list[Made] = self._preloaded() if plan.preload else []
        self._ahead: deque[Future[Made]] = deque()
        self._asked = self._first
        self._most = plan.ahead
        self._pool = ThreadPoolExecutor(plan.threads, f"parts-{stream}")  # starts its threads when it is asked

    def _references(self) -> list[Path]:
        """All that are there, for the digest."""
        found: list[Path] = []
        for path in self._paths:
            try:
                reference = self._bench.reference_of(path.name)
            except BadReference:
                continue
            if reference is not None and reference not in found[-1:]:
                found.append(reference)
        return found

    def _preloaded(self) -> list[Made]:
        made: list[Made] = []
        size = 0
        for path in self._paths:
            frame = self._read(path)
            made.append(frame)
            size += sum(plane.buffer_size for plane in frame.planes) if frame is not None else 0
            if size > _MOST_PRELOADED:
                raise InputError("holds more than 4 GiB of pictures: they cannot be preloaded", str(path.parent))
        self._none_is_an_error()
        return made

    def _read(self, path: Path) -> Made:
        """Raises nothing: what is wrong with a picture is told once, however often it comes."""
        try:
            return self._bench.read(path)
        except BadPicture as error:
            if path not in self._bad:
                self._bad.add(path)
                log.warning("%s: %s", path, error)
        return None

    def _none_is_an_error(self) -> None:
        if len(self._bad) == len(self._paths):
            raise InputError("holds no part that can be decoded", str(self._paths[0].parent))

    def __iter__(self) -> Iterator[Item]:
        self._order()
        while not self._closed and any(not part.done() for part in self._ahead):  # a start with all hands full
            wait_for(self._ahead, _TICK_S)
            yield Watermark(self._stream, 0)
        self._start_ns = time.monotonic_ns()
        n = self._first
        while n < self._total:
            pts_ns = int(n * self._period_ns)
            for _ in wait_until(self._due_ns(n)):
                yield Watermark(self._stream, pts_ns)
            while not self._closed and not self._is_made(n):
                yield Watermark(self._stream, pts_ns)
            if self._closed:
                return
            made, path = self._take(n), self._paths[n % len(self._paths)]
            if made is not None and self._too_late(n):
                made = None
            if made is None:
                yield self._belt.gap()
                if path not in self._bad:
                    self._tell()
            else:
                yield self._belt.chunk(made, path.name, self._due_ns(n), pts_ns, int(self._period_ns))
            n += 1
            if not (self._belt.judged or self._first) and n % len(self._paths) == 0:
                self._none_is_an_error()

    def _due_ns(self, n: int) -> int:
        assert self._start_ns is not None
        return self._start_ns + int((n - self._first) * self._period_ns)

    def _too_late(self, n: int) -> bool:
        return self._start_ns is not None and time.monotonic_ns() - self._due_ns(n) > self._patience_ns

    # Decoding ahead.

    def _order(self) -> None:
        """Keep the decoders busy, as far ahead as they may be."""
        while not self._ready and len(self._ahead) < self._most and self._asked < self._total:
            self._ahead.append(self._pool.submit(self._make, self._asked))
            self._asked += 1

    def _make(self, n: int) -> Made:
        return None if self._closed or self._too_late(n) else self._read(self._paths[n % len(self._paths)])

    def _is_made(self, n: int) -> bool:
        """Waits half a second for it at most."""
        return bool(self._ready) or bool(wait_for([self._ahead[0]], _TICK_S).done)

    def _take(self, n: int) -> Made:
        if self._ready:
            return self._ready[n % len(self._ready)]
        made = self._ahead.popleft().result()
        self._order()
        return made

    def _tell(self) -> None:
        """Late ones are counted one by one and told of once a second."""
        self._missed += 1
        if (now_s := time.monotonic()) - self._told_s >= _TELL_S:
            log.warning("%s: decoding cannot keep pace: %d parts were passed over", self._stream, self._missed)
            self._missed, self._told_s = 0, now_s

    def close(self) -> None:
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
