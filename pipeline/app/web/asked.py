"""What requests ask by: names, labels, times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from pydantic import StringConstraints

Stream: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
"""A stream's name, or that of a further track of it: `door`, `door.sound`."""
Label: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def not_valid(message: str, *place: str) -> RequestValidationError:
    """As the framework itself says it of what it can check: 422, with the place (`query`, `after`)."""
    return RequestValidationError([{"type": "value_error", "loc": place, "msg": message, "input": None}])


def stored_time(when: datetime, name: str) -> str:
    """`when` as the store writes times; without a zone it is UTC."""
    try:
        utc = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:
        raise not_valid("is out of the range of dates", "query", name) from None
    return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def missing(what: str) -> HTTPException:
    return HTTPException(404, what)
