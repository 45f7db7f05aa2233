"""What happens, as it happens: server-sent events, and the same over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Depends, Header, HTTPException, Query, WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipeline.app.web.access import viewer
from pipeline.app.web.asked import Label, Stream, not_valid
from pipeline.app.web.broadcast import MOST, Broadcast, Form, Full, Listener, place_of
from pipeline.app.web.connections import break_off, is_gone
from pipeline.app.web.feed import KINDS, Filter
from pipeline.app.web.problems import answers
from pipeline.app.web.site import Site

STALL_S = 10.0
"""Whoever reads nothing of what waits for it for so long is cut off."""
_FAREWELL_S = 0.5
_End: TypeAlias = Literal["over", "gone", "stalled"]
_ALL = (*KINDS, "snapshot")
_DESCRIPTION = (
    "`event: result`, `event`, `audit`, `ruling` and `outage` with the documents that the JSONL sink writes, `snapshot`"
    " once a second. An `id` names its place: reconnecting with it (`Last-Event-ID`, or `after`) goes on behind it,"
    " with nothing twice. `event: gap` with `gone` comes first where something behind it is no longer remembered (null:"
    " nobody knows how much, for the id is of another run); `/api/results` and `/api/events` have it. A lone `id` is a"
    " heartbeat."
)


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["feed"])

    def listener(form: Form, wanted: _Wanted) -> Listener:
        try:
            place, lost = place_of(site.feed, wanted.after)
        except ValueError as error:
            raise not_valid(str(error), "query", "after") from None
        return Listener(wanted.filter, form, place, snapshots="snapshot" in wanted.kinds, lost=lost)

    @routes.get(
        "/feed",
        dependencies=[viewer],
        response_class=Response,
        responses={
            200: {"description": _DESCRIPTION, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **answers(503),
        },
    )
    async def events(wanted: Annotated[_Wanted, Depends()]) -> Response:
        """Server-sent events, for `EventSource` and `curl -N`."""
        return _EventStream(site.broadcast, listener("sse", wanted))

    @routes.websocket("/feed/ws", dependencies=[viewer])
    async def messages(websocket: WebSocket, wanted: Annotated[_Wanted, Depends()], batch: bool = False) -> None:
        """The same as texts `{"id": …, "kind": …, "data": …}`; with `batch`, in arrays."""
        told = listener("batches" if batch else "messages", wanted)
        try:
            with site.broadcast.listen(told):
                await websocket.accept()
                await _converse(site.broadcast, told, websocket)
        except Full:
            raise _full() from None

    return routes


class _Wanted:
    """The query: what to tell, and from where on."""

    def __init__(
        self,
        *,
        kinds: Annotated[
            str | None, Query(max_length=200, description=f"any of {', '.join(_ALL)}, with commas; default: all")
        ] = None,
        stream: Annotated[list[Stream] | None, Query(description="only of this stream; may be given again")] = None,
        label: Annotated[list[Label] | None, Query(description="only what tells of it; may be given again")] = None,
        flagged: Annotated[bool | None, Query(description="of results, those that are flagged, or are not")] = None,
        after: Annotated[
            str | None, Query(max_length=40, description="go on behind this id; 0: all that is remembered")
        ] = None,
        last_event_id: Annotated[str | None, Header(description="the same, as browsers send it")] = None,
    ) -> None:
        self.kinds = frozenset(_ALL if kinds is None else kinds.split(","))
        if unknown := self.kinds.difference(_ALL):
            raise not_valid(f'there is no kind "{min(unknown)}": choose from {", ".join(_ALL)}', "query", "kinds")
        self.filter = Filter(self.kinds.intersection(KINDS), frozenset(stream or ()), frozenset(label or ()), flagged)
        self.after = last_event_id or after


class _EventStream(Response):
    """Ends with the connection, or breaks it off."""

    def __init__(self, broadcast: Broadcast, listener: Listener) -> None:
        super().__init__()
        self._broadcast, self._listener = broadcast, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._broadcast.listen(self._listener):
                await self._serve(scope, receive, send)
        except Full:
            raise _full() from None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        headers.append((b"x-accel-buffering", b"no"))  # a proxy before us is to hold nothing back
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        connection = HTTPConnection(scope)

        async def tell(part: bytes) -> None:
            _check(connection)
            await send({"type": "http.response.body", "body": part, "more_body": True})

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        end = await _until(self._broadcast, _tell_all(self._broadcast, self._listener, tell), leave())
        if end == "over":
            await send({"type": "http.response.body", "body": b""})
            return
        if end == "stalled":
            self._broadcast.cut_off += 1
            break_off(connection)
        with suppress(TimeoutError):  # the server has to hear of it before this response may end unfinished
            async with asyncio.timeout(1):
                await leave()


async def _converse(broadcast: Broadcast, listener: Listener, websocket: WebSocket) -> None:
    async def tell(part: bytes) -> None:
        _check(websocket)
        await websocket.send({"type": "websocket.send", "text": part.decode()})

    async def leave() -> None:
        while (await websocket.receive())[
            "type"
        ] != "websocket.disconnect":  # whatever it says: there is nothing to say
            pass

    end = await _until(broadcast, _tell_all(broadcast, listener, tell), leave())
    if end == "stalled":
        broadcast.cut_off += 1
        break_off(websocket)
    elif end == "over":
        with suppress(WebSocketDisconnect):
            await websocket.close(1001)  # we go away


def _check(connection: HTTPConnection) -> None:
    if is_gone(connection):
        raise ConnectionResetError


async def _tell_all(broadcast: Broadcast, listener: Listener, tell: Callable[[bytes], Awaitable[None]]) -> None:
    """Until the server closes. Raises `TimeoutError` where the client takes nothing for `STALL_S`."""
    parts: tuple[bytes, ...] = () if listener.lost else (broadcast.heartbeat(listener),)  # where it begins
    while True:
        async with asyncio.timeout(STALL_S):
            for part in parts:
                await tell(part)
        if await broadcast.wait(listener):
            await asyncio.sleep(0)  # whoever has much to catch up with holds nobody else up
            parts = broadcast.pull(listener)
        elif broadcast.closing:
            return
        else:
            parts = (broadcast.heartbeat(listener),)


async def _until(broadcast: Broadcast, telling: Coroutine[Any, Any, None], leaving: Coroutine[Any, Any, None]) -> _End:
    """Until all is told, or there is nobody any more who would hear it, or it stalls: for too long, or for a moment
    where the server closes."""

    async def closing() -> None:
        await broadcast.closed.wait()
        await asyncio.sleep(_FAREWELL_S)

    told, left, closed = tasks = [asyncio.ensure_future(one) for one in (telling, leaving, closing())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            await told
            return "over"
        return "gone" if left.done() or not closed.done() else "stalled"
    except TimeoutError:
        return "stalled"
    except (WebSocketDisconnect, OSError):
        return "gone"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _full() -> HTTPException:
    return HTTPException(503, f"{MOST} listen already: come again later", {"Retry-After": "10"})
