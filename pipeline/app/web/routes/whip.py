"""Publishing into a stream by WHIP (RFC 9725): an offer in, an answer out, and the session's own address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from pipeline.app.web.access import entitled, unknown
from pipeline.app.web.sdp import FRAGMENT, MATCHES, OFFER, REFUSALS, invitation, matches, said, takes
from pipeline.app.web.site import Site
from pipeline.core.records import SourceState
from sources.webrtc import WebRtc
from sources.webrtc_offers import read_fragment, read_offer
from sources.webrtc_peers import Endpoint, Peer, endpoint

_OPENING_S = 3.0  # a stream whose publisher has just left is opened again
_LOOK_S = 0.05
_ANSWERS: dict[int | str, dict[str, Any]] = {
    401: {"description": "a token is needed"},
    403: {"description": "this token may look, and publish nothing"},
    404: {"description": "there is no such stream that is published into, or no such session"},
}


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/whip", tags=["publishing"])

    @routes.post(
        "/{name}",
        status_code=201,
        response_class=Response,
        responses={
            201: {"description": "the answer; Location is the session", "content": {OFFER: {}}},
            409: {"description": "somebody publishes already, and the stream's `replace` is off"},
            **_ANSWERS,
            **REFUSALS,
        },
        openapi_extra=takes(OFFER),
    )
    async def publish(name: str, request: Request) -> Response:
        """Publish into the stream `name`: picture (H.264 or VP8), and sound where the stream listens to it."""
        there = await _there(site, name, request)
        offer = read_offer(await said(request, OFFER))
        accepted = await there.publish(offer)
        headers = {"Location": f"/whip/{name}/{accepted.session}", "ETag": accepted.etag}
        response = Response(accepted.answer, 201, headers, OFFER)
        for link in _links(there.plan):
            response.headers.append("Link", link)
        return response

    @routes.options("/{name}", response_class=Response)
    async def ask(name: str) -> Response:
        """What may be posted here."""
        return invitation()

    @routes.patch(
        "/{name}/{session}",
        status_code=204,
        response_class=Response,
        responses={**MATCHES, **_ANSWERS, **REFUSALS},
        openapi_extra=takes(FRAGMENT),
    )
    async def trickle(name: str, session: str, request: Request) -> Response:
        """Further ICE candidates. A restart is answered with 422: it is not supported."""
        peer = await _session(site, name, session, request)
        ufrag, candidates, complete = read_fragment(await said(request, FRAGMENT))
        matches(request, peer.etag)
        await peer.trickle(ufrag, candidates, complete)
        return Response(status_code=204)

    @routes.delete(
        "/{name}/{session}",
        response_class=Response,
        responses=_ANSWERS,
    )
    async def leave(name: str, session: str, request: Request) -> Response:
        """The publisher leaves. The stream waits for the next one."""
        peer = await _session(site, name, session, request)
        await peer.close("the publisher left")
        return Response(status_code=200)

    return routes


async def _there(site: Site, name: str, request: Request) -> Endpoint:
    """The stream's endpoint. Nobody learns which streams there are without a token."""
    plan = _plan(site, name)
    _let_in(site, plan, request)
    if plan is None:
        known = sorted(one for one, source in site.plan.sources.items() if isinstance(source, WebRtc))
        told = f"; there is {', '.join(known)}" if known else ""
        raise HTTPException(404, f"no stream of this name is published into{told}")
    if site.running.states.get(name) is SourceState.PAUSED:
        raise HTTPException(503, "the stream is paused: resume it first", {"Retry-After": "10"})
    end_s = asyncio.get_running_loop().time() + _OPENING_S
    while (found := endpoint(name)) is None:
        if asyncio.get_running_loop().time() >= end_s:
            raise HTTPException(503, "nobody reads this stream yet", {"Retry-After": "2"})
        await asyncio.sleep(_LOOK_S)
    return found


async def _session(site: Site, name: str, session: str, request: Request) -> Peer:
    _let_in(site, _plan(site, name), request)
    found = endpoint(name)
    peer = None if found is None else found.session(session)
    if peer is None:
        raise HTTPException(404, "there is no such session, or it has ended")
    return peer


def _plan(site: Site, name: str) -> WebRtc | None:
    source = site.plan.sources.get(name)
    return source if isinstance(source, WebRtc) else None


def _let_in(site: Site, plan: WebRtc | None, request: Request) -> None:
    """Whoever has the stream's token, or the operator's. Where neither is set, whoever is at this machine."""
    own = None if plan is None else plan.token
    role = entitled(request, own)
    if role == "own" or (role == "operator" and (own is None or site.settings.operator is not None)):
        return
    if role == "viewer":
        raise HTTPException(403, "this token may look, and publish nothing: use the stream's, or the operator's")
    raise unknown()


def _links(plan: WebRtc) -> list[str]:
    """The ICE servers, as RFC 9725 says them."""
    links = []
    for one in plan.ice_servers:
        said: Mapping[str, str | None] = {"username": one.username, "credential": one.credential}
        extras = "".join(f'; {key}="{_quoted(value)}"' for key, value in said.items() if value is not None)
        kind = '; credential-type="password"' if one.credential is not None else ""
        links.append(f'<{one.url}>; rel="ice-server"{extras}{kind}')
    return links


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
