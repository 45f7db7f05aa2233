"""Events from the store: the list, one with its whole decision record, its picture and its clip."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse

from pipeline.app.web.access import viewer
from pipeline.app.web.asked import Label, Stream, ask, cursor_asked, missing, time_asked
from pipeline.app.web.decisions import decision_record
from pipeline.app.web.event_pictures import picture_name
from pipeline.app.web.problems import answers
from pipeline.app.web.site import Site
from pipeline.app.web.store import EventQuery, Store
from sinks.clip import Clip
from sinks.clip_folder import clip_name, is_clip
from sinks.paths import expanded

_BYTES = {"schema": {"type": "string", "format": "binary"}}
_JPEG = answers(404) | {
    200: {"content": {"image/jpeg": _BYTES}},
    304: {"description": "it is as it was (`If-None-Match`)"},
}
_FILM = answers(404) | {
    200: {"content": {"video/mp4": _BYTES, "video/quicktime": _BYTES, "video/x-matroska": _BYTES}},
    206: {"description": "the part that `Range` asks for"},
    416: {"description": "there is nothing of what `Range` asks for"},
}
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?|bytes=-\d{1,18}")
_KINDS = {"mp4": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska"}


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["events"], dependencies=[viewer])
    clips = [sink for sink in site.plan.sinks.values() if isinstance(sink, Clip)]

    def shown(event: dict[str, Any]) -> dict[str, Any]:
        """With where to find its picture and its clip."""
        shows = None if site.pictures is None else site.pictures.shows(event["event"])
        picture = None if shows is None else f"/api/event-pictures/{picture_name(event['event'])}"
        return event | {"picture": picture, "picture_shows": shows, "clip": clip(event)}

    def clip(event: dict[str, Any]) -> str | None:
        begun = datetime.fromisoformat(event["start"])
        stem = clip_name(begun, event["label"], event.get("zone", ""), event["event"])
        for sink in clips:
            for suffix in _KINDS:
                if is_clip(expanded(sink.path) / event["stream"] / f"{stem}.{suffix}"):
                    return f"/api/clips/{event['stream']}/{stem}.{suffix}"
        return None

    @routes.get("/events", responses=answers(404, 503))
    async def events(
        *,
        stream: Stream | None = None,
        label: Label | None = None,
        since: Annotated[datetime | None, Query(alias="from", description="not over before this")] = None,
        to: Annotated[datetime | None, Query(description="begun before this")] = None,
        open: bool | None = None,  # the parameter's name in the query
        after: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> dict[str, Any]:
        """Events of the store, those that began last first. `picture` is null where there is none: of sounds and
        messages nothing is kept but the verdict. `clip` is there once it is cut, where the config has a `clip` sink."""
        query = EventQuery(stream, label, time_asked(since, "from"), time_asked(to, "to"), open)
        cursor = cursor_asked(after)

        def found(store: Store) -> dict[str, Any]:
            page = store.events(query, cursor, limit)
            return {"events": [shown(one) for one in page.found], "next": page.next}

        return await ask(site, found)

    @routes.get("/events/{name:path}", responses=answers(404, 503))
    async def event(name: str) -> dict[str, Any]:
        """One by its id, and its decision record: the window that shows it best, which stage decided on that and by
        which threshold; the first hundred windows that show it; what an audit said of one of them; the rulings that
        rest on one."""

        def found(store: Store) -> dict[str, Any] | None:
            record = decision_record(store, name, site.generations.values())
            return None if record is None else record | {"event": shown(record["event"])}

        if (record := await ask(site, found)) is None:
            raise missing("there is no event with this id in the store")
        return record

    @routes.get("/event-pictures/{name}", response_class=Response, responses=_JPEG)
    def picture(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        """The picture of an event, at most 640 pixels wide, nothing drawn on it; `picture_shows` says what is where."""
        data = None if site.pictures is None else site.pictures.read(name)
        if data is None:
            raise missing("there is no such picture (any more)")
        tag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}  # an event's picture may give way to a better one
        if if_none_match == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="image/jpeg", headers=headers)

    @routes.get("/clips/{stream}/{name}", response_class=Response, responses=_FILM)
    def film(request: Request, stream: Stream, name: str) -> Response:
        """The clip of an event. Takes a `Range`."""
        _without_strange_ranges(request)
        for sink in clips:
            path = expanded(sink.path) / stream / name
            if "/" not in name and not path.parent.is_symlink() and is_clip(path):
                kind = _KINDS[path.suffix[1:]]
                return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})
        raise missing("there is no such clip (any more)")

    return routes


def _without_strange_ranges(request: Request) -> None:
    """What is no range, or several, is passed over, as HTTP allows: all of it is the answer then."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or (found[2] is not None and int(found[1]) > int(found[2])):
        request.scope["headers"] = [one for one in request.scope["headers"] if one[0] != b"range"]
