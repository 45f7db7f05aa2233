"""A real run through two stages, with an audit and a policy: written by the real sinks, served by the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from audit_parts import ALONE, ASKED, NOTHING, audited
from parts import grey

from detectors.calibration.live import AuditSettings
from detectors.choice import ModelChoice
from pipeline.app.config.document import Document
from pipeline.app.config.plan import CascadePlan, Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.core.contracts import Generation, Sink, Source
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from pipeline.engine.policy_settings import PolicySettings
from sinks.jsonl import Jsonl
from sinks.sqlite import Sqlite
from sources.memory import Memory

__all__ = ["ALONE", "ASKED", "NOTHING"]

EVENTS = EventSettings.model_validate({"start_after": 2, "end_after_s": 0.5})
POLICY = PolicySettings.model_validate(
    {"show": "evening", "rules": [{"name": "glare", "action": "blur", "when": [{"label": "bright", "at_least": 0.5}]}]}
)


@dataclass(frozen=True)
class Ran:
    site: Site
    url: str
    jsonl: Path

    def written(self, key: str = "id") -> dict[str, dict[str, Any]]:
        """What the JSONL sink wrote, by id, the last word on each."""
        lines = [json.loads(line) for line in self.jsonl.read_text().splitlines()]
        return {line[key]: line for line in lines if key in line}

    def get(self, path: str, **query: Any) -> Any:
        answer = httpx.get(f"{self.url}{path}", params=query, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def all(self, what: str, **query: Any) -> list[dict[str, Any]]:
        """Page by page."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.get(f"/api/{what}", **query, **after)
            found += page[what]
            if page["next"] is None:
                return found
            after = {"after": page["next"]}


@contextmanager
def ran(folder: Path, scripts: dict[str, Sequence[Any]], **more: Sink) -> Iterator[Ran]:
    """Each stream plays its levels of grey at 25 a second to the end; then it is served."""
    judged_by = audited(folder / "audit.json", name="known@1a2b3c4d")
    sources: dict[str, Source] = {
        name: Memory.model_validate({"script": [grey(level, 96) for level in script]})
        for name, script in scripts.items()
    }
    with played(folder, sources, judged_by, **more) as one:
        yield one


@contextmanager
def played(folder: Path, sources: dict[str, Source], judged_by: Generation, **more: Sink) -> Iterator[Ran]:
    """The same of any sources."""
    jsonl = folder / "log.jsonl"
    sinks: dict[str, Sink] = {"log": Jsonl(path=str(jsonl)), "db": Sqlite(path=str(folder / "run.sqlite")), **more}
    audit = AuditSettings.model_validate({"share": 1.0, "key": "a key for tests", "state": str(folder / "audit.json")})
    cascade = CascadePlan("known", ModelChoice(model="people-ssdlite"), audit=audit)  # where the audit's file is
    plan = Plan(sinks=sinks, events=EVENTS, policy=POLICY, cascades={"known": cascade})
    site = Site(WebSettings(listen="127.0.0.1:0"), plan, {"known": judged_by}, Document({}, folder))
    streams = [StreamPlan(name, source, "known", judged_by) for name, source in sources.items()]
    running = Pipeline(streams, site.plan.sinks, events=EVENTS, policy=POLICY)
    with WebServer(site, running, "web.listen") as server:
        running.start()
        assert running.wait(60)
        running.stop(5.0)
        yield Ran(site, server.url, jsonl)
