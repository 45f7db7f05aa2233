"""A real server whose feed the test itself fills, and clients that read it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.core.contracts import Sink
from pipeline.engine.pipeline import Pipeline


@contextmanager
def serving(sinks: dict[str, Sink] | None = None, **web: Any) -> Iterator[tuple[Site, str]]:
    """The page beside a pipeline without streams."""
    settings = WebSettings(listen="127.0.0.1:0", **web)
    site = Site(settings, Plan(sinks=sinks or {}), {}, Document({}, Path.cwd()))
    running = Pipeline([], site.plan.sinks)
    with WebServer(site, running, "web.listen") as server:
        running.start()
        try:
            yield site, server.url
        finally:
            running.stop(2.0)


@dataclass(frozen=True)
class Message:
    """One server-sent event."""

    id: str | None
    kind: str
    data: Any


def messages(response: httpx.Response) -> Iterator[Message]:
    """As `EventSource` would hand them over, and heartbeats as kind ``."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        data = json.loads(fields["data"]) if "data" in fields else None
        yield Message(fields.get("id"), fields.get("event", ""), data)
        fields = {}


@contextmanager
def listening(url: str, after: str | None = None, **query: Any) -> Iterator[Iterator[Message]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with httpx.stream("GET", f"{url}/api/feed", params=query, headers=headers, timeout=20) as response:
        assert response.status_code == 200, response.read()
        yield messages(response)


def stalled(url: str, path: str = "/api/feed", headers: str = "") -> socket.socket:
    """A connection that asks and never reads."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n".encode())
    return connection


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def take(told: Iterator[Message], count: int) -> list[Message]:
    """The next `count` that are no heartbeat and no snapshot."""
    wanted = (one for one in told if one.kind not in {"", "snapshot"})
    return [next(wanted) for _ in range(count)]
