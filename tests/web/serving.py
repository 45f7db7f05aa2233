"""The page's server as a config makes it, beside a pipeline; that is started only where a test wants it to run."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from pipeline.app.assemble import assemble
from pipeline.app.runner import served
from pipeline.app.web.site import Site
from pipeline.app.wiring import prepare
from pipeline.engine.pipeline import Pipeline

OPERATOR, VIEWER = "operator-0123456789", "viewer-0123456789"
GUARDED = {"operator": OPERATOR, "viewer": VIEWER}


@dataclass(frozen=True)
class Served:
    url: str
    port: int
    site: Site
    running: Pipeline
    app: FastAPI

    def raw(self, sent: bytes, timeout_s: float = 20.0) -> bytes:
        """What comes back for these very bytes, until the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as line:
            with contextlib.suppress(OSError):
                line.sendall(sent)
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while block := line.recv(65536):
                    said += block
            return said


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextlib.contextmanager
def serving(
    web: Mapping[str, Any] | None = None,
    *,
    target: str = "tests/data/bikes.mp4",
    start: bool = False,
    sinks: bool = True,
) -> Iterator[Served]:
    """`web` is the config's section; it listens at any free port of the loopback. With `sinks`, results go nowhere."""
    nowhere = ["sinks={log: {kind: jsonl, path: /dev/null}}"] if sinks else []
    document = assemble([target], assignments=nowhere, web=True)
    document.data["web"] = {"listen": "127.0.0.1:0", "changes_per_s": 10_000, **(web or {})}
    plan, generations = prepare(document)
    with served(plan, generations, document, drain_s=2.0) as (server, running):
        assert server is not None
        if start:
            running.start()
        yield Served(server.url, server.port, server.site, running, server.app)
