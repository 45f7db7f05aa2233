"""How WHIP and WHEP say things over HTTP: the bodies they take, and how they refuse."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request, Response

from pipeline.app.web.problems import answers, problem
from sources.webrtc_offers import LARGEST, Refused

OFFER, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
REFUSALS = answers(400, 413, 415, 422, 503)
MATCHES = answers(412, 428)


def takes(kind: str) -> dict[str, Any]:
    """What the interface's document says of a body of that type."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": {"type": "string"}}}}}


async def said(request: Request, kind: str) -> bytes:
    """The body, no longer than it may be. Raises `Refused`."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != kind:
        raise Refused(415, f"send it as Content-Type: {kind}")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise Refused(413, f"at most {LARGEST} bytes are read")
    return body


def invitation() -> Response:
    """What may be posted there. Web pages of other origins may not, but those that the settings name (no CORS)."""
    return Response(status_code=200, headers={"Accept-Post": OFFER, "Allow": "OPTIONS, POST"})


def matches(request: Request, etag: str) -> None:
    """Raises 428 or 412 where the request is not about the ICE session with this ETag."""
    match = request.headers.get("if-match")
    if match is None:
        raise HTTPException(428, "say which ICE session is meant: If-Match, with the ETag of the answer")
    if match.strip() not in {etag, "*", '"*"'}:
        raise HTTPException(412, "this session has another ETag")


def refused(_request: Request, error: Exception) -> Response:
    """How `Refused` is answered."""
    assert isinstance(error, Refused)
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return problem(error.status, error.message, headers=headers)
