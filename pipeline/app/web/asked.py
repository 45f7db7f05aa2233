"""What requests ask by: names, labels, times, places in a list; and how they are told that it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import StringConstraints

from pipeline.app.web.store import Cursor, Store, StoreBusy, stored_time

if TYPE_CHECKING:
    from pipeline.app.web.site import Site

T = TypeVar("T")
Stream: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""A stream's name, or that of a further track of it: `door`, `door.sound`."""
Label: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def not_valid(message: str, *place: str) -> RequestValidationError:
    """As the framework itself says it of what it can check: 422, with the place (`query`, `after`)."""
    return RequestValidationError([{"type": "value_error", "loc": place, "msg": message, "input": None}])


def time_asked(when: datetime | None, name: str) -> str | None:
    """A time of the query `name`, as the store writes it; without a zone it is UTC."""
    try:
        return None if when is None else stored_time(when.replace(tzinfo=UTC) if when.tzinfo is None else when)
    except OverflowError:
        raise not_valid("lies beyond all dates", "query", name) from None


def cursor_asked(after: str | None) -> Cursor | None:
    try:
        return None if after is None else Cursor.read(after)
    except ValueError as error:
        raise not_valid(str(error), "query", "after") from None


async def ask(site: Site, question: Callable[[Store], T]) -> T:
    """What the store answers: 404 where there is none, 503 where it has no time."""
    if (store := site.store) is None:
        raise missing("results are not kept: add a sink to the config, like `sinks: {db: {kind: sqlite}}`")
    try:
        return await store.ask(lambda: question(store))
    except StoreBusy as error:
        raise HTTPException(503, str(error), {"Retry-After": "2"}) from None


def missing(what: str) -> HTTPException:
    return HTTPException(404, what)
