"""A browser's session: a token for a cookie."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, SecretStr, StringConstraints

from pipeline.app.web.access import Role, cookie_name, entitled, role_of, unknown
from pipeline.app.web.sessions import LONGEST_S
from pipeline.app.web.site import Site


class Login(BaseModel):
    """Who wants to look, or to change something."""

    token: Annotated[SecretStr, StringConstraints(min_length=1, max_length=512)]


class Who(BaseModel):
    """What whoever asks may do, and whether a token is needed here at all."""

    role: Role | None
    needed: bool


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/session", tags=["session"])
    needed = site.settings.guarded

    @routes.get("")
    async def who(request: Request) -> Who:
        """What this browser or token may do. Asks for no token: the page has to know whether to ask for one."""
        role = entitled(request)
        return Who(role=None if role == "own" else role, needed=needed)

    @routes.post("")
    async def begin(login: Login, request: Request, response: Response) -> Who:
        """A token for a cookie, which no script can read. It ends twelve hours after its last use, with `DELETE`, and
        with the program."""
        if not needed:
            return Who(role="operator", needed=False)
        site.access.may_guess(request)
        role = role_of(site.settings, login.token.get_secret_value())
        if role is None:
            site.access.guessed_wrong(request)
            raise unknown()
        response.set_cookie(
            cookie_name(request),
            site.access.sessions.begin(role),
            max_age=LONGEST_S,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return Who(role=role, needed=True)

    @routes.delete("", status_code=204)
    async def end(request: Request, response: Response) -> None:
        """Ends it, here and in the browser. Whoever has none has lost nothing."""
        name = cookie_name(request)
        site.access.sessions.end(request.cookies.get(name, ""))
        secure = request.url.scheme == "https"
        response.delete_cookie(name, secure=secure, httponly=True, samesite="strict")

    return routes
