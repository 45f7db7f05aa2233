"""Is it well, is it ready, and how is it doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from pipeline.app.web.access import viewer
from pipeline.app.web.documents import snapshot_document
from pipeline.app.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["health"])

    @routes.get("/health", responses=_not("best started anew"))
    async def health(response: Response) -> dict[str, str]:
        """Whether its threads turn and no stage hangs. Asks for no token: a supervisor has none."""
        if not site.running.healthy:
            response.status_code = 503
            return {"status": "unwell"}
        return {"status": "ok"}

    @routes.get("/ready", responses=_not("models are still being warmed"))
    async def ready(response: Response) -> dict[str, str]:
        """Whether every model is warm and every source was started."""
        if not site.running.ready:
            response.status_code = 503
            return {"status": "starting"}
        return {"status": "ready"}

    @routes.get("/snapshot", dependencies=[viewer])
    def snapshot() -> dict[str, Any]:
        """All that the engine says of itself: streams with both ledgers, stages, sinks, audits, policy."""
        return snapshot_document(site.running.snapshot())

    return routes


def _not(description: str) -> dict[int | str, dict[str, Any]]:
    """A 503 whose body is as that of a 200."""
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    return {503: {"description": description, "content": {"application/json": {"schema": schema}}}}
