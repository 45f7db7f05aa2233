"""Traces as OpenTelemetry has them, sent by OTLP over HTTP. The only module that knows the library."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from pipeline.app.about import VERSION
from pipeline.app.config.trace import TraceSettings
from pipeline.app.tracing import trace_id
from pipeline.core import reach
from pipeline.core.records import Failed, Result, Shed
from pipeline.core.secrets import redact
from pipeline.core.traces import Fact, Step, Trace

_TIMEOUT_S = 5.0
_GOLDEN = 0x9E3779B97F4A7C15
_SCOPE = InstrumentationScope("thresher", VERSION)


class Otlp:
    """An exporter to the receiver that the settings name."""

    def __init__(self, settings: TraceSettings) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # we say it ourselves, once
        session = requests.Session()
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Within())
        self._exporter = OTLPSpanExporter(
            endpoint=settings.url,
            headers=dict(settings.headers),
            timeout=_TIMEOUT_S,
            compression=Compression.Gzip,
            session=session,
        )
        self._place = redact(f"{urlsplit(settings.url).hostname}:{urlsplit(settings.url).port or ''}".rstrip(":"))
        self._resource = Resource({"service.name": settings.service, "service.version": VERSION})

    def export(self, traces: Sequence[Trace]) -> str:
        made = [span for trace in traces for span in spans(trace, self._resource)]
        if self._exporter.export(made) is SpanExportResult.SUCCESS:
            return ""
        return f"{self._place} cannot be reached, or does not want them"

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it is, there


def spans(trace: Trace, resource: Resource) -> Iterator[ReadableSpan]:
    """The window as the root, from its arrival until all had it, and each step as its child."""
    window, steps = trace.window, list(trace.steps)
    to_wall_ns = window.wall_ns - window.mono_ns
    number = int(trace_id(window.id), 16)
    root = _context(number, 0)
    ended_ns = max([trace.left_ns, window.mono_ns, *(step.ended_ns for step in steps)])

    def span(index: int, step: Step, facts: Mapping[str, Fact], status: Status) -> ReadableSpan:
        return ReadableSpan(
            name=f"{step.name} {step.of}".strip(),
            context=root if index == 0 else _context(number, index),
            parent=None if index == 0 else root,
            resource=resource,
            attributes={f"thresher.{key}": value for key, value in facts.items()},
            kind=SpanKind.INTERNAL,
            status=status,
            start_time=step.began_ns + to_wall_ns,
            end_time=step.ended_ns + to_wall_ns,
            instrumentation_scope=_SCOPE,
        )

    failed = trace.outcome if isinstance(trace.outcome, Failed) else None
    status = Status(StatusCode.UNSET) if failed is None else Status(StatusCode.ERROR, redact(failed.reason))
    yield span(0, Step("window", window.mono_ns, ended_ns), _facts(trace), status)
    for index, step in enumerate(steps, 1):
        yield span(index, step, {**step.facts, **({step.name: step.of} if step.of else {})}, Status(StatusCode.UNSET))


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


def _context(number: int, index: int) -> SpanContext:
    span_id = (number + index * _GOLDEN) & 0xFFFF_FFFF_FFFF_FFFF or 1
    return SpanContext(number, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


# The library's connections, within reach.


def _connected(connection: HTTPConnection) -> socket.socket:
    timeout = connection.timeout if isinstance(connection.timeout, (int, float)) else _TIMEOUT_S
    try:
        return reach.create_connection((connection.host, connection.port), timeout, private=True)
    except OSError as error:
        raise NewConnectionError(connection, redact(error)) from error


class _Http(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _Https(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connected(self)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


class _Within(HTTPAdapter):
    """Connects to nothing but addresses that were checked."""

    def init_poolmanager(self, *given: Any, **named: Any) -> None:
        super().init_poolmanager(*given, **named)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
