"""The pipeline's own figures for Prometheus. Collected when asked for; nothing is kept twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Timestamp

from pipeline.app.about import VERSION
from pipeline.app.tracing import BUCKETS_EVERY, Example, Tracing
from pipeline.core.errors import InputError
from pipeline.core.records import ACTIONS, ShedReason, SourceState, Verdict
from pipeline.core.snapshot import (
    AuditSnapshot,
    Latency,
    OutboxSnapshot,
    PolicySnapshot,
    Snapshot,
    StageSnapshot,
    StreamSnapshot,
)

_LONGEST_EXEMPLAR = 128  # signs, says the format
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class PipelineCollector(Collector):
    """Turns a snapshot into metrics named `thresher_<thing>_<unit>[_total]`."""

    def __init__(self, snapshot: Callable[[], Snapshot], traces: Tracing | None = None) -> None:
        self._snapshot, self._traces = snapshot, traces

    def describe(self) -> list[Metric]:
        return []  # known only once something runs

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        info = InfoMetricFamily("thresher_build", "The program that answers.")
        info.add_metric([], {"version": VERSION})
        yield info
        yield GaugeMetricFamily("thresher_ready", "1 once every model is warm and every source was started.", now.ready)
        yield GaugeMetricFamily("thresher_healthy", "1 while its threads turn and no stage hangs.", now.healthy)
        yield from _stream_metrics(now.streams, self._traces)
        yield from _stage_metrics(now.stages)
        yield from _sink_metrics(now)
        yield from _audit_metrics(now.audits)
        yield from _policy_metrics(now.policy)
        yield from _process_metrics(now)
        yield from _trace_metrics(self._traces)


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"thresher_{name}", text, labels=labels)


def _stream_metrics(streams: tuple[StreamSnapshot, ...], traces: Tracing | None) -> Iterator[Metric]:
    received = _counter("received_frames", "Frames that arrived, by what became of them.", ["stream", "fate"])
    windows = _counter("windows", "Windows admitted for judging.", ["stream"])
    results = _counter("result_windows", "Windows with a verdict, by the stage or gate that settled it.", _STREAM_STAGE)
    flagged = _counter("flagged_windows", "Windows with something to act on.", ["stream"])
    shed = _counter("shed_windows", "Windows that were not judged, on purpose.", ["stream", "reason"])
    failed = _counter("failed_windows", "Windows that were not judged, by a fault.", ["stream"])
    verdicts = _counter("verdicts", "Frames by what was said of them: accept, reject, unknown.", ["stream", "verdict"])
    connects = _counter("source_connects", "How often the source was opened with success.", ["stream"])
    outages = _counter("source_outages", "How often nothing was received: connection lost or program down.", ["stream"])
    outage_s = _counter("source_outage_seconds", "How long nothing was received, all outages.", ["stream"])
    in_flight = GaugeMetricFamily("thresher_in_flight_windows", "Windows without a verdict yet.", labels=["stream"])
    state = GaugeMetricFamily("thresher_source_state", "1 for the state the source is in.", labels=["stream", "state"])
    latency = HistogramMetricFamily(
        "thresher_outcome_latency_seconds", "From a window's first packet to its verdict.", labels=["stream"]
    )
    for one in streams:
        name = one.stream
        fates = {
            "window": one.windows,
            "sampled_out": one.sampled_out,
            "damaged": one.damaged,
            "undecoded": one.undecoded,
        }
        for fate, count in fates.items():
            received.add_metric([name, fate], count)
        for stage, count in one.decided_by.items():
            results.add_metric([name, stage], count)
        for verdict in get_args(Verdict):
            verdicts.add_metric([name, verdict], one.verdicts.get(verdict, 0))
        for reason in ShedReason:  # also what has not happened yet: a rate needs something to rise from
            shed.add_metric([name, reason.value], one.shed.get(reason, 0))
        windows.add_metric([name], one.windows)
        flagged.add_metric([name], one.flagged)
        failed.add_metric([name], one.failed)
        connects.add_metric([name], one.connects)
        outages.add_metric([name], one.outages)
        outage_s.add_metric([name], one.outage_s)
        in_flight.add_metric([name], one.in_flight)
        for known in SourceState:
            state.add_metric([name, known.value], float(known is one.state))
        examples = {} if traces is None else traces.exemplars(name)
        latency.add_metric([name], *_histogram(one.latency, examples))
    yield from (received, windows, results, flagged, shed, failed, verdicts, connects, outages, outage_s)
    yield from (in_flight, state, latency)


_STREAM_STAGE = ["stream", "stage"]
_STAGE = ["cascade", "stage"]


def _stage_metrics(stages: tuple[StageSnapshot, ...]) -> Iterator[Metric]:
    views = _counter("stage_views", "Views that a stage judged.", _STAGE)
    errors = _counter("stage_errors", "Batches that a stage could not judge.", _STAGE)
    waiting = GaugeMetricFamily("thresher_stage_waiting_views", "Views in a stage's queue.", labels=_STAGE)
    busy = GaugeMetricFamily("thresher_stage_busy_ratio", "Share of the workers' time spent judging.", labels=_STAGE)
    hangs = GaugeMetricFamily("thresher_stage_hanging", "1 while a stage is stuck at a batch.", labels=_STAGE)
    service = HistogramMetricFamily("thresher_stage_service_seconds", "Time that a batch took.", labels=_STAGE)
    batch = HistogramMetricFamily("thresher_stage_batch_views", "Views in a batch.", labels=_STAGE)
    for one in stages:
        labels = [one.cascade, one.stage]
        views.add_metric(labels, one.views)
        errors.add_metric(labels, one.errors)
        waiting.add_metric(labels, one.waiting)
        busy.add_metric(labels, one.busy_share)
        hangs.add_metric(labels, one.state == "hangs")
        service.add_metric(labels, *_histogram(one.service))
        batch.add_metric(labels, *_batch_histogram(one.batch_sizes))
    yield from (views, errors, waiting, busy, hangs, service, batch)


def _sink_metrics(now: Snapshot) -> Iterator[Metric]:
    written = _counter("sink_written_items", "Items that a sink acknowledged.", ["sink"])
    lost = _counter("sink_lost_items", "Items that a sink never got, and why.", ["sink", "reason"])
    retries = _counter("sink_retries", "Writes that had to be tried again.", ["sink"])
    waiting = GaugeMetricFamily("thresher_sink_waiting_items", "Items that wait for a sink.", labels=["sink"])
    for one in now.sinks:
        written.add_metric([one.sink], one.written)
        lost.add_metric([one.sink, "dropped"], one.dropped)
        lost.add_metric([one.sink, "refused"], one.refused)
        retries.add_metric([one.sink], one.retries)
        waiting.add_metric([one.sink], one.waiting)
    yield from (written, lost, retries, waiting)
    yield from _outbox_metrics([(one.sink, one.outbox) for one in now.sinks if one.outbox is not None])


def _outbox_metrics(outboxes: Sequence[tuple[str, OutboxSnapshot]]) -> Iterator[Metric]:
    if not outboxes:
        return
    settled = _counter(
        "outbox_letters", "Letters that an outbox accepted, over all runs, by what became of them.", ["sink", "fate"]
    )
    waiting = GaugeMetricFamily("thresher_outbox_waiting_letters", "Letters on the disk, to be sent.", labels=["sink"])
    size = GaugeMetricFamily("thresher_outbox_bytes", "What they take on the disk.", labels=["sink"])
    oldest = GaugeMetricFamily("thresher_outbox_oldest_seconds", "How long the next one has waited.", labels=["sink"])
    for sink, outbox in outboxes:
        for fate in ("delivered", "refused", "expired", "dropped", "damaged"):
            settled.add_metric([sink, fate], getattr(outbox, fate))
        waiting.add_metric([sink], outbox.waiting)
        size.add_metric([sink], outbox.bytes)
        oldest.add_metric([sink], outbox.oldest_s)
    yield from (settled, waiting, size, oldest)


_AUDIT = ["cascade", "generation"]


def _audit_metrics(audits: tuple[AuditSnapshot, ...]) -> Iterator[Metric]:
    if not audits:
        return
    recall = GaugeMetricFamily(
        "thresher_audit_recall_ratio",
        "Share of what the heavy stage flags that is reported: the estimate, the bounds that hold at all times, and the"
        " estimate if all that could not be looked at was missed.",
        labels=[*_AUDIT, "kind"],
    )
    state = GaugeMetricFamily("thresher_audit_state", "1 for what the audit has proved.", labels=[*_AUDIT, "state"])
    alarm = GaugeMetricFamily(
        "thresher_audit_alarm", "1 once the cascade is not trusted any more.", labels=[*_AUDIT, "reason"]
    )
    picked = _counter(
        "audit_picked_windows", "Windows that the coin picked, by what became of them.", [*_AUDIT, "fate"]
    )
    waiting = GaugeMetricFamily("thresher_audit_waiting_windows", "Pictures kept for the audit.", labels=_AUDIT)
    missed = _counter("audit_missed_windows", "Misses that the audit found.", _AUDIT)
    for one in audits:
        labels, said = [one.cascade, one.generation], one.report
        rates = {"estimate": said.estimate, "lower": said.upper, "upper": said.lower, "worst_case": said.worst}
        for kind, rate in rates.items():
            if rate is not None:
                recall.add_metric([*labels, kind], 1 - rate)
        for known in ("confirmed", "unproven", "broken"):
            state.add_metric([*labels, known], float(known == said.state))
        for reason in ("broken", "drift"):
            alarm.add_metric([*labels, reason], float(reason == said.alarm))
        for fate, count in {"audited": one.audited, **one.skipped}.items():
            picked.add_metric([*labels, fate], count)
        waiting.add_metric(labels, one.waiting)
        missed.add_metric(labels, said.missed)
    yield from (recall, state, alarm, picked, waiting, missed)


def _policy_metrics(policy: PolicySnapshot | None) -> Iterator[Metric]:
    if policy is None:
        return
    actions = _counter("policy_actions", "Actions that began.", ["show", "action"])
    going = GaugeMetricFamily("thresher_policy_open_actions", "Actions that go on.", labels=["show", "action"])
    late = _counter("policy_late_windows", "Windows with evidence behind the show's watermark.", ["show"])
    dropped = _counter("policy_dropped_windows", "Windows with evidence for which there was no room.", ["show"])
    anew = _counter("policy_anchored_anew", "How often a live stream's clock was put in place again.", ["show"])
    latency = HistogramMetricFamily(
        "thresher_policy_decision_latency_seconds",
        "From the newest arrival that contributed to an action to the decision.",
        labels=["show"],
    )
    show = policy.show
    for action in ACTIONS:
        actions.add_metric([show, action], policy.ruled.get(action, 0))
        going.add_metric([show, action], sum(one == action for one in policy.open.values()))
    late.add_metric([show], policy.late)
    dropped.add_metric([show], policy.dropped)
    anew.add_metric([show], policy.anchored_anew)
    latency.add_metric([show], *_histogram(policy.latency))
    yield from (actions, going, late, dropped, anew, latency)


def _process_metrics(now: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily("thresher_elapsed_seconds", "How long it has been running.", now.elapsed_s)
    yield GaugeMetricFamily(
        "thresher_cpu_ratio", "Processors in use; 1 is one of them, all the time.", now.cpu_percent / 100
    )


def _trace_metrics(traces: Tracing | None) -> Iterator[Metric]:
    if traces is None:
        return
    said = traces.counts()
    fates = _counter("traces", "Windows that were traced, by what became of their traces.", ["fate"])
    for fate in ("exported", "dropped", "failed"):
        fates.add_metric([fate], getattr(said, fate))
    yield fates
    yield GaugeMetricFamily("thresher_traces_waiting", "Traces that are to be sent.", said.waiting)


def _histogram(
    latency: Latency, examples: Mapping[int, Example] | None = None
) -> tuple[list[tuple[str, float] | tuple[str, float, Exemplar]], float]:
    """`examples` are by the index of their bucket."""
    bounds = [*(f"{bound:.4g}" for bound, _ in latency.buckets[::BUCKETS_EVERY]), "+Inf"]
    counts = [*(count for _, count in latency.buckets[::BUCKETS_EVERY]), latency.count]
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    for index, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
        example = (examples or {}).get(index)
        buckets.append((bound, float(count)) if example is None else (bound, float(count), _exemplar(example)))
    return buckets, latency.sum_s


def _exemplar(example: Example) -> Exemplar:
    labels = {"trace_id": example.trace, "window_id": example.window}
    if sum(len(name) + len(value) for name, value in labels.items()) > _LONGEST_EXEMPLAR:
        del labels["window_id"]
    return Exemplar(labels, example.latency_s, Timestamp(*divmod(example.left_wall_ns, 1_000_000_000)))


def _batch_histogram(sizes: Mapping[int, int]) -> tuple[list[tuple[str, float]], float]:
    buckets = [(str(bound), float(sum(n for size, n in sizes.items() if size <= bound))) for bound in _BATCHES]
    return [*buckets, ("+Inf", float(sum(sizes.values())))], float(sum(size * n for size, n in sizes.items()))


def registry(
    snapshot: Callable[[], Snapshot], traces: Tracing | None = None, others: Sequence[Collector] = ()
) -> CollectorRegistry:
    """The pipeline's metrics, those of `others` and the process' own (processor time, memory, open files)."""
    out = CollectorRegistry()
    out.register(PipelineCollector(snapshot, traces))
    for one in others:
        out.register(one)
    ProcessCollector(registry=out)
    return out


class Endpoint:
    """Answers `GET /metrics` until it is closed. Raises `InputError` where it cannot listen."""

    def __init__(
        self,
        address: tuple[str, int],
        snapshot: Callable[[], Snapshot],
        place: str,
        traces: Tracing | None = None,
    ) -> None:
        host, port = address
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry(snapshot, traces))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "this is no address"
            raise InputError(f"cannot listen on {host}:{port}: {reason}", place) from error
        self.port: int = self._server.server_port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)
