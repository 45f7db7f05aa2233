"""The page's server beside a pipeline, as benches and tests of WebRTC start it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.app.bench.subject import started
from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.app.wiring import pipeline
from pipeline.core.contracts import Generation, Source


@contextmanager
def serving(sources: Mapping[str, Source], judged_by: Generation, **settings: str) -> Iterator[tuple[str, Site]]:
    """These streams, all judged by one cascade: the server's URL, and what its routes share. `settings` of
    the server as in a config."""
    web = WebSettings.model_validate({"listen": "127.0.0.1:0", "changes_per_s": 1000, **settings})
    plan = Plan(sources=sources, watches=dict.fromkeys(sources, judged_by.id), web=web)
    generations = {judged_by.id: judged_by}
    site = Site(web, plan, generations, Document({"sources": {}}, Path()))
    running = pipeline(site.plan, generations)
    with WebServer(site, running, "web.listen") as server, started(running, drain_s=2.0):
        yield server.url, site
