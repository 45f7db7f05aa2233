"""The engine as the benches run it: sources through one gate-less or gated model into a sink that only counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import ConfigDict, Field

from detectors.rules.scores import Scores
from pipeline.app.bench.measure import core_seconds
from pipeline.app.garbage import passed_over
from pipeline.core.contracts import Delivery, Gate, Generation, Sink, Source, Stage, Writer
from pipeline.core.errors import ThresherError
from pipeline.core.records import Outcome, Result
from pipeline.core.traces import Tracer
from pipeline.engine.pipeline import Pipeline, StreamPlan

LONGEST_S = 600.0


@dataclass
class Tally:
    """What reached the sink."""

    results: int = 0
    others: int = 0
    outcomes: list[Outcome] = field(default_factory=list)


class Counting(Sink):
    """Counts outcomes; keeps them where `keep`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tally: Tally = Field(default_factory=Tally, exclude=True)
    keep: bool = False

    def open(self) -> Writer:
        return _CountingWriter(self.tally, self.keep)


class _CountingWriter:
    def __init__(self, tally: Tally, keep: bool) -> None:
        self._tally, self._keep = tally, keep

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            if isinstance(item, Outcome):
                judged = isinstance(item, Result)
                self._tally.results += judged
                self._tally.others += not judged
        if self._keep:
            self._tally.outcomes += [item for item in items if isinstance(item, Outcome)]

    def close(self) -> None:
        pass


def generation(stage: Stage) -> Generation:
    """One stage, and the rule that a person would write for it."""
    return Generation(f"bench-{stage.name}", stage, None, Scores(watch=(stage.labels[0],), flag_at=0.9))


def plan(name: str, source: Source, judged_by: Generation, gate: Gate | None = None) -> StreamPlan:
    return StreamPlan(name, source, "bench", judged_by, gate)


@contextmanager
def started(pipeline: Pipeline, drain_s: float = 10.0) -> Iterator[None]:
    """It runs, as `thresher run` has it; it is stopped at the end."""
    with passed_over():
        try:
            pipeline.start()
            yield
        finally:
            pipeline.stop(drain_s)


def latencies(source: Source, judged_by: Generation) -> list[float]:
    """Seconds from each window's arrival to its result. Raises `ThresherError` if any window got none."""
    sink = Counting(keep=True)
    pipeline = Pipeline([plan("bench", source, judged_by)], {"count": sink})
    with started(pipeline):
        pipeline.wait(LONGEST_S)
    if sink.tally.others or not sink.tally.results:
        raise ThresherError(f"the bench did not run through: {sink.tally.results} results, {sink.tally.others} others")
    return [outcome.latency_ns / 1e9 for outcome in sink.tally.outcomes]


def cost_of(source: Source, judged_by: Generation, tracer: Tracer | None = None) -> float:
    """Seconds of processor time of this process for each result of `source`, read to its end."""
    return core_seconds(lambda: run_through(source, judged_by, tracer=tracer))


def run_through(
    source: Source, judged_by: Generation, gate: Gate | None = None, *, tracer: Tracer | None = None
) -> int:
    """Run `source` to its end; how many results came. Raises `ThresherError` if any window got none."""
    sink = Counting()
    pipeline = Pipeline([plan("bench", source, judged_by, gate)], {"count": sink}, tracer=tracer)
    with started(pipeline):
        finished = pipeline.wait(LONGEST_S)
    if not finished or sink.tally.others or not sink.tally.results:
        raise ThresherError(f"the bench did not run through: {sink.tally.results} results, {sink.tally.others} others")
    return sink.tally.results
