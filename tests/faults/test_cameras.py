"""Cameras at their worst, in whole pipelines: what one does must not reach the others, and both ledgers stay exact."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from parts import generation, grey

from pipeline.app.bench.cameras import Tap
from pipeline.core.contracts import Source
from pipeline.core.records import Result, SourceState
from pipeline.core.snapshot import StreamSnapshot
from pipeline.engine.isolation import Isolated
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory as MemorySink
from sources.faulty import Faulty
from sources.memory import Memory
from sources.rtsp import Rtsp
from tests.rtsp.rtsp_servers import RtspServer

PATIENCE_S = 60.0  # the order of things is what is tested; machines that run tests are busy


def moving(fps: float = 25.0) -> Memory:
    """A camera that sees something else in every frame."""
    return Memory(script=[grey(30 + n) for n in range(100)], repeat=1000, fps=fps, realtime=True)


def faulty(*script: dict[str, Any], **settings: Any) -> Faulty:
    return Faulty(of=moving(), script=script, as_live=True, **settings)


class Running:
    """A bad camera beside a good one, until the end of a `with`."""

    def __init__(self, bad: Source, good: Source | None = None) -> None:
        self.sink = MemorySink()
        good = faulty() if good is None else good
        shared = generation()
        self.pipeline = Pipeline(
            [StreamPlan("bad", bad, "c", shared), StreamPlan("good", good, "c", shared)], {"m": self.sink}
        )

    def __enter__(self) -> Running:
        self.pipeline.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pipeline.stop(3.0)
        for stream in self.pipeline.snapshot().streams:
            self.check(stream)

    def check(self, stream: StreamSnapshot) -> None:
        assert stream.received == stream.windows + stream.sampled_out + stream.damaged + stream.undecoded
        assert stream.windows == stream.results + sum(stream.shed.values()) + stream.failed
        keys = [
            (o.window.epoch, o.window.seq) for o in self.sink.collector.outcomes if o.window.stream == stream.stream
        ]
        assert len(set(keys)) == len(keys) == stream.windows, "each window has one outcome"
        assert keys == sorted(keys)

    def bad(self) -> StreamSnapshot:
        return self.pipeline.snapshot().streams[0]

    def results(self, stream: str) -> int:
        return sum(o.window.stream == stream and isinstance(o, Result) for o in self.sink.collector.outcomes)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """And the good camera goes on all the while."""
        before, end_s = self.results("good"), time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"{what}: {self.bad()}"
            time.sleep(0.02)
        more = before + 3
        while self.results("good") < more:
            assert time.monotonic() < end_s, "the good camera stands still"
            time.sleep(0.02)

    def until_state(self, state: SourceState) -> None:
        self.until(lambda: self.bad().state is state, f"never {state}")

    def until_more(self) -> None:
        """Results of the bad one, again."""
        before = self.results("bad")
        self.until(lambda: self.results("bad") > before + 2, "it never came back")


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("frozen", SourceState.FROZEN),
        ("black", SourceState.BLACK),
        ("damaged", SourceState.DAMAGED),
    ],
)
@pytest.mark.slow
def test_a_feed_in_trouble_says_so_and_recovers(fault: str, state: SourceState) -> None:
    bad = faulty({"fault": "none", "times": 10}, {"fault": fault, "for_s": 4.0})
    with Running(bad) as running:
        running.until_state(state)
        running.until_state(SourceState.LIVE)
        running.until_more()
        assert running.bad().connects == 1


@pytest.mark.slow
def test_silence_is_noticed_and_the_source_opened_again() -> None:
    bad = faulty({"fault": "none", "times": 10}, {"fault": "silent", "for_s": 6.0}, silence_s=3.0)
    with Running(bad) as running:
        running.until_state(SourceState.SILENT)
        running.until_more()
        assert running.bad().connects >= 2


@pytest.mark.slow
def test_a_stuck_reader_is_abandoned_and_replaced() -> None:
    bad = faulty({"fault": "none", "times": 10}, {"fault": "hang", "for_s": 20.0}, silence_s=2.0)
    with Running(bad) as running:
        running.until(lambda: running.bad().connects >= 2, "nobody noticed")
        running.until_more()


@pytest.mark.slow
def test_a_flapping_camera_comes_back_each_time_with_a_name_of_its_own() -> None:
    bad = faulty({"fault": "none", "times": 15}, {"fault": "lost"}, {"fault": "none", "times": 15}, {"fault": "raise"},
                 repeat=True)  # fmt: skip
    with Running(bad) as running:
        running.until(lambda: running.bad().connects >= 4, "it did not flap")
        running.until_more()
    epochs = {o.window.epoch for o in running.sink.collector.outcomes if o.window.stream == "bad"}
    assert len(epochs) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("by_s", [3600.0, -3600.0])
def test_a_camera_whose_clock_jumps(by_s: float) -> None:
    bad = faulty({"fault": "none", "times": 10}, {"fault": "leap", "by_s": by_s})
    with Running(bad) as running:
        running.until_state(SourceState.JUMPING)
        running.until_more()
        assert running.bad().connects == 1
    ends = [o.window.start_ns for o in running.sink.collector.outcomes if o.window.stream == "bad"]
    assert ends == sorted(ends) and max(ends) < 600_000_000_000, "media time goes on as if nothing had been"


# Real servers.


@pytest.fixture
def bad_server() -> Iterator[RtspServer]:
    with RtspServer("live=pattern:320x240@15") as server:
        yield server


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back(bad_server: RtspServer) -> None:
    with (
        RtspServer("live=pattern:320x240@15") as good,
        Running(Rtsp(url=bad_server.url("live")), Rtsp(url=good.url("live"))) as running,
    ):
        running.until_more()
        bad_server.kill()
        running.until_state(SourceState.CONNECTING)
        bad_server.start()
        running.until_more()
        running.until_state(SourceState.LIVE)
        assert running.bad().connects == 2


@pytest.mark.slow
@pytest.mark.parametrize("state", ["reset", "choked", "cut", "dirty"])
def test_a_line_that_is_reset_swallows_all_or_carries_noise(bad_server: RtspServer, state: Any) -> None:
    tap = Tap(("127.0.0.1", bad_server.port))
    bad = Rtsp(url=f"rtsp://127.0.0.1:{tap.port}/live", silence_s=4.0)
    try:
        with Running(bad) as running:
            running.until_more()
            connects = running.bad().connects
            tap.state = state
            running.until(lambda: running.bad().state is not SourceState.LIVE, "nobody noticed")
            running.until(lambda: running.bad().state is SourceState.CONNECTING, "it was never given up")
            tap.state = "clean"
            running.until_more()
            assert running.bad().connects > connects
    finally:
        tap.close()


@pytest.mark.slow
def test_an_ffmpeg_that_crashes_takes_one_stream_for_a_moment(bad_server: RtspServer) -> None:
    plan = Rtsp(url=bad_server.url("live"), isolation="process")
    with Running(plan) as running:
        running.until_more()
        (reads,) = [one for one in running.pipeline._roster.runners if isinstance(one.source, Isolated)]
        assert reads.source.live
        import multiprocessing

        (child,) = multiprocessing.active_children()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSEGV)
        running.until(lambda: running.bad().connects >= 2, "it was not opened again")
        running.until_more()
    assert np.isfinite(running.bad().latency.p50_ms)
