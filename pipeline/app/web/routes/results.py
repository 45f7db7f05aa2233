"""Results from the store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from pipeline.app.web.access import viewer
from pipeline.app.web.asked import Label, Stream, ask, cursor_asked, missing, time_asked
from pipeline.app.web.problems import answers
from pipeline.app.web.site import Site
from pipeline.app.web.store import ResultQuery


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/results", tags=["results"], dependencies=[viewer], responses=answers(404, 503))

    @routes.get("")
    async def results(
        *,
        stream: Stream | None = None,
        label: Label | None = None,
        since: Annotated[datetime | None, Query(alias="from", description="no older than this")] = None,
        to: Annotated[datetime | None, Query(description="older than this")] = None,
        outcome: Literal["result", "shed", "failed"] | None = None,
        flagged: bool | None = None,
        verdict: Literal["accept", "reject", "unknown"] | None = None,
        decided_by: Annotated[str | None, Query(max_length=200, description="stage, gate or feed state")] = None,
        after: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> dict[str, Any]:
        """Results of the store, the newest first, each as the JSONL sink writes it. `next` leads on; null ends it."""
        query = ResultQuery(
            stream, label, time_asked(since, "from"), time_asked(to, "to"), outcome, flagged, verdict, decided_by
        )
        cursor = cursor_asked(after)
        page = await ask(site, lambda store: store.results(query, cursor, limit))
        return {"results": page.found, "next": page.next}

    @routes.get("/{name:path}")
    async def result(name: str) -> dict[str, Any]:
        """One, by its id: `stream/epoch/seq`."""
        found = await ask(site, lambda store: store.result(name))
        if found is None:
            raise missing("there is no result with this id in the store")
        return found

    return routes
