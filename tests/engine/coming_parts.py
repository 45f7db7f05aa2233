"""Streams that come and go, and what is to be seen of them."""

from __future__ import annotations

from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Generation
from pipeline.core.snapshot import StreamSnapshot
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Collector
from sources.memory import LiveMemory, Missing

FILM = [grey(20), grey(120), Missing(2), grey(130), grey(220), grey(20)]


def plan(name: str, source: object, gen: Generation) -> StreamPlan:
    return StreamPlan(name, source, "levels", gen)


def said(collector: Collector, stream: str) -> list[tuple[object, ...]]:
    """Every outcome of a stream as it left, in order."""
    return [
        (one.window.id, one.window.start_ns, one.kind, getattr(one, "flagged", None), getattr(one, "detections", None))
        for one in collector.outcomes
        if one.window.stream == stream
    ]


def check(stream: StreamSnapshot) -> None:
    assert stream.received == stream.windows + stream.sampled_out + stream.damaged + stream.undecoded
    assert stream.windows == stream.results + sum(stream.shed.values()) + stream.failed + stream.in_flight


def of(pipeline: Pipeline, name: str) -> StreamSnapshot:
    return next(one for one in pipeline.snapshot().streams if one.stream == name)


def camera(**settings: object) -> LiveMemory:
    return LiveMemory(script=[grey(20), grey(120), grey(220)], repeat=100_000, fps=200, realtime=True, **settings)


def both() -> Generation:
    return generation(Brightness(), Brightness("heavy"), Levels())
