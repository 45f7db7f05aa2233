"""What Prometheus asks for: the pipeline's figures and the page's own."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder

from pipeline.app.metrics import registry
from pipeline.app.web.access import viewer
from pipeline.app.web.metrics import PageCollector
from pipeline.app.web.site import Site

_TEXT = {"schema": {"type": "string"}}


def router(site: Site) -> APIRouter:
    routes = APIRouter(tags=["metrics"])
    figures = registry(site.running.snapshot, site.traces, [PageCollector(site)])

    @routes.get(
        "/metrics",
        dependencies=[viewer],
        response_class=Response,
        responses={
            200: {
                "description": "as text, or as OpenMetrics with exemplars where `Accept` asks for that",
                "content": {CONTENT_TYPE_PLAIN_0_0_4: _TEXT, "application/openmetrics-text": _TEXT},
            }
        },
    )
    def metrics(request: Request) -> Response:
        """For Prometheus, which sends a token as `authorization: {credentials: TOKEN}`."""
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(figures), headers={"Content-Type": kind})

    return routes
