"""The ASGI application."""

from __future__ import annotations

from fastapi import FastAPI

from pipeline.app.about import VERSION
from pipeline.app.web.routes import config, events, feed, health, page, promise, results, review, streams, whip
from pipeline.app.web.site import Site
from sources.webrtc_offers import Refused

ROUTES = (health, streams, config, feed, results, events, whip, promise, review, page)


def application(site: Site) -> FastAPI:
    """The page, the interface and its OpenAPI document at `/openapi.json`. No page of documentation that would need
    somebody else's server."""
    app = FastAPI(title="Thresher", version=VERSION, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.site = site
    app.add_exception_handler(Refused, whip.refused)
    for subject in ROUTES:
        app.include_router(subject.router(site))
    return app
