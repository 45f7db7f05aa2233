"""Watching a stream by WHEP: an offer in, an answer out, and the session's own address."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response

from pipeline.app.web.access import viewer
from pipeline.app.web.drawing import View
from pipeline.app.web.pictured import pictured
from pipeline.app.web.problems import answers
from pipeline.app.web.sdp import FRAGMENT, MATCHES, OFFER, REFUSALS, invitation, matches, said, takes
from pipeline.app.web.site import Site
from pipeline.app.web.whep import Watcher
from pipeline.core.errors import MissingPart
from sources.webrtc_offers import read_fragment, read_offer


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/whep", tags=["watching"], dependencies=[viewer])

    @routes.post(
        "/{name}",
        status_code=201,
        response_class=Response,
        responses={
            201: {"description": "the answer; Location is the session", "content": {OFFER: {}}},
            **answers(404),
            **REFUSALS,
        },
        openapi_extra=takes(OFFER),
    )
    async def watch(name: str, request: Request, view: View = "raw") -> Response:
        """Watch the stream `name` (H.264 or VP8). A data channel `detections` of the offer gets what was found in each
        picture as JSON, with `rtp`, the RTP time stamp that the picture has where it is shown."""
        pictured(site, name)
        offer = read_offer(await said(request, OFFER), watches=True)
        try:
            watcher, answer = await site.whep.join(name, view, offer)
        except MissingPart as error:
            raise HTTPException(503, error.message) from None
        headers = {"Location": f"/whep/{name}/{watcher.id}", "ETag": watcher.etag, "Accept-Patch": FRAGMENT}
        return Response(answer, 201, headers, OFFER)

    @routes.options("/{name}", response_class=Response)
    async def ask(name: str) -> Response:
        """What may be posted here."""
        return invitation()

    @routes.patch(
        "/{name}/{session}",
        status_code=204,
        response_class=Response,
        responses={**answers(404), **MATCHES, **REFUSALS},
        openapi_extra=takes(FRAGMENT),
    )
    async def trickle(name: str, session: str, request: Request) -> Response:
        """Further ICE candidates. A restart is answered with 422: it is not supported."""
        watcher = _session(name, session)
        ufrag, candidates, complete = read_fragment(await said(request, FRAGMENT))
        matches(request, watcher.etag)
        await watcher.trickle(ufrag, candidates, complete)
        return Response(status_code=204)

    @routes.delete("/{name}/{session}", response_class=Response, responses=answers(404))
    async def leave(name: str, session: str) -> Response:
        """Watch no longer."""
        await _session(name, session).close()
        return Response(status_code=200)

    def _session(name: str, session: str) -> Watcher:
        watcher = site.whep.watcher(name, session)
        if watcher is None:
            raise HTTPException(404, "there is no such session, or it has ended")
        return watcher

    return routes
