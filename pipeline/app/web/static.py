"""The files of the page: read once, so that they are served without touching a disk or a thread."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

from fastapi import Request, Response
from starlette.routing import Route

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
"""What is not named here is not served. Not the system's own table: it may call a script a plain text."""
_INDEX = "index.html"


def routes(folder: Path, below: str = "/") -> Iterator[Route]:
    """One for each file in `folder`, under its own name `below` that path, and nothing for any other path. The folder's
    `index.html` is `/`."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in _TYPES and file.is_file():
            name = file.relative_to(folder).as_posix()
            path = "/" if name == _INDEX else f"{below}{name}"
            yield Route(path, _File(file).answer, methods=["GET"], include_in_schema=False)


class _File:
    def __init__(self, path: Path) -> None:
        self._plain = path.read_bytes()
        packed = gzip.compress(self._plain, mtime=0)
        self._packed = packed if len(packed) < 0.9 * len(self._plain) else None
        self._type = _TYPES[path.suffix]
        self._digest = hashlib.sha256(self._plain).hexdigest()[:24]

    async def answer(self, request: Request) -> Response:
        packed = self._packed is not None and _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{self._digest}{"-gzip" if packed else ""}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}  # asked for each time, and answered in no byte
        if self._packed is not None:
            headers["Vary"] = "Accept-Encoding"
        known = {one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")}
        if tag in known:
            return Response(status_code=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        return Response(self._packed if packed else self._plain, headers=headers, media_type=self._type)


def _takes_gzip(accepted: str) -> bool:
    for one in accepted.split(","):
        coding, _, weight = one.partition(";")
        if coding.strip().lower() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
