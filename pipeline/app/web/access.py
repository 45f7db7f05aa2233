"""Who may look, and who may change what runs.

A program says `Authorization: Bearer TOKEN`. A browser trades the token for a cookie (`routes/session.py`) that no
script can read and no other site's page sends along. Where the settings name no token, the server listens at the
loopback only, and whoever reaches it there may do everything; pages of other sites are kept out by `guards.py`.

What is here runs on the network loop, so that a request needs no thread to be let in or turned away.
"""

from __future__ import annotations

import hmac
import math
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, cast

from fastapi import Depends, HTTPException
from fastapi.requests import HTTPConnection

from pipeline.app.config.settings import WebSettings
from pipeline.app.web.allowance import Allowance, neighbour
from pipeline.app.web.sessions import Sessions

if TYPE_CHECKING:
    from pipeline.app.web.site import Site

Role: TypeAlias = Literal["viewer", "operator"]
_GUESSES, _GUESSES_PER_S = 10, 0.1  # wrong tokens from one address


class Access:
    """What is remembered of those who asked: the sessions of browsers, and how often an address was wrong."""

    def __init__(self) -> None:
        self.sessions: Sessions[Role] = Sessions()
        self._guesses = Allowance(_GUESSES, _GUESSES_PER_S)

    def may_guess(self, connection: HTTPConnection) -> None:
        """Raises 429 for an address that was wrong too often. Asked before a token is looked at, so that nobody
        learns from the answer whether it was right."""
        if (wait_s := self._guesses.wait_s(_address(connection))) > 0:
            raise HTTPException(429, "too many wrong tokens from there", {"Retry-After": str(math.ceil(wait_s))})

    def guessed_wrong(self, connection: HTTPConnection) -> None:
        self._guesses.take(_address(connection))


def role_of(settings: WebSettings, token: str | None) -> Role | None:
    """What `token` entitles to. Takes as long for a wrong one as for a right one."""
    if not settings.guarded:
        return "operator"
    operator, viewer = same(token, settings.operator), same(token, settings.viewer)
    return "operator" if operator else "viewer" if viewer else None


def same(given: str | None, token: str | None) -> bool:
    """Whether they are the same, and there is one; compared in constant time."""
    said, known = ((one or "").encode("utf-8", "surrogatepass") for one in (given, token))  # JSON may hold half a sign
    return hmac.compare_digest(said, known) and token is not None


def token_of(connection: HTTPConnection) -> str | None:
    """The token that was sent along, or the one that the cookie was given for."""
    if (token := bearer_of(connection)) is not None:
        return token
    site = site_of(connection)
    name = connection.cookies.get(cookie_name(connection))
    role = site.access.sessions.role(name) if name else None
    return None if role is None else site.settings.operator if role == "operator" else site.settings.viewer


def bearer_of(connection: HTTPConnection) -> str | None:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def entitled(connection: HTTPConnection, own: str | None = None) -> Role | Literal["own"] | None:
    """The role of whoever asks, `own` for the holder of that one thing's own token (a stream to publish to), None for
    nobody in particular. Raises 429 for an address that guesses, and counts its wrong tokens."""
    settings, access = site_of(connection).settings, site_of(connection).access
    guesses = bearer_of(connection) is not None and (settings.guarded or own is not None)
    if guesses:
        access.may_guess(connection)
    token = token_of(connection)
    if same(token, own):
        return "own"
    role = role_of(settings, token)
    if guesses and (role is None or not settings.guarded):
        access.guessed_wrong(connection)
    return role


def site_of(connection: HTTPConnection) -> Site:
    return cast("Site", connection.app.state.site)


def cookie_name(connection: HTTPConnection) -> str:
    """Cookies know no ports: another server on this machine would overwrite one of the same name."""
    server = connection.scope.get("server")
    return f"thresher-{server[1]}" if server and server[1] else "thresher"


def unknown() -> HTTPException:
    return HTTPException(401, "say who you are: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


def _address(connection: HTTPConnection) -> str:
    return neighbour(connection.client.host if connection.client else None)


async def _viewer(connection: HTTPConnection) -> Role:
    role = entitled(connection)
    if role is None or role == "own":
        raise unknown()
    return role


async def _operator(role: Annotated[Role, Depends(_viewer)]) -> Role:
    if role != "operator":
        raise HTTPException(403, "this token may look, and change nothing: use the operator's")
    return role


viewer = Depends(_viewer)
operator = Depends(_operator)
