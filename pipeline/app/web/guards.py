"""What stands before every route: is this a request, is it for us, did a page of ours send it, and is it not too much?

Pure ASGI: nothing that streams is held up here. What a single connection may do before there is a request is in
`connections.py`, who may do what in `access.py`.

- A page of another site cannot read us (no CORS), but it could make a browser ask: by a name of its own that leads to
  this machine (DNS rebinding, so `Host` is checked), or by a form or a socket (so `Sec-Fetch-Site` and `Origin` are).
- Bodies have a size and a time.
- Nothing that a route did not mean to say reaches whoever asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
import secrets
import socket
import time

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.utils import ClientDisconnected

from pipeline.app.config.settings import WebSettings
from pipeline.app.web.allowance import Allowance, neighbour
from pipeline.app.web.problems import problem
from pipeline.core.secrets import redact

log = logging.getLogger(__name__)

_LARGEST_BODY = 64 << 10
_BODY_S = 10.0
_LONGEST_URL = 8 << 10
_LARGEST_HEAD = 32 << 10
_BURST_S = 3.0
_LINGER_S, _LINGER_BYTES = 1.0, 1 << 20
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SHARED = ("/whip/", "/whep/")  # what pages of other sites may be let into
_DATA = ("/api", "/metrics", "/openapi.json", *_SHARED)
_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:\[\]/?#@]+)(?::\d{1,5})?")
_STRANGE = re.compile(r"[\x00-\x1f\x7f\\]|//|/\.{1,2}(?:/|$)")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; media-src 'self' blob:; font-src 'self'; manifest-src 'self'; frame-ancestors 'none';"
    " base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self),"
    " geolocation=(), payment=(), usb=(), serial=()",
}


class Guard:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._shared = CORSMiddleware(
            app,
            allow_origins=settings.origins,
            allow_methods=["POST", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "If-Match"],
            expose_headers=["Location", "Link", "ETag", "Accept-Patch", "Retry-After"],
        )
        self._origins = frozenset(settings.origins)
        self._names, self._proxied = _names(settings), frozenset(settings.hosts)
        self._changes = Allowance(max(1.0, settings.changes_per_s * _BURST_S), settings.changes_per_s)
        fixed = _HEADERS if settings.local else _HEADERS | {"Strict-Transport-Security": "max-age=31536000"}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in fixed.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(headers, receive, self._dressed(scope, send))
        if (refusal := self._refusal(scope, headers)) is not None:
            await refusal(scope, body.receive, body.send)
            return
        allowed = scope["path"].startswith(_SHARED) and headers.get("origin") in self._origins
        await _answered(self._shared if allowed else self._app, scope, body)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Why this is not looked at any further."""
        return _unreadable(scope, headers) or self._astray(scope, headers) or self._excess(scope, headers)

    def _astray(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        host = _named(headers.getlist("host"))
        if host is None:
            return problem(400, "a request names one `Host`, and whom it asks for")
        if not self._ours(host):
            return problem(403, f"this server does not go by the name {host[:100]}: list it in `web.hosts`")
        if self._foreign(scope, headers):
            return problem(403, "a page of another site sent this: only the page that is served here may")
        return None

    def _excess(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        if scope["type"] != "http" or scope["method"] in _SAFE:
            return None
        wait_s = self._changes.take(neighbour((scope.get("client") or ("",))[0]))
        if wait_s > 0:
            return problem(429, "too many changes at once", headers={"Retry-After": str(math.ceil(wait_s))})
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > _LARGEST_BODY:
            return problem(413, _too_large)
        if scope["path"].startswith("/api/") and (length != "0" or "transfer-encoding" in headers):
            return _as_json(scope, headers)
        return None

    def _ours(self, host: str) -> bool:
        """No name service can be made to lead a page to an address that is written out."""
        if host in self._names:
            return True
        try:
            return not ipaddress.ip_address(host).is_unspecified
        except ValueError:
            return False

    def _foreign(self, scope: Scope, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._origins and scope["path"].startswith(_SHARED):
            return False
        if site in {"same-origin", "none"}:
            return False
        if site is not None:  # a link that leads here may be followed, nothing else
            link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            return not (link and scope["type"] == "http" and scope["method"] == "GET")
        preflight = "access-control-request-method" in headers
        if origin is None or (scope["type"] == "http" and scope["method"] in _SAFE and not preflight):
            return False  # an old browser sends no `Sec-Fetch-Site`; programs send neither
        own = origin.partition("://")[2].lower()
        return own != headers.get("host", "").lower() and own.partition(":")[0] not in self._proxied

    def _dressed(self, scope: Scope, send: Send) -> Send:
        """`send`, with what every answer says to a browser."""
        secure, data = scope.get("scheme") in {"https", "wss"}, scope["path"].startswith(_DATA)

        async def dressed(message: Message) -> None:
            if message["type"] in _STARTS:
                said = list(message.get("headers", ()))
                names = {name.lower() for name, _ in said}
                said += [one for one in self._headers if one[0] not in names and (secure or one[0] != _HSTS)]
                if b"cache-control" not in names:
                    said.append((b"cache-control", b"no-store" if data else b"no-cache"))
                message["headers"] = said
            await send(message)

        return dressed


_HSTS = b"strict-transport-security"
_too_large = f"at most {_LARGEST_BODY} bytes are read"


def _names(settings: WebSettings) -> frozenset[str]:
    names = {"localhost", settings.address[0].lower(), *settings.hosts}
    if not settings.local:
        own = socket.gethostname().lower()
        names |= {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}
    return frozenset(names)


def _named(hosts: list[str]) -> str | None:
    """The name in `Host`, without port and brackets. None where there is none, or several."""
    found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    return None if found is None else found[1].strip("[]").rstrip(".")


def _unreadable(scope: Scope, headers: Headers) -> JSONResponse | None:
    path, query = scope["path"], scope.get("query_string", b"")
    if len(path) + len(query) > _LONGEST_URL:
        return problem(414, f"an address has {_LONGEST_URL >> 10} KiB at most")
    if sum(len(name) + len(value) for name, value in headers.raw) > _LARGEST_HEAD:
        return problem(431, f"headers have {_LARGEST_HEAD >> 10} KiB at most")
    if not path.startswith("/") or _STRANGE.search(path) or "\ufffd" in path:
        return problem(400, "this path is none: it holds //, . or .., or a sign that no path here has")
    return None


def _as_json(scope: Scope, headers: Headers) -> JSONResponse | None:
    """All bodies here are JSON, also where `curl -d` calls it a form: that it is none of another site's was seen to."""
    said = headers.get("content-type", "").partition(";")[0].strip().lower()
    if said in {"", "application/x-www-form-urlencoded"}:
        kept = [one for one in scope["headers"] if one[0] != b"content-type"]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]
    elif said != "application/json" and not said.endswith("+json"):
        return problem(415, "a body here is application/json")
    return None


async def _answered(app: ASGIApp, scope: Scope, body: _Body) -> None:
    """What a route did not expect goes into the log under a number, and only the number to whoever asked."""
    try:
        await app(scope, body.receive, body.send)
    except (ClientDisconnect, ClientDisconnected, WebSocketDisconnect):
        pass  # whoever asked has gone
    except Exception:
        number = secrets.token_hex(4)
        log.exception("web: %s %s failed (%s)", scope.get("method", "GET"), redact(scope["path"]), number)
        if body.started:
            raise  # the connection ends here, so that nobody takes half an answer for a whole one
        said = problem(500, f"something went wrong here; the log says what, under {number}")
        await said(scope, body.receive, body.send)


class _Body:
    """One request's body, on its way in; and what is left of it once the answer is given."""

    def __init__(self, headers: Headers, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._ends = time.monotonic() + _BODY_S
        self._left = _LARGEST_BODY
        length = headers.get("content-length", "0")
        self._whole = length == "0" and "transfer-encoding" not in headers
        self.started = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._ends - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the body took longer than {_BODY_S:g} s") from None
        if message["type"] == "http.request":
            self._whole = not message.get("more_body", False)
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._whole = False
                raise HTTPException(413, _too_large)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTS:
            self.started = True
            if not self._whole:  # nobody reads it, so no other request can follow
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not last or self._whole:
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        """Whoever is still sending should get to read why nobody listens: to close at once would take the answer away
        with it."""
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b"")) or 1
        except TimeoutError:
            pass
