"""Traces as OpenTelemetry has them, sent by OTLP over HTTP. The only module that knows the protocol.

Its messages are made of traces straight away: by way of the SDK's spans, each would cost four times as much.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from pipeline.app.about import VERSION
from pipeline.app.config.trace import TraceSettings
from pipeline.app.tracing import trace_id
from pipeline.core.records import Failed, Result, Shed
from pipeline.core.secrets import redact
from pipeline.core.traces import Fact, Step, Trace
from pipeline.core.web import Timeouts, connection

_TIMEOUTS = Timeouts(3.0, 3.0)
_LARGEST_ANSWER = 64 << 10
_AGAIN = frozenset({429, 502, 503, 504})
_PAUSES_S = (0.0, 0.5, 1.0)  # before each further try, says the protocol; a connection may be stale, so at once first
_GOLDEN = 0x9E3779B97F4A7C15
_LOW = 0xFFFF_FFFF_FFFF_FFFF


class Otlp:
    """An exporter to the receiver that the settings name."""

    def __init__(self, settings: TraceSettings) -> None:
        parts = urlsplit(settings.url)
        self._scheme, self._host, self._port = parts.scheme, str(parts.hostname), parts.port
        self._path = parts.path
        self._headers = {"User-Agent": f"thresher/{VERSION}", **settings.headers, "Content-Type": _PROTOBUF}
        self._resource = Resource(
            attributes=_attributes({"service.name": settings.service, "service.version": VERSION})
        )
        self._connection: http.client.HTTPConnection | None = None
        self._closed = threading.Event()

    def export(self, traces: Sequence[Trace]) -> str:
        scope = ScopeSpans(scope=InstrumentationScope(name="thresher", version=VERSION))
        for trace in traces:
            scope.spans.extend(spans(trace))
        request = ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=self._resource, scope_spans=[scope])]
        )
        body = request.SerializeToString()
        trouble = ""
        for pause_s in (0.0, *_PAUSES_S):
            if self._closed.wait(pause_s) if pause_s else self._closed.is_set():
                return trouble or "the program ended"
            try:
                status, said = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                self._let_go()
                trouble = f"{self._host}: {redact(error) or type(error).__name__}"
                continue
            if status not in _AGAIN:
                return _refusal(status, said)
            trouble = f"{self._host} answers {status}"
        return trouble

    def _post(self, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = connection(self._scheme, self._host, self._port, _TIMEOUTS, private=True)
        self._connection.request("POST", self._path, body, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(_LARGEST_ANSWER)

    def _let_go(self) -> None:
        held, self._connection = self._connection, None
        if held is not None:
            with suppress(OSError, ssl.SSLError):
                held.close()

    def close(self) -> None:
        self._closed.set()
        self._let_go()


_PROTOBUF = "application/x-protobuf"


def _refusal(status: int, said: bytes) -> str:
    if not 200 <= status < 300:
        return f"the receiver answers {status}"
    try:
        refused = ExportTraceServiceResponse.FromString(said).partial_success
    except Exception:  # noqa: BLE001 it took them, whatever it says
        return ""
    return f"the receiver refused {refused.rejected_spans} spans" if refused.rejected_spans else ""


def spans(trace: Trace) -> Iterator[Span]:
    """The window as the root, from its arrival until all had it, and each step as its child."""
    window, steps = trace.window, list(trace.steps)
    to_wall_ns = window.wall_ns - window.mono_ns
    made = bytes.fromhex(trace_id(window.id))
    number = int.from_bytes(made[8:])
    root = _span_id(number, 0)

    def span(index: int, step: Step, facts: Mapping[str, Fact]) -> Span:
        return Span(
            trace_id=made,
            span_id=_span_id(number, index),
            parent_span_id=root if index else b"",
            name=f"{step.name} {step.of}" if step.of else step.name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=step.began_ns + to_wall_ns,
            end_time_unix_nano=step.ended_ns + to_wall_ns,
            attributes=_attributes({f"thresher.{key}": value for key, value in facts.items()}),
        )

    ended_ns = max([trace.left_ns, window.mono_ns, *(step.ended_ns for step in steps)])
    whole = span(0, Step("window", window.mono_ns, ended_ns), _facts(trace))
    if isinstance(trace.outcome, Failed):
        whole.status.code = Status.STATUS_CODE_ERROR
        whole.status.message = redact(trace.outcome.reason)
    yield whole
    for index, step in enumerate(steps, 1):
        yield span(index, step, {**step.facts, step.name: step.of} if step.of else step.facts)


def _span_id(number: int, index: int) -> bytes:
    return ((number + index * _GOLDEN) & _LOW or 1).to_bytes(8)


def _attributes(facts: Mapping[str, Fact]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in facts.items()]


def _value(fact: Fact) -> AnyValue:
    if isinstance(fact, bool):
        return AnyValue(bool_value=fact)
    if isinstance(fact, int):
        return AnyValue(int_value=fact)
    return AnyValue(double_value=fact) if isinstance(fact, float) else AnyValue(string_value=fact)


def _facts(trace: Trace) -> dict[str, Fact]:
    window, outcome = trace.window, trace.outcome
    facts: dict[str, Fact] = {"stream": window.stream, "window": window.id, "pts_ns": window.start_ns}
    if trace.omitted:
        facts["omitted_steps"] = trace.omitted
    if outcome is None:
        return facts
    facts |= {"outcome": outcome.kind, "verdict": outcome.verdict, "latency_ms": outcome.latency_ns / 1e6}
    if isinstance(outcome, Result):
        facts |= {
            "decided_by": outcome.decided_by,
            "generation": outcome.generation,
            "certified": outcome.certified,
            "flagged": outcome.flagged,
            "detections": len(outcome.detections),
        }
        if outcome.carried_from is not None:
            facts["carried_from"] = outcome.carried_from
    elif isinstance(outcome, (Shed, Failed)):
        facts["reason"] = redact(outcome.reason)
    return facts
