"""Who may look, and who may change what runs.

A program says `Authorization: Bearer TOKEN`. A browser trades the token for a cookie (`routes/session.py`) that no
script can read and no other site's page sends along. Where the settings name no token, the server listens at the
loopback only, and whoever reaches it there may do everything; pages of other sites are kept out by `Host` and `Origin`.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Literal, TypeAlias

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from pipeline.app.config.settings import WebSettings

Role: TypeAlias = Literal["viewer", "operator"]
COOKIE = "thresher"


def role_of(settings: WebSettings, token: str | None) -> Role | None:
    """What `token` entitles to. Takes as long for a wrong one as for a right one."""
    if settings.operator is None and settings.viewer is None:
        return "operator"
    given = (token or "").encode()
    operator = hmac.compare_digest(given, (settings.operator or "").encode()) and settings.operator is not None
    viewer = hmac.compare_digest(given, (settings.viewer or "").encode()) and settings.viewer is not None
    return "operator" if operator else "viewer" if viewer else None


def token_of(request: HTTPConnection) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.cookies.get(COOKIE)


def _viewer(request: HTTPConnection) -> Role:
    role = role_of(request.app.state.site.settings, token_of(request))
    if role is None:
        raise HTTPException(401, "say who you are: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
    return role


def _operator(role: Annotated[Role, Depends(_viewer)]) -> Role:
    if role != "operator":
        raise HTTPException(403, "this token may look, and change nothing: use the operator's")
    return role


viewer = Depends(_viewer)
operator = Depends(_operator)
