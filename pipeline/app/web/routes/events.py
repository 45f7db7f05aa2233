"""Events from the store: the list, one with its whole decision record, its picture and its clip."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import FileResponse

from pipeline.app.web.access import viewer
from pipeline.app.web.asked import Label, Stream, cursor_asked, missing, store_of, time_asked, told_when_busy
from pipeline.app.web.decisions import decision_record
from pipeline.app.web.event_pictures import picture_name
from pipeline.app.web.site import Site
from pipeline.app.web.store import EventQuery
from sinks.clip import Clip
from sinks.clip_folder import clip_name, is_clip
from sinks.paths import expanded

_ANSWERS: dict[int | str, dict[str, Any]] = {
    404: {"description": "it is not there, or the config has no sqlite sink"},
    503: {"description": "the store is busy, or the question takes too long"},
}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "it is as it was (`If-None-Match`)"},
    404: {"description": "there is none"},
}
_FILM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "the part that `Range` asks for"},
    400: {"description": "a `Range` that is none"},
    404: {"description": "there is none"},
    416: {"description": "a `Range` beyond its end"},
}
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

    @routes.get("/events", responses=_ANSWERS)
    def events(
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
        with told_when_busy():
            page = store_of(site).events(query, cursor_asked(after), limit)
        return {"events": [shown(one) for one in page.found], "next": page.next}

    @routes.get("/events/{name:path}", responses=_ANSWERS)
    def event(name: str) -> dict[str, Any]:
        """One by its id, and its decision record: the window that shows it best, which stage decided on that and by
        which threshold; the first hundred windows that show it; what an audit said of one of them; the rulings that
        rest on one."""
        with told_when_busy():
            found = decision_record(store_of(site), name, site.generations.values())
        if found is None:
            raise missing("there is no event with this id in the store")
        return found | {"event": shown(found["event"])}

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
    def film(stream: Stream, name: str) -> Response:
        """The clip of an event. Takes `Range`."""
        for sink in clips:
            path = expanded(sink.path) / stream / name
            if "/" not in name and not path.parent.is_symlink() and is_clip(path):
                kind = _KINDS[path.suffix[1:]]
                return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})
        raise missing("there is no such clip (any more)")

    return routes
