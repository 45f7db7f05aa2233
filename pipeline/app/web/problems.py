"""One shape for everything that goes wrong: what to do, and where the mistakes are.

{"detail": "what to do", "errors": [{"place": "sources.dock.url", "message": "…"}]}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pipeline.core.errors import InputError, InputErrors, ThresherError
from pipeline.core.secrets import redact


class Mistake(BaseModel):
    """One of several, and where it is."""

    place: str
    message: str


class Problem(BaseModel):
    """Why a request was not served, and what to do; `errors` where there are places to name."""

    detail: str
    errors: list[Mistake] = []


_MEANINGS = {
    400: "this is no request that can be read",
    401: "nobody said who asks, or a wrong token did",
    403: "whoever asks may not do this, or a page of another site asked",
    404: "there is no such thing",
    406: "it is not to be had in that form",
    408: "the body came too slowly",
    409: "it exists already, or something is in its way",
    410: "it was there, and is no more",
    412: "it is not in the state that the request relies on",
    413: "the body is too large",
    414: "the address is too long",
    415: "a body of this type is not read",
    422: "it does not validate; nothing was changed",
    428: "the request has to say what state it relies on",
    429: "too much at once: again after `Retry-After` seconds",
    431: "the headers are too long",
    501: "a part that it needs is not installed",
    503: "not now",
}
_ANYWHERE = (400, 401, 403, 408, 413, 414, 415, 422, 429, 431)
"""What the guards and the reading of a request may answer, whatever was asked for."""


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses=`: the problems that it answers with."""
    return {status: {"model": Problem, "description": _MEANINGS[status]} for status in statuses}


def anywhere() -> dict[int | str, dict[str, Any]]:
    """The problems of every route."""
    return answers(*_ANYWHERE)


def problem(
    status: int, detail: str, errors: Sequence[InputError] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer. No secret is in it."""
    said: dict[str, Any] = {"detail": redact(detail)}
    if errors:
        said["errors"] = [{"place": redact(one.place), "message": redact(one.message)} for one in errors]
    return JSONResponse(said, status, headers)


def handle_problems(app: FastAPI) -> None:
    """Whatever a route raises on purpose is answered in that shape."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(InputError, _input)
    app.add_exception_handler(ThresherError, _failed)


async def _http(asked: HTTPConnection, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {asked.url.path[:200]}"
    elif error.status_code == 405:
        known = headers.get("Allow") or headers.get("allow")
        detail = f"{asked.scope.get('method')} means nothing here" + (f": {known} does" if known else "")
    return problem(error.status_code, detail, headers=headers)


async def _invalid(asked: HTTPConnection, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = cast(Sequence[dict[str, Any]], error.errors())
    if any(one["type"] == "json_invalid" for one in found):
        return problem(400, "the body is no JSON")
    told = [InputError(_told(one), _place(one["loc"])) for one in found]
    return problem(422, "; ".join(str(one) for one in told)[:1000], told)


def _place(loc: Sequence[int | str]) -> str:
    """Pydantic puts `body`, `query` or `path` in front of what the person wrote."""
    return ".".join(str(part) for part in (loc[1:] if len(loc) > 1 else loc))


def _told(one: Mapping[str, Any]) -> str:
    if one["type"] == "missing":
        return "is needed"
    if one["type"] == "extra_forbidden":
        return "there is no such key"
    message = str(one["msg"]).removeprefix("Value error, ")
    for word in ("Input should ", "String should "):
        if message.startswith(word):
            return "should " + message.removeprefix(word)
    return message


async def _input(asked: HTTPConnection, error: Exception) -> JSONResponse:
    assert isinstance(error, InputError)
    errors = error.errors if isinstance(error, InputErrors) else [error]
    return problem(422, str(error), [one for one in errors if one.place])


async def _failed(asked: HTTPConnection, error: Exception) -> JSONResponse:
    return problem(503, str(error))
