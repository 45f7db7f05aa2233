"""Which windows are traced, and the way of their traces out: bounded, by a thread of its own, nothing waits for it.

A window is among the sampled by a hash of its id, so that every run, and whoever knows the id, says the same. Failed
windows are traced whether they are or not, a few a second. The id of a trace is the MD5 of the window's id:
`printf %s "$ID" | md5sum`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import zlib
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from pipeline.app.config.trace import TraceSettings
from pipeline.core.errors import MissingPart
from pipeline.core.records import Result, Window
from pipeline.core.secrets import redact
from pipeline.core.traces import Trace
from pipeline.engine.telemetry import BOUNDS_S

log = logging.getLogger(__name__)

_WAITING = 2048  # traces; beyond, the newest are dropped
_AT_ONCE = 64
_PAUSE_S = 1.0
_CLOSING_S = 3.0
_FAILURES_PER_S = 5
_MOST_STREAMS = 1000  # with exemplars; streams come and go, and nobody says here which are gone
_GOLDEN = 0x9E3779B1
BUCKETS_EVERY = 3
"""Of the engine's 12 buckets to a decade; 4 are enough on a chart."""
_BOUNDS_S = BOUNDS_S[::BUCKETS_EVERY]


class Exporter(Protocol):
    """Where traces go. Used by one thread."""

    def export(self, traces: Sequence[Trace]) -> str:
        """Why they did not arrive; empty where they did. Takes ten seconds at most."""

    def close(self) -> None:
        """Let go, also of a send that is under way. From another thread."""


@dataclass(frozen=True, slots=True)
class Example:
    """A window that stands for others of about its latency, and has a trace."""

    trace: str
    window: str
    latency_s: float
    left_wall_ns: int


@dataclass(frozen=True, slots=True)
class TraceCounts:
    exported: int = 0
    dropped: int = 0  # no room
    failed: int = 0  # the receiver could not be reached, or did not want them
    waiting: int = 0


def trace_id(window: str) -> str:
    """Of the window with this id: 32 hexadecimal digits."""
    return hashlib.md5(window.encode(), usedforsecurity=False).hexdigest()


class Tracing:
    """The `Tracer` of a pipeline. Entered, it sends; left, it has sent what it could in three seconds."""

    def __init__(self, share: float, exporter: Exporter) -> None:
        self._below = round(share * (1 << 32))
        self._exporter = exporter
        self._traces: deque[Trace] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._counts = {"exported": 0, "dropped": 0, "failed": 0}
        self._trouble = ""
        self._examples: dict[str, dict[int, Example]] = {}
        self._failures_left, self._failures_since_s = _FAILURES_PER_S, 0.0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    # What the engine calls.

    def begin(self, window: Window) -> Trace | None:
        if self._below and (zlib.crc32(window.id.encode()) * _GOLDEN & 0xFFFFFFFF) < self._below:
            return Trace(window, self._done)
        return None

    def failed(self, window: Window) -> Trace | None:
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._failures_since_s >= 1.0:
                self._failures_left, self._failures_since_s = _FAILURES_PER_S, now_s
            self._failures_left -= 1
            return Trace(window, self._done) if self._failures_left >= 0 else None

    def _done(self, trace: Trace) -> None:
        if len(self._traces) >= _WAITING or self._closing:
            with self._lock:
                self._counts["dropped"] += 1
            return
        self._traces.append(trace)
        if len(self._traces) >= _AT_ONCE and not self._wake.is_set():
            self._wake.set()

    # What it says of itself.

    def counts(self) -> TraceCounts:
        with self._lock:
            return TraceCounts(**self._counts, waiting=len(self._traces))

    def exemplars(self, stream: str) -> Mapping[int, Example]:
        """The latest of each bucket of latency that Prometheus is shown, by its index."""
        with self._lock:
            return dict(self._examples.get(stream, {}))

    # Its thread.

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_PAUSE_S)
            self._wake.clear()
            self._send()
        self._send()

    def _send(self) -> None:
        while self._traces:
            batch = [self._traces.popleft() for _ in range(min(_AT_ONCE, len(self._traces)))]
            try:
                trouble = self._exporter.export(batch)
            except Exception as error:  # noqa: BLE001 a library's fault costs traces, and nothing else
                trouble = f"{type(error).__name__}: {redact(error)}"
            with self._lock:
                self._counts["failed" if trouble else "exported"] += len(batch)
            if trouble and not self._trouble:  # once, not at every batch
                log.warning("traces do not arrive: %s; the pipeline goes on without them", redact(trouble))
            elif self._trouble and not trouble:
                log.warning("traces arrive again")
            self._trouble = trouble
            if not trouble:
                self._exemplify(batch)

    def _exemplify(self, traces: Sequence[Trace]) -> None:
        with self._lock:
            for trace in traces:
                if isinstance(trace.outcome, Result):
                    window, latency_s = trace.window, trace.outcome.latency_ns / 1e9
                    left_ns = window.wall_ns - window.mono_ns + trace.left_ns
                    of_stream = self._examples.pop(window.stream, {})
                    one = Example(trace_id(window.id), window.id, latency_s, left_ns)
                    of_stream[bisect_left(_BOUNDS_S, latency_s)] = one
                    self._examples[window.stream] = of_stream  # now the latest
                    if len(self._examples) > _MOST_STREAMS:
                        del self._examples[next(iter(self._examples))]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Safe twice."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSING_S)
        self._exporter.close()  # what waits fails at once then
        if self._thread.is_alive():
            self._thread.join(_CLOSING_S)


def tracing(settings: TraceSettings, place: str) -> Tracing:
    """Traces as the settings say. Raises `MissingPart` where the library is not installed."""
    try:
        from pipeline.app.tracing_otlp import Otlp
    except ImportError as error:
        raise MissingPart("traces need some packages: pip install 'thresher[trace]'", place) from error
    return Tracing(settings.share, Otlp(settings))
