"""The ASGI application."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from pipeline.app.about import VERSION
from pipeline.app.web.routes import feed, health, metrics, promise, review, whip
from pipeline.app.web.site import Site
from sources.webrtc_offers import Refused

ROUTES = (health, metrics, feed, whip, promise, review)


def application(site: Site) -> FastAPI:
    """The page, the interface and its OpenAPI document at `/openapi.json`. No page of documentation that would need
    somebody else's server."""
    app = FastAPI(title="Thresher", version=VERSION, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.site = site
    app.add_exception_handler(Refused, whip.refused)
    for subject in ROUTES:
        app.include_router(subject.router(site))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return (resources.files("pipeline.app.web") / "page" / "index.html").read_text()

    return app
