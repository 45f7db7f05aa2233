"""A receiver of OpenTelemetry's traces: a real HTTP server that parses what it is sent by the protocol's own types."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    """`port` is where it listens; it answers with `status`, but for the first `hiccups`, which are broken off."""

    port: int = 0
    status: int = 200
    hiccups: int = 0
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def traces(self) -> dict[str, list[Span]]:
        """By their ids in hexadecimal digits, each with its root first."""
        made: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: bool(span.parent_span_id)):
            made.setdefault(span.trace_id.hex(), []).append(span)
        return made


def facts(span: Span) -> dict[str, object]:
    """Its attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    said = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            said.paths.append(self.path)
            if said.hiccups:
                said.hiccups -= 1
                self.close_connection = True
                return
            said.headers.append({name.lower(): value for name, value in self.headers.items()})
            if said.status == 200:
                for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    named = {one.key: one.value.string_value for one in of_resource.resource.attributes}
                    said.services.add(named["service.name"])
                    said.spans += [span for scope in of_resource.scope_spans for span in scope.spans]
            self.send_response(said.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        said.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield said
        finally:
            server.shutdown()
            thread.join()
