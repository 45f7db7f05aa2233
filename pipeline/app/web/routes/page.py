"""The page: a handful of files, read once, that a browser may keep for as long as they are the same."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, HTTPException, Request, Response

from pipeline.app.web.site import Site

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}  # whatever this machine's registry says
_ENTRY = "index.html"


@dataclass(frozen=True, slots=True)
class Page:
    """One file. `packed` is the same under gzip; `tag` changes with its content."""

    media: str
    content: bytes
    packed: bytes
    tag: str


def router(site: Site) -> APIRouter:
    """What is not among the files is not there, so no path leads anywhere else. It tells nobody anything of what runs,
    so it asks for no token."""
    routes = APIRouter(include_in_schema=False)
    pages = dict(_read(resources.files("pipeline.app.web") / "page", ""))

    @routes.get("/")
    def entry(request: Request) -> Response:
        return _answer(pages[_ENTRY], request)

    @routes.get("/page/{name:path}")
    def part(name: str, request: Request) -> Response:
        if name not in pages:
            raise HTTPException(404, "no such part of the page")
        return _answer(pages[name], request)

    return routes


def _read(folder: Traversable, place: str) -> Iterator[tuple[str, Page]]:
    for file in folder.iterdir():
        name = f"{place}{file.name}"
        if file.is_dir():
            yield from _read(file, f"{name}/")
            continue
        content = file.read_bytes()
        suffix = f".{name.rpartition('.')[2]}"
        media = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        tag = hashlib.sha256(content).hexdigest()[:20]
        yield name, Page(media, content, gzip.compress(content, mtime=0), f'"{tag}"')


def _answer(page: Page, request: Request) -> Response:
    headers = {"ETag": page.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if page.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(page.content, media_type=page.media, headers=headers)
    return Response(page.packed, media_type=page.media, headers=headers | {"Content-Encoding": "gzip"})
