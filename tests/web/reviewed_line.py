"""A real run of the shipped boards, behind a real server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from pipeline.app.assemble import assemble
from pipeline.app.config.document import Document
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.app.wiring import pipeline, prepare
from pipeline.engine.pipeline import Pipeline

LINE = Path(__file__).parents[2] / "pipeline" / "app" / "demo" / "line"
BOARDS = {
    "kind": "line",
    "path": str(LINE),
    "names": "*_part",
    "reference": f"{LINE}/{{stem}}_temp.png",
    "fps": 20,
    "deadline_ms": 20_000,
}


def config(folder: Path, **sections: Any) -> Document:
    """The line with the cascade `pcb`, its results in `folder`; `sections` in place of those of the config."""
    document = Document({}, folder, str(folder / "line.yaml"))
    document.data = {
        "sources": {"line": dict(BOARDS)},
        "cascade": "pcb",
        "sinks": {"log": {"kind": "jsonl", "path": str(folder / "line.jsonl")}},
        **sections,
        "web": {"listen": "127.0.0.1:0", "open": False, **sections.get("web", {})},
    }
    return document


@contextmanager
def served(document: Document) -> Iterator[tuple[httpx.Client, Pipeline]]:
    """It runs, and answers."""
    plan, generations = prepare(document)
    assert plan.web is not None
    site = Site(plan.web, plan, generations, document)
    running = pipeline(site.plan, generations)
    with WebServer(site, running, "web.listen") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        running.start()
        try:
            yield client, running
        finally:
            running.stop(5.0)


def one_film(assignments: Sequence[str] = ()) -> Document:
    """People, uncertified."""
    return assemble(
        ["tests/data/bikes.mp4"],
        assignments=["web.listen=127.0.0.1:0", "sinks={log: {kind: jsonl, path: /dev/null}}", *assignments],
        web=True,
    )
