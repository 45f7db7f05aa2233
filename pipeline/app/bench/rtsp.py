"""Eight cameras at once: whether each gets its due, how late verdicts are, and what one bad camera costs the others."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import numpy as np

from pipeline.app.bench.cameras import Line, Tap, server
from pipeline.app.bench.clips import Clip
from pipeline.app.bench.models import WarmStage, stage
from pipeline.app.bench.report import Report, Row, Scale
from pipeline.app.bench.subject import Counting, generation, plan, started
from pipeline.core.errors import ThresherError
from pipeline.core.records import Outcome, Result, SourceState
from pipeline.engine.pipeline import Pipeline
from sources.rtsp import Rtsp

_FPS = 15
_STREAMS = 8
_WORDS = f"{_STREAMS} × 720p{_FPS} H.264 over TCP"
_CONNECT_S = 30.0
_LOOK_S = 0.02
_SILENCE_S = 8.0  # to be noticed in
_SETTLE_S = 2.0  # after the last stream came
_FAULTS: dict[Line, str] = {"cut": "dies", "choked": "hangs", "dirty": "sends garbage"}


def rtsp_bench(scale: Scale) -> Report:
    network = stage("mobilenet-v3-small", "bf16")
    seconds = scale.of(30, 2)
    mounts = _mounts(scale)
    with server(mounts) as base, _cameras([f"{base}/{name}" for name in mounts], network) as cameras:
        cameras.watch(_SETTLE_S)
        seen = cameras.watch(seconds)
    rates = [len(times) / seconds for times in seen.judged.values()]
    slowest, middle = min(rates), median(rates)
    rows = [
        Row("rtsp: results of the slowest of 8 streams", slowest, "per s", _FPS, slowest / _FPS, at_least=0.95),
        Row("rtsp: results of the median stream", middle, "per s", _FPS, middle / _FPS),
        Row("rtsp: first packet to outcome, p50", seen.latency_ms(50), "ms"),
        Row(
            "rtsp: first packet to outcome, p99",
            seen.latency_ms(99),
            "ms",
            at_most=80.0,
            note=f"{1000 / _FPS:.0f} ms of it FFmpeg waits for the next picture to begin before it hands one over",
        ),
        Row("rtsp: longest any stream went without a result", seen.longest_gap_s(), "s", at_most=1.0),
        Row("rtsp: windows shed", float(seen.shed), "windows"),
    ]
    conditions = {"stage": network.describe(), "streams": _WORDS, "seconds": seconds}
    return Report(rows, conditions)


def faults_bench(scale: Scale) -> Report:
    network = stage("mobilenet-v3-small", "bf16")
    seconds = scale.of(20, 2)
    rows: list[Row] = []
    mounts = _mounts(scale)
    with server(mounts) as base:
        parts = urlsplit(base)
        assert parts.hostname is not None
        assert parts.port is not None
        for fault, word in _FAULTS.items():
            tap = Tap((parts.hostname, parts.port))
            bad, *good = mounts
            urls = [f"rtsp://127.0.0.1:{tap.port}/{bad}"] + [f"{base}/{name}" for name in good]
            with closing(tap), _cameras(urls, network) as cameras:
                cameras.watch(_SETTLE_S)
                before = cameras.watch(seconds / 2)
                tap.state = fault
                during = cameras.watch(max(seconds, _SILENCE_S))
                tap.state = "clean"
                back_s = cameras.back_after_s()
            well = [name for name in cameras.names if name != cameras.names[0]]
            was = min(len(before.judged[name]) for name in well) / (seconds / 2)
            now = min(len(during.judged[name]) for name in well) / max(seconds, _SILENCE_S)
            rows.append(
                Row(
                    f"faults: one of 8 {word}: slowest of the others", now, "per s", was, now / _FPS, 0.95,
                    note=f"ratio to {_FPS} per s; baseline: before the fault; p99 {during.latency_ms(99):.0f} ms",
                )
            )  # fmt: skip
            rows.append(Row(f"faults: one of 8 {word}: noticed after", during.noticed_s, "s", at_most=10.0))
            rows.append(Row(f"faults: one of 8 {word}, and is well again: first result", back_s, "s", at_most=5.0))
    return Report(rows, {"stage": network.describe(), "streams": _WORDS})


def _mounts(scale: Scale) -> dict[str, Path]:
    """A camera each with a clock of its own: eight viewers of one would get their pictures at the very same instant."""
    clip = Clip("moving", 1280, 720, _FPS, scale.of(10, 2)).made()
    return {f"cam{number}": clip for number in range(_STREAMS)}


class _Seen:
    """The outcomes of a stretch of time."""

    def __init__(
        self, names: Sequence[str], outcomes: Sequence[Outcome], began_ns: int, ended_ns: int, noticed_s: float
    ) -> None:
        """`noticed_s`: after how long the first of them was something else than live."""
        self.noticed_s = noticed_s
        self.judged: dict[str, list[int]] = {name: [] for name in names}
        self.shed = 0
        self._latencies: list[int] = []
        self._bounds = (began_ns, ended_ns)
        for outcome in outcomes:
            if isinstance(outcome, Result):
                self.judged[outcome.window.stream].append(outcome.done_ns)
                self._latencies.append(outcome.latency_ns)
            else:
                self.shed += 1

    def latency_ms(self, percent: float) -> float:
        return float(np.percentile(self._latencies, percent)) / 1e6 if self._latencies else float("nan")

    def longest_gap_s(self) -> float:
        began, ended = self._bounds
        return max(float(np.diff([began, *sorted(times), ended]).max()) for times in self.judged.values()) / 1e9


@contextmanager
def _cameras(urls: Sequence[str], network: WarmStage) -> Iterator[_Cameras]:
    """Streams from `urls` through one network, once all of them are there."""
    sink, judged_by = Counting(keep=True), generation(network)
    names = [f"cam-{number}" for number in range(len(urls))]
    streams = [plan(name, Rtsp.model_validate({"url": url}), judged_by) for name, url in zip(names, urls, strict=True)]
    pipeline = Pipeline(streams, {"count": sink})
    with started(pipeline, drain_s=5.0):
        cameras = _Cameras(names, sink, pipeline)
        cameras.wait()
        yield cameras


class _Cameras:
    """Streams that run, the first of which may come to harm."""

    def __init__(self, names: Sequence[str], sink: Counting, pipeline: Pipeline) -> None:
        self.names, self._sink, self._pipeline = names, sink, pipeline

    def wait(self) -> None:
        """Until each has a result. Raises `ThresherError` if that takes too long."""
        end = time.monotonic() + _CONNECT_S
        while len({outcome.window.stream for outcome in list(self._sink.tally.outcomes)}) < len(self.names):
            if time.monotonic() > end:
                details: dict[str, int] = defaultdict(int)
                for stream in self._pipeline.snapshot().streams:
                    details[f"{stream.state}: {stream.detail}"] += 1
                raise ThresherError(f"the cameras did not all come within {_CONNECT_S:g} s: {dict(details)}")
            time.sleep(0.05)

    def watch(self, seconds: float) -> _Seen:
        first, began_ns = len(self._sink.tally.outcomes), time.monotonic_ns()
        noticed_s = math.nan
        while (elapsed_s := (time.monotonic_ns() - began_ns) / 1e9) < seconds:
            if math.isnan(noticed_s) and self._pipeline.states[self.names[0]] is not SourceState.LIVE:
                noticed_s = elapsed_s
            time.sleep(min(_LOOK_S, seconds - elapsed_s))
        return _Seen(self.names, self._sink.tally.outcomes[first:], began_ns, time.monotonic_ns(), noticed_s)

    def back_after_s(self) -> float:
        """How long it takes from now until the first of them has a result again."""
        first, began_s = len(self._sink.tally.outcomes), time.monotonic()
        while time.monotonic() - began_s < _CONNECT_S:
            fresh = self._sink.tally.outcomes[first:]
            if any(one.window.stream == self.names[0] and isinstance(one, Result) for one in fresh):
                return time.monotonic() - began_s
            time.sleep(_LOOK_S)
        return math.nan
