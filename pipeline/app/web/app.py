"""The ASGI application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI

from pipeline.app.about import VERSION
from pipeline.app.web import static
from pipeline.app.web.access import viewer
from pipeline.app.web.guards import Guard
from pipeline.app.web.interface import document
from pipeline.app.web.problems import anywhere, handle_problems
from pipeline.app.web.routes import (
    config,
    events,
    feed,
    health,
    metrics,
    pictures,
    promise,
    results,
    review,
    session,
    streams,
    whep,
    whip,
)
from pipeline.app.web.sdp import refused
from pipeline.app.web.site import Site
from sources.webrtc_offers import Refused

ROUTES = (health, metrics, session, streams, config, feed, results, events, whip, whep, pictures, promise, review)
_PAGE = Path(__file__).with_name("page")


def application(site: Site) -> FastAPI:
    """The page, the interface and its OpenAPI document at `/openapi.json`. No page of documentation that would need
    somebody else's server."""
    app = FastAPI(
        title="Thresher",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses=anywhere(),
    )
    app.state.site = site
    app.add_exception_handler(Refused, refused)
    for subject in ROUTES:
        app.include_router(subject.router(site))

    @app.get("/openapi.json", include_in_schema=False, dependencies=[viewer])
    def openapi() -> dict[str, Any]:
        return document(app)

    app.router.routes.extend(static.routes(_PAGE, "/page/"))
    handle_problems(app)
    app.add_middleware(Guard, settings=site.settings)
    return app
