"""Pictures for what speaks no WebRTC: the latest one as a JPEG, and all of them one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from pipeline.app.web.access import viewer
from pipeline.app.web.connections import break_off
from pipeline.app.web.pictured import is_there, pictured
from pipeline.app.web.problems import answers
from pipeline.app.web.site import Site
from pipeline.app.web.stills import Viewing
from pipeline.core.errors import MissingPart

_PATIENCE_S: Final = 2.0
_LOOK_S: Final = 1.0
_STUCK_S: Final = 15.0
_MOST_CLIENTS: Final = 32
_PART: Final = "thresher"
_FRESH: Final = {"Cache-Control": "no-store"}


class _Bounded(StreamingResponse):
    """Whoever takes nothing for a while is put out. `over` is called at the end, also where nothing was ever sent."""

    def __init__(
        self, parts: AsyncGenerator[bytes], request: Request, over: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(parts, **options)
        self._parts, self._request, self._over = parts, request, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            await asyncio.wait_for(send(message), _STUCK_S)

        async with aclosing(self._parts):
            try:
                await super().stream_response(bounded)
            except TimeoutError:
                break_off(self._request)
                await asyncio.sleep(0)  # until it is known to be gone


Width = Annotated[int, Query(ge=16, le=3840, description="in pixels; no side of the picture is longer")]


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/streams", tags=["watch"], dependencies=[viewer])
    clients: set[Viewing] = set()

    @routes.get(
        "/{name}/picture.jpg",
        response_class=Response,
        responses={
            **answers(404, 503),
            200: {"content": {"image/jpeg": {}}},
            304: {"description": "it is still the picture with this ETag"},
        },
    )
    async def picture(
        name: str, annotated: bool = True, width: Width = 1280, if_none_match: Annotated[str | None, Header()] = None
    ) -> Response:
        """The latest picture. Waits up to two seconds for the first one."""
        pictured(site, name)
        shot = site.gallery.latest(name)
        if shot is None:
            viewing = Viewing(site.gallery, name)
            try:
                shot = await viewing.next(_PATIENCE_S)
            finally:
                viewing.close()
        if shot is None:
            raise HTTPException(503, f"no picture of {name} has come yet: {_state(name)}", {"Retry-After": "2"})
        window = shot.outcome.window
        headers = {**_FRESH, "ETag": f'"{window.epoch}-{window.seq}-{int(annotated)}-{width}"'}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        try:
            body = await site.stills.jpeg(shot, annotated=annotated, longest=width)
        except MissingPart as error:
            raise HTTPException(503, error.message) from None
        return Response(body, headers=headers, media_type="image/jpeg")

    @routes.get(
        "/{name}/mjpeg",
        response_class=StreamingResponse,
        responses={
            **answers(404, 503),
            200: {"content": {"multipart/x-mixed-replace": {}}},
        },
    )
    async def mjpeg(name: str, request: Request, annotated: bool = True, width: Width = 1280) -> StreamingResponse:
        """Pictures as they come, until the stream is no more. Who reads slowly gets fewer, and always the latest."""
        pictured(site, name)
        if len(clients) >= _MOST_CLIENTS:
            raise HTTPException(503, f"{_MOST_CLIENTS} watch already: try again later", {"Retry-After": "5"})
        try:
            if annotated:
                site.stills.can_draw()
        except MissingPart as error:
            raise HTTPException(503, error.message) from None
        kind = f"multipart/x-mixed-replace; boundary={_PART}"
        viewing = Viewing(site.gallery, name)
        clients.add(viewing)  # at once: others ask before the first part is made

        def over() -> None:
            viewing.close()
            clients.discard(viewing)

        pieces = parts(viewing, name, annotated, width)
        return _Bounded(pieces, request, over, headers=_FRESH, media_type=kind)

    async def parts(viewing: Viewing, name: str, annotated: bool, width: int) -> AsyncGenerator[bytes]:
        while is_there(site, name):
            shot = await viewing.next(_LOOK_S)
            if shot is None:
                continue
            body = await site.stills.jpeg(shot, annotated=annotated, longest=width)
            head = f"--{_PART}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            yield head.encode() + body + b"\r\n"
        yield f"--{_PART}--\r\n".encode()

    def _state(name: str) -> str:
        return f"it is {site.running.states[name].value}"

    return routes
