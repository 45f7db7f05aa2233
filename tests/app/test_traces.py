"""Traces of windows: through the real engine to a real receiver of OpenTelemetry's protocol."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from calling import Thresher
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_receiver import Receiver, facts, receiver
from parts import Brightness, generation, grey

from pipeline.app.config.trace import TraceSettings
from pipeline.app.tracing import Tracing, trace_id, tracing
from pipeline.core import reach
from pipeline.core.reach import NetworkSettings
from pipeline.core.records import Outcome, Result, Shed, ShedReason, Window
from pipeline.core.traces import MOST_STEPS, Trace
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory as MemorySink
from sources.memory import Memory

EASY, DOUBTFUL, POISON = 20, 130, 7


def traced(settings: TraceSettings, levels: Sequence[int], workers: int = 1) -> tuple[list[Outcome], Tracing]:
    """The outcomes of pictures of these levels through both stages, and whoever traced them, closed."""
    cheap = Brightness(poison=frozenset({POISON}), workers=workers)
    judged_by = generation(cheap, Brightness("heavy", poison=frozenset({POISON})))
    sink = MemorySink()
    traces = tracing(settings, "trace")
    plan = StreamPlan("door", Memory.model_validate({"script": [grey(level) for level in levels]}), "x", judged_by)
    pipeline = Pipeline([plan], {"log": sink, "again": MemorySink()}, tracer=traces)
    with traces:
        pipeline.start()
        assert pipeline.wait(30)
        pipeline.stop()
    return sink.collector.outcomes, traces


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_each_window_is_a_trace_whose_spans_nest_in_order() -> None:
    with receiver() as said:
        outcomes, traces = traced(
            TraceSettings(share=1, endpoint=said.endpoint, service="site-1"), [EASY, DOUBTFUL] * 5
        )
    assert said.services == {"site-1"}
    assert set(said.paths) == {"/v1/traces"}
    found = said.traces()
    assert found.keys() == {hashlib.md5(one.window.id.encode()).hexdigest() for one in outcomes}
    assert traces.counts().exported == len(outcomes) == 10
    for outcome in outcomes:
        root, *steps = found[trace_id(outcome.window.id)]
        assert root.name == "window" and not root.parent_span_id
        assert facts(root)["thresher.window"] == outcome.window.id
        assert facts(root)["thresher.decided_by"] == outcome.decided_by  # type: ignore[attr-defined]  # all are results
        assert facts(root)["thresher.generation"] == outcome.generation  # type: ignore[attr-defined]
        assert facts(root)["thresher.outcome"] == "result"
        assert root.start_time_unix_nano == outcome.window.wall_ns
        assert len({span.span_id for span in (root, *steps)}) == 1 + len(steps)
        for span in steps:
            assert span.parent_span_id == root.span_id
            began, ended = span.start_time_unix_nano, span.end_time_unix_nano
            assert root.start_time_unix_nano <= began <= ended <= root.end_time_unix_nano
        named = by_name(steps)
        way = ["source", "room", "gate", "view", "queue cheap", "stage cheap"]
        if outcome.decided_by == "heavy":  # type: ignore[attr-defined]
            way += ["queue heavy", "stage heavy"]
        assert named.keys() - {"order"} == {*way, "sink log", "sink again"}
        for before, after in zip(way, [*way[1:], "sink log"], strict=True):
            assert named[before].end_time_unix_nano <= named[after].start_time_unix_nano, (before, after)
        assert facts(named["sink log"])["thresher.fate"] == "written"
    batches = [facts(span) for span in said.spans if span.name == "stage cheap"]
    for one in batches:
        assert sum(other["thresher.batch"] == one["thresher.batch"] for other in batches) == one["thresher.batch_size"]


def test_a_share_is_picked_by_the_id_alone() -> None:
    def picked(share: float, epoch: str) -> list[int]:
        made = Tracing(share, _Nowhere())
        return [n for n in range(20_000) if made.begin(Window("door", epoch, n, 0, 0, 0, 0)) is not None]

    for epoch in ("01K0ABCDEFGHJKMNPQRSTVWXYZ", "clip", "9f86d081884c7d65"):
        few, more = picked(0.01, epoch), picked(0.1, epoch)
        assert few == picked(0.01, epoch)
        assert set(few) <= set(more), "a higher share adds to a lower one"
        assert 140 <= len(few) <= 260 and 1800 <= len(more) <= 2200
    assert not picked(0, "clip") and len(picked(1, "clip")) == 20_000


def test_what_failed_is_traced_at_a_share_of_nothing_and_not_without_end() -> None:
    levels = [EASY] * 5 + [POISON] + [EASY] * 5
    with receiver() as said:
        outcomes, traces = traced(TraceSettings(share=0, endpoint=said.endpoint), levels)
        (spans,) = said.traces().values()
        (failed,) = [one for one in outcomes if one.kind == "failed"]
        assert spans[0].trace_id.hex() == trace_id(failed.window.id)
        assert spans[0].status.code == Status.StatusCode.STATUS_CODE_ERROR
        assert "poisoned" in spans[0].status.message
        assert {"stage cheap", "sink log"} <= by_name(spans).keys()
        assert traces.counts().exported == 1
    with receiver() as said:
        outcomes, traces = traced(TraceSettings(share=0, endpoint=said.endpoint), [POISON] * 200)
        assert {one.kind for one in outcomes} == {"failed"}
        assert 1 <= traces.counts().exported <= 50


def test_a_receiver_that_dies_harms_nothing_and_is_found_again(caplog: pytest.LogCaptureFixture) -> None:
    with receiver() as said:
        settings = TraceSettings(share=1, endpoint=said.endpoint)
        traced(settings, [EASY] * 3)
        assert len(said.traces()) == 3
    outcomes, traces = traced(settings, [EASY, DOUBTFUL] * 20)  # nobody is there any more
    assert [one.kind for one in outcomes] == ["result"] * 40
    counts = traces.counts()
    assert counts.exported == 0 and counts.failed + counts.dropped == 40
    assert caplog.text.count("traces do not arrive") == 1
    with receiver(said.port) as again:
        traced(settings, [EASY] * 3)
        assert len(again.traces()) == 3


def test_a_receiver_that_refuses_is_counted() -> None:
    with receiver() as said:
        said.status = 403
        _, traces = traced(TraceSettings(share=1, endpoint=said.endpoint, headers={"x": "none"}), [EASY])
        assert traces.counts().failed == 1 and not said.spans
        said.status = 200
        traced(TraceSettings(share=1, endpoint=said.endpoint, headers={"Authorization": "Bearer hush-hush"}), [EASY])
        assert said.headers[-1]["authorization"] == "Bearer hush-hush"


def test_what_broke_off_is_sent_again() -> None:
    with receiver() as said:
        said.hiccups = 2
        outcomes, traces = traced(TraceSettings(share=1, endpoint=said.endpoint), [EASY] * 3)
        assert len(said.traces()) == traces.counts().exported == len(outcomes) == 3


def test_who_waits_is_bounded_and_what_has_no_room_is_counted() -> None:
    stuck = _Stuck()
    traces = Tracing(1, stuck)
    window = Window("door", "e", 1, 0, 0, 0, 0)
    with traces:
        for _ in range(5000):
            trace = traces.begin(window)
            assert trace is not None
            trace.left(Shed(window, 0, ShedReason.OVERLOAD), 0)
        counts = traces.counts()
        assert counts.waiting <= 2048 and counts.dropped >= 5000 - 2048 - 64
        stuck.free.set()
    assert sum((traces.counts().exported, traces.counts().dropped, traces.counts().failed)) == 5000


def test_the_network_policy_holds_for_traces() -> None:
    with receiver() as said, reach.using(NetworkSettings(private=False)):
        exporter = tracing(TraceSettings.model_construct(share=1, endpoint=said.endpoint, headers={}, service="x"), "")
        pipeline_trace = Trace(Window("door", "e", 1, 0, 0, 0, 0), lambda _: None)
        assert exporter._exporter.export([pipeline_trace])
        assert not said.paths
        exporter.close()


def test_a_trace_has_a_bounded_number_of_steps() -> None:
    trace = Trace(Window("door", "e", 1, 0, 0, 0, 0), lambda _: None)
    for _ in range(2000):
        trace.note("stage", 0, 1)
    assert len(trace.steps) == MOST_STEPS and trace.omitted == 2000 - MOST_STEPS


def test_the_latest_traced_window_of_a_bucket_is_an_exemplar() -> None:
    with receiver() as said:
        outcomes, traces = traced(TraceSettings(share=1, endpoint=said.endpoint), [EASY] * 10)
    found = traces.exemplars("door")
    assert found and {one.window for one in found.values()} <= {one.window.id for one in outcomes}
    assert all(one.trace == trace_id(one.window) for one in found.values())
    assert traces.exemplars("other") == {}


def test_of_streams_that_come_and_go_the_latest_have_exemplars() -> None:
    class Nowhere:
        def export(self, traces: Sequence[Trace]) -> str:
            return ""

        def close(self) -> None:
            pass

    with Tracing(1.0, Nowhere()) as traces:
        for number in range(2040):
            stream = "door" if number % 2 else f"s{number}"
            trace = traces.begin(Window(stream, "e", number, 0, 0, 0, 0))
            assert trace is not None
            trace.left(Result(trace.window, 1, decided_by="cheap", generation="g"), 1)
    assert traces.exemplars("door") and traces.exemplars("s2038")
    assert not traces.exemplars("s0")


@pytest.mark.parametrize(
    ("section", "place", "says"),
    [
        ("{share: 2}", "trace: share", "less than or equal to 1"),
        ("{endpoint: 'ftp://here'}", "trace", "should be a URL like"),
        ("{endpoint: 'http://169.254.169.254'}", "trace", "out of reach"),
        ("{endpoint: 'http://[::1'}", "trace", "should be a URL like"),
        ("{headers: {'a b': c}}", "trace", "a header is a name"),
        ("{shares: 1}", "trace: shares", "share"),
    ],
)
def test_a_wrong_section_is_told(thresher_here: Thresher, project: Path, section: str, place: str, says: str) -> None:
    told = thresher_here("run", project / "tests/data/bikes.mp4", "--set", f"trace={section}")
    assert told.returncode == 2
    assert place in told.stderr and says in told.stderr


def test_the_library_is_imported_where_traces_are_asked_for_alone() -> None:
    code = (
        "import sys; import pipeline.app.runner, pipeline.engine.pipeline, pipeline.app.wiring;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_run_traces_what_its_config_says(thresher: Thresher, project: Path, tmp_path: Path) -> None:
    with receiver() as said:
        words = ("--set", f"trace={{share: 0.2, endpoint: '{said.endpoint}', headers: {{x-key: '${{HUSH}}'}}}}")
        ran = thresher(
            "run", project / "tests/data/bikes.mp4", "--out", "out", *words, environment={"HUSH": "planted-secret-1"}
        )
        assert ran.returncode == 0, ran.stderr
        assert said.headers[0]["x-key"] == "planted-secret-1"
        _check_run(said, tmp_path)
    assert "planted-secret-1" not in ran.stdout + ran.stderr


def _check_run(said: Receiver, folder: Path) -> None:
    lines = (folder / "out" / "bikes.jsonl").read_text().splitlines()
    found = said.traces()
    assert 0 < len(found) < len(lines)
    assert {facts(spans[0])["thresher.stream"] for spans in found.values()} == {"bikes"}
    assert any(span.name == "sink log" for span in said.spans)


class _Nowhere:
    def export(self, traces: Sequence[Trace]) -> str:
        return ""

    def close(self) -> None:
        """Nothing is open."""


class _Stuck(_Nowhere):
    def __init__(self) -> None:
        self.free = threading.Event()

    def export(self, traces: Sequence[Trace]) -> str:
        self.free.wait(20)
        time.sleep(0)
        return ""
