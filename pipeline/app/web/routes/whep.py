"""WebRTC out by WHEP: an offer is posted, the answer comes back, and the session is a resource of its own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request, Response

from pipeline.app.web.access import viewer
from pipeline.app.web.drawing import View
from pipeline.app.web.pictured import pictured
from pipeline.app.web.site import Site
from pipeline.app.web.whep import Refused, Watcher
from pipeline.core.errors import MissingPart

_SDP = "application/sdp"
_FRAGMENT = "application/trickle-ice-sdpfrag"
_MOST = 64 << 10
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "malformed"},
    404: {"description": "no such stream or session, or it has no pictures"},
    413: {"description": "too long"},
    415: {"description": "not the media type that is expected"},
    422: {"description": "nothing in it that could be sent"},
}


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/whep", tags=["watch"], dependencies=[viewer])

    @routes.post(
        "/{name}",
        status_code=201,
        response_class=Response,
        responses={**_PROBLEMS, 201: {"content": {_SDP: {}}}, 503: {"description": "too many watch, or a part lacks"}},
        openapi_extra={"requestBody": {"required": True, "content": {_SDP: {"schema": {"type": "string"}}}}},
    )
    async def watch(name: str, request: Request, view: View = "raw") -> Response:
        """Watch a stream: SDP offer in, SDP answer out. A data channel `detections` of the offer gets what was found in
        each picture, with the RTP time stamp that the picture has in the browser."""
        pictured(site, name)
        offer = await _body(request, _SDP)
        try:
            watcher, answer = await site.whep.join(name, view, offer)
        except Refused as refused:
            raise _told(refused) from None
        except MissingPart as error:
            raise HTTPException(503, error.message) from None
        headers = {"Location": f"/whep/{name}/{watcher.id}", "ETag": watcher.tag, "Accept-Patch": _FRAGMENT}
        return Response(answer, 201, headers, _SDP)

    @routes.patch(
        "/{name}/{session}",
        status_code=204,
        response_class=Response,
        responses={**_PROBLEMS, 412: {"description": "of another state"}, 428: {"description": "If-Match is missing"}},
        openapi_extra={"requestBody": {"required": True, "content": {_FRAGMENT: {"schema": {"type": "string"}}}}},
    )
    async def trickle(
        name: str, session: str, request: Request, if_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """Further ICE candidates. ICE is not restarted: make a new session instead."""
        watcher = _watcher(name, session)
        if if_match is None:
            raise HTTPException(428, "say If-Match with the ETag of the answer")
        if if_match not in {watcher.tag, "*"}:
            raise HTTPException(412, "the session is another by now: its ETag does not match")
        fragment = await _body(request, _FRAGMENT)
        if "a=ice-ufrag" in fragment and not watcher.knows(fragment):
            raise HTTPException(422, "ICE is not restarted here: post a new offer")
        try:
            await watcher.trickle(fragment)
        except Refused as refused:
            raise _told(refused) from None
        return Response(status_code=204, headers={"ETag": watcher.tag})

    @routes.delete("/{name}/{session}", responses={404: _PROBLEMS[404]})
    async def leave(name: str, session: str) -> Response:
        """Watch no longer."""
        await _watcher(name, session).close()
        return Response(status_code=200)

    def _watcher(name: str, session: str) -> Watcher:
        try:
            return site.whep.watcher(name, session)
        except Refused as refused:
            raise _told(refused) from None

    return routes


def _told(refused: Refused) -> HTTPException:
    return HTTPException(refused.status, refused.reason, {"Retry-After": "5"} if refused.status == 503 else None)


async def _body(request: Request, media_type: str) -> str:
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said != media_type:
        raise HTTPException(415, f"send it as Content-Type: {media_type}")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST:
            raise HTTPException(413, f"more than {_MOST >> 10} KiB: an offer has a few")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "this is no text in UTF-8") from None
