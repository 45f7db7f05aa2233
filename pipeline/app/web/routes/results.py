"""Results from the store."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from pipeline.app.web.access import viewer
from pipeline.app.web.asked import Label, Stream, cursor_asked, missing, store_of, time_asked, told_when_busy
from pipeline.app.web.site import Site
from pipeline.app.web.store import ResultQuery

_ANSWERS: dict[int | str, dict[str, Any]] = {
    404: {"description": "it is not there, or the config has no sqlite sink"},
    503: {"description": "the store is busy, or the question takes too long"},
}


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/results", tags=["results"], dependencies=[viewer], responses=_ANSWERS)

    @routes.get("")
    def results(
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
        with told_when_busy():
            page = store_of(site).results(query, cursor_asked(after), limit)
        return {"results": page.found, "next": page.next}

    @routes.get("/{name:path}")
    def result(name: str) -> dict[str, Any]:
        """One, by its id: `stream/epoch/seq`."""
        with told_when_busy():
            found = store_of(site).result(name)
        if found is None:
            raise missing("there is no result with this id in the store")
        return found

    return routes
