"""What people should look at, and their word on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from pipeline.app.web.access import Role, operator, viewer
from pipeline.app.web.problems import answers
from pipeline.app.web.review import Gone, NoSuchItem, cursor_of
from pipeline.app.web.review_labels import Wrong
from pipeline.app.web.site import Site
from pipeline.core.errors import InputError

Item = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Side = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


class Found(BaseModel):
    """One thing that is there."""

    model_config = ConfigDict(extra="forbid")
    label: str = Field(min_length=1, max_length=100, description="one that the cascade knows, or a new one")
    box: tuple[Side, Side, Side, Side] | None = Field(
        default=None, description="x1, y1, x2, y2 in pixels of the picture; none where the cascade tells no places"
    )


class Word(BaseModel):
    """A person's decision."""

    model_config = ConfigDict(extra="forbid")
    decision: Literal["confirm", "correct", "unsure"] = Field(
        description="confirm: what the models said is right, and all of it. correct: `detections` are what is there."
        " unsure: nobody can tell; it is left out of the data set"
    )
    detections: list[Found] | None = Field(default=None, max_length=500, description="with `correct` alone")
    by: str = Field(default="", max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$", description="who decides")


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/review", tags=["review"])

    @routes.get("", dependencies=[viewer], responses=answers(409, 503))
    def items(
        state: Literal["open", "done"] | None = None,
        reason: Annotated[str | None, Query(max_length=100)] = None,
        stream: Annotated[str | None, Query(max_length=100)] = None,
        after: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Newest first. `dataset` is where decisions go; `datasets` has one for each sink that gathers, and the command
        that trains with it."""
        with _told():
            found, counts = site.reviews.items(state=state, reason=reason, stream=stream)
            sets = site.reviews.datasets()
        if after is not None:
            found = [one for one in found if cursor_of(one) < after]
        page = found[:limit]
        return {
            "items": page,
            "next": cursor_of(page[-1]) if len(found) > limit else None,
            "counts": counts,
            "dataset": sets[0]["path"] if sets else None,
            "datasets": sets,
            "advice": "" if sets else _NOTHING,
        }

    @routes.get(
        "/{item}/picture",
        dependencies=[viewer],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **answers(404, 409, 503)},
    )
    def picture(item: Item) -> Response:
        """As it was judged: a part beside its reference stays so."""
        with _told():
            path = site.reviews.picture(item)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                raise Gone from None
        headers = {"Cache-Control": "private, max-age=3600"}
        return Response(data, media_type=_TYPES.get(path.suffix, "application/octet-stream"), headers=headers)

    @routes.put("/{item}", responses=answers(404, 409, 503))
    def decide(item: Item, word: Word, role: Annotated[Role, operator]) -> dict[str, Any]:
        """Durable once it is answered; the same once more changes nothing, another one replaces it."""
        there = None if word.detections is None else [one.model_dump(exclude_none=True) for one in word.detections]
        with _told():
            return site.reviews.decide(item, word.decision, there, word.by.strip() or role)

    @routes.delete("/{item}", responses=answers(404, 409, 503))
    def undo(item: Item, role: Annotated[Role, operator]) -> dict[str, Any]:
        """Takes the decision back: the item is open again."""
        with _told():
            return site.reviews.undo(item, role)

    return routes


_NOTHING = (
    "nothing gathers what is in doubt: add a sink, doubts: {kind: doubts, path: results/doubts}, or let results be"
    " written to files, and the page brings one along"
)


@contextmanager
def _told() -> Iterator[None]:
    """Mistakes as answers."""
    try:
        yield
    except NoSuchItem:
        raise HTTPException(404, "nothing of that id is in doubt; it may have made room for newer ones") from None
    except Gone:
        raise HTTPException(409, "its picture is gone: it made room for newer ones") from None
    except Wrong as error:
        place = ("body", *(int(part) if part.isdigit() else part for part in error.place.split(".")))
        raise RequestValidationError([{"loc": place, "msg": str(error), "type": "value_error"}]) from None
    except InputError as error:
        raise HTTPException(409, f"{error.place}: {error.message}") from None
    except OSError as error:
        raise HTTPException(503, f"the disk fails: {error.strerror}") from None
