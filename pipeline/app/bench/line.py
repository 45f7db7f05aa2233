"""A production line: full-size boards from memory through the shipped cascade, at a pace with a deadline, and as fast
as it goes; against the heavy stage alone; and the heavy stage in its forms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from detectors.choice import ModelChoice, find_model
from detectors.manifest import Model
from detectors.runtimes.base import Options, Precision, Session
from detectors.runtimes.choose import usable_processors
from detectors.runtimes.openvino import OpenVino, core, openvino, read_graph
from detectors.stage import ModelStage
from pipeline.app.bench.boards import Line, boards, line, truth_of
from pipeline.app.bench.measure import in_turns, rate
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.subject import Counting, plan, run_through, started
from pipeline.core.contracts import Generation
from pipeline.core.payloads import FrameImage, View
from pipeline.core.records import Array, Outcome, Result
from pipeline.engine.pipeline import Pipeline
from sources.memory import Memory

DEADLINE_MS = 40.0
P99_MS = 25.0
LEAST = 200
_RATES = (10, 20, 30, 40, 60, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800)
_LATE = 0.001  # share of parts that may be unknown where a rate is called sustained
_HEAVY = "pcb-resnet"


class Parts(Memory):
    """From memory, as a line is: each picture is a part of its own, however much it looks like the last."""

    @property
    def parts(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Paced:
    """What became of the parts at one rate. Latencies are of verdicts, in milliseconds."""

    fps: float
    p50: float
    p99: float
    unknown: float
    reported: tuple[bool, ...]

    @property
    def holds(self) -> bool:
        return self.p99 <= P99_MS and self.unknown <= _LATE


def bench(scale: Scale) -> Report:
    judged_by = boards()
    for stage in judged_by.stages:
        stage.warm()
    passing = line(scale.of(300, 20))
    seconds = scale.of(8, 1)
    paced = [_paced(judged_by, passing, _RATES[0], seconds)]
    for fps in _RATES[1:] if not scale.quick else ():
        if not paced[-1].holds:
            break
        paced.append(_paced(judged_by, passing, fps, seconds))
    best = max((one for one in paced if one.holds), key=lambda one: one.fps, default=paced[0])
    first = paced[0]
    told = "; ".join(
        f"{one.fps:g}/s: p50 {one.p50:.1f}, p99 {one.p99:.1f} ms, unknown {one.unknown:.2%}" for one in paced
    )
    count = len(first.reported)
    truth = truth_of(first.reported, [passing.parts[i % len(passing.parts)] for i in range(count)])
    alone, batch, workers = _heavy_alone(passing, scale)
    rows = [
        Row(f"line: parts a second with p99 ≤ {P99_MS:g} ms", best.fps if best.holds else 0, "parts/s",
            at_least=LEAST, note=told),
        Row(f"line: p99 of a verdict at {first.fps:g} parts/s", first.p99, "ms", at_most=P99_MS),
        Row("line: bad parts rejected, by the truth", truth["recall"], "of bad parts", note=f"{count} parts passed"),
        Row("line: parts with one defect rejected", truth["recall_single"], "of those"),
        Row("line: good parts rejected", truth["false_reject"], "of good parts"),
        paired(
            "line: the cascade against its heavy stage alone", "parts/s",
            in_turns(rate(lambda: _flat_out(judged_by, passing)), rate(alone), scale.of(7, 1)), 5.0,
            f"baseline: int8, whole boards, views made beforehand, batch {batch}, {workers} at once: its best",
        ),
        *_forms(passing, scale),
    ]  # fmt: skip
    said = {stage.name: stage.describe() for stage in judged_by.stages}
    return Report(rows, {**said, "certified": judged_by.promise or "no", "deadline_ms": DEADLINE_MS})


def _paced(judged_by: Generation, passing: Line, fps: float, seconds: float) -> Paced:
    repeat = max(1, round(seconds * fps / len(passing.frames)))
    source = Parts.model_validate(
        {"script": passing.frames, "repeat": repeat, "fps": fps, "realtime": True, "latency_budget_ms": DEADLINE_MS,
         "in_flight": 64}
    )  # fmt: skip
    sink = Counting(keep=True)
    pipeline = Pipeline([plan("line", source, judged_by)], {"count": sink})
    with started(pipeline):
        pipeline.wait()
    outcomes: Sequence[Outcome] = sink.tally.outcomes
    latencies = [one.latency_ns / 1e6 for one in outcomes if isinstance(one, Result)] or [float("nan")]
    return Paced(
        fps,
        median(latencies),
        float(np.quantile(latencies, 0.99)),
        1 - sink.tally.results / max(len(outcomes), 1),
        tuple(isinstance(one, Result) and one.flagged for one in outcomes),
    )


def _flat_out(judged_by: Generation, passing: Line) -> int:
    return run_through(Parts.model_validate({"script": passing.frames}), judged_by)


def _heavy_alone(passing: Line, scale: Scale) -> tuple[Callable[[], int], int, int]:
    """The heavy stage on whole boards, in the batch and with the workers with which it is fastest here."""
    model = find_model(ModelChoice(model=_HEAVY))
    views = _views(model, passing, scale.of(16, 2))
    best: tuple[float, Callable[[], int], int, int] | None = None
    for workers in dict.fromkeys((1, usable_processors())):
        for batch in (1, 4, 8) if not scale.quick else (1,):
            stage = ModelStage("alone", model, OpenVino().open(model, Options("f32", workers, batch)))
            work = _in_batches(stage, views, batch, workers)
            work()
            took = min(_seconds(work) for _ in range(scale.of(3, 1)))
            if best is None or took < best[0]:
                best = (took, work, batch, workers)
    assert best is not None
    return best[1], best[2], best[3]


def _in_batches(stage: ModelStage, views: Sequence[View], batch: int, workers: int) -> Callable[[], int]:
    parts = [views[start : start + batch] for start in range(0, len(views), batch)]
    pool = ThreadPoolExecutor(workers)

    def work() -> int:
        return sum(len(found) for found in pool.map(stage.score, parts))

    return work


def _forms(passing: Line, scale: Scale) -> list[Row]:
    """The heavy stage's network in int8, against the very same network in f32 and bf16, on whole boards."""
    model = find_model(ModelChoice(model=_HEAVY))
    batch = np.stack([view.pixels for view in _views(model, passing, 4)])
    int8 = OpenVino().open(model, Options("f32", 1, len(batch)))
    exact = _exact(model)
    rows = []
    forms: tuple[tuple[Precision, float], ...] = (("f32", 3.9), ("bf16", 1.5))
    for precision, at_least in forms:
        other = partial(_compiled(exact, precision), batch)
        pairs = in_turns(rate(lambda: _times(int8, batch)), rate(other), scale.of(9, 1))
        note = f"the same network without quantisation, {precision} pinned; 640×640, batch {len(batch)}"
        rows.append(paired(f"line: {_HEAVY} int8 against {precision}", "boards/s", pairs, at_least, note))
    return rows


def _times(session: Session, batch: Array) -> int:
    session.infer(batch)
    return len(batch)


def _exact(model: Model) -> Any:
    """The graph of an int8 model with nothing rounded on its way: what it is to be compared with costs as much as the
    network that it was made of."""
    graph = read_graph(model.weights, model.manifest.weights.format)
    for node in graph.get_ops():
        if node.get_type_name() == "FakeQuantize":
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input_value(0))
    view = model.manifest.picture
    graph.reshape({graph.input(0): openvino().PartialShape([-1, view.height, view.width, 3])})
    return graph


def _compiled(graph: Any, precision: Precision) -> Callable[[Array], int]:
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": "1"})
    request = compiled.create_infer_request()

    def work(batch: Array) -> int:
        request.infer([batch])
        return len(batch)

    return work


def _views(model: Model, passing: Line, count: int) -> list[View]:
    spec = replace(model.manifest.picture.spec(), tile=None)
    return [FrameImage(frame).view(spec) for frame in passing.frames[:count]]


def _seconds(work: Callable[[], int]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
