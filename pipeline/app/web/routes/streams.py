"""The streams: seen, added, changed, paused and removed while the rest runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from fastapi import APIRouter, HTTPException, Path, Response
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from pipeline.app.control import AlreadyThere, Busy, Control, InTheWay, NotThere
from pipeline.app.web.access import operator, viewer
from pipeline.app.web.admission import HttpAdmission
from pipeline.app.web.documents import without_buckets
from pipeline.app.web.problems import answers
from pipeline.app.web.site import Site
from pipeline.core import snapshot
from pipeline.core.media import Medium
from pipeline.core.records import SourceState
from pipeline.core.settings import Name
from pipeline.core.snapshot import StreamSnapshot

StreamName = Annotated[str, Path(max_length=130, description="as it is listed")]


class _Head(BaseModel):
    """A stream with its settings and its figures: both ledgers hold in each answer."""

    name: str
    kind: str = Field(description="what its source is")
    medium: Medium
    live: bool = Field(description="it arrives when it likes, and begins anew when it is resumed")
    paused: bool
    track_of: str | None = Field(description="the stream whose track it is: that one can be changed")
    whip: str | None = Field(description="where it is published, if it is")
    settings: dict[str, Any] = Field(description="its section of the config; secrets are not shown")


_FIGURES: dict[str, Any] = {
    one.name: (_kind, ...)
    for one in fields(StreamSnapshot)
    if (_kind := get_type_hints(StreamSnapshot, vars(snapshot))[one.name])
}
StreamView = create_model("StreamView", __base__=_Head, **_FIGURES)


class Streams(BaseModel):
    streams: list[StreamView]  # type: ignore[valid-type]  # made from the engine's own words


class _Kind(BaseModel):
    """`type` is another word for `kind`."""

    model_config = ConfigDict(extra="allow")
    kind: str | None = Field(default=None, max_length=100, description="what its source is, like rtsp; see /api/kinds")
    type: str | None = Field(default=None, max_length=100, description="another word for `kind`")

    @model_validator(mode="after")
    def _agrees(self) -> _Kind:
        if self.kind is not None and self.type is not None and self.kind != self.type:
            raise ValueError("`kind` and `type` are two words for one thing: give one of them")
        return self

    @property
    def section(self) -> dict[str, Any]:
        kind = self.kind or self.type
        return {**({} if kind is None else {"kind": kind}), **(self.model_extra or {})}


class NewStream(_Kind):
    """A stream as a config would say it: its name, its kind, and the settings of that kind."""

    name: Name
    paused: bool = Field(default=False, description="add it, and open it later")


class Change(_Kind):
    """A merge patch (RFC 7396) of its settings: null takes one away."""

    paused: bool | None = Field(default=None, description="close its source, or open it again")


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/streams", tags=["streams"])
    admission = HttpAdmission(site.settings)

    @routes.get("", dependencies=[viewer])
    def streams() -> Streams:
        """All of them."""
        return Streams(streams=list(_views(site.control)))

    @routes.post(
        "",
        response_model=StreamView,
        status_code=201,
        dependencies=[operator],
        responses=answers(409, 503),
    )
    def add(new: NewStream, response: Response) -> Any:
        """Its models are loaded and warmed before it begins; the others notice nothing."""
        with _answered():
            site.control.add(new.name, new.section, paused=new.paused, admission=admission)
        response.headers["Location"] = f"/api/streams/{new.name}"
        return _view(site.control, new.name)

    @routes.get("/{name}", response_model=StreamView, dependencies=[viewer], responses=answers(404))
    def stream(name: StreamName) -> Any:
        return _view(site.control, name)

    @routes.patch("/{name}", response_model=StreamView, dependencies=[operator], responses=answers(404, 409, 503))
    def change(name: StreamName, patch: Change) -> Any:
        """All of it is checked before anything is touched. A stream that goes on goes on with its ids."""
        with _answered():
            site.control.change(name, patch.section, paused=patch.paused, admission=admission)
        return _view(site.control, name)

    @routes.delete("/{name}", status_code=204, dependencies=[operator], responses=answers(404, 409, 503))
    def remove(name: StreamName) -> None:
        """What is inside is finished or shed, and told of; its open events end."""
        with _answered():
            site.control.remove(name)

    return routes


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except NotThere as error:
        raise HTTPException(404, error.message) from None
    except (AlreadyThere, InTheWay) as error:
        raise HTTPException(409, error.message) from None
    except Busy as error:
        raise HTTPException(503, str(error), {"Retry-After": "5"}) from None


def _view(control: Control, name: str) -> Any:
    found = next((one for one in _views(control) if one.name == name), None)
    if found is None:
        raise HTTPException(404, "there is no such stream")
    return found


def _views(control: Control) -> Iterator[Any]:
    plan, figures = control.plan, {one.stream: one for one in control.running.snapshot().streams}
    sections: Mapping[str, Any] = control.config.get("sources") or {}
    for name in (*plan.sources, *plan.tracks):
        of, *track = plan.tracks.get(name, (name,))
        source, one = plan.sources[of], figures.get(name)
        if one is None or of not in sections:
            continue  # it comes or goes in this very moment
        settings = sections[of].get(track[0]) if track else sections[of]
        yield StreamView(
            name=name,
            kind=sections[of].get("kind", ""),
            medium="sound" if track else source.medium,
            live=source.live,
            paused=one.state is SourceState.PAUSED,
            track_of=of if track else None,
            whip=f"/whip/{name}" if source.published and not track else None,
            settings=settings or {},
            **without_buckets(one),
        )
