"""Is it well, is it ready, and how is it doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from pipeline.app.web.access import viewer
from pipeline.app.web.documents import snapshot_document
from pipeline.app.web.site import Site


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["health"])

    @routes.get("/health", responses={503: {"description": "best started anew"}})
    def health(response: Response) -> dict[str, str]:
        """Whether its threads turn and no stage hangs. Asks for no token: a supervisor has none."""
        if not site.running.healthy:
            response.status_code = 503
            return {"status": "unwell"}
        return {"status": "ok"}

    @routes.get("/ready", responses={503: {"description": "models are still being warmed"}})
    def ready(response: Response) -> dict[str, str]:
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
