"""The server of the page: it answers beside a pipeline that runs, and ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.app.assemble import assemble
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.app.wiring import pipeline, prepare


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    document = assemble(
        ["tests/data/bikes.mp4"],
        assignments=["web.listen=127.0.0.1:0", "sinks={log: {kind: jsonl, path: /dev/null}}"],
        web=True,
    )
    plan, generations = prepare(document)
    assert plan.web is not None
    site = Site(plan.web, plan, generations, document)
    running = pipeline(site.plan, generations)
    with WebServer(site, running, "web.listen") as server:
        running.start()
        yield server.url
        running.stop(2.0)


def test_it_tells_how_the_pipeline_is_doing(url: str) -> None:
    assert httpx.get(f"{url}/api/health").json() == {"status": "ok"}
    said = httpx.get(f"{url}/api/snapshot").json()
    assert [stream["stream"] for stream in said["streams"]] == ["bikes"]
    assert httpx.get(url).status_code == 200
    assert "/api/snapshot" in httpx.get(f"{url}/openapi.json").json()["paths"]
