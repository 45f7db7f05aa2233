"""The files of the page, as a browser gets them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from pipeline.app.web import static
from tests.web.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With a page of our own below /made."""
    page = tmp_path_factory.mktemp("here") / "page"
    (page / "views").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>" + "<p>" * 500)
    (page / "app.js").write_text("'use strict';\n" * 200)
    (page / "views" / "wall.css").write_text("a{}")
    (page / "words.json").write_text("{}")
    (page / "notes.txt").write_text("not for strangers")
    (page / "app.js~").write_text("nor this")
    (page.parent / "beside.js").write_text("nor this")
    with serving() as it:
        made = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        made.router.routes.extend(static.routes(page))
        it.app.mount("/made", made)
        yield it


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/made/", "text/html"),
        ("/made/app.js", "text/javascript"),
        ("/made/views/wall.css", "text/css"),
        ("/made/words.json", "application/json"),
    ],
)
def test_types(served: Served, path: str, kind: str) -> None:
    answer = httpx.get(served.url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["x-content-type-options"] == "nosniff"  # so a wrong type would be a page that does not work


@pytest.mark.parametrize("path", ["/made/notes.txt", "/made/app.js~", "/beside.js", "/made/views", "/made/views/"])
def test_nothing_else_is_served(served: Served, path: str) -> None:
    assert httpx.get(served.url + path).status_code == 404


def test_a_file_comes_once_and_then_in_no_byte(served: Served) -> None:
    url = served.url + "/made/app.js"
    first = httpx.get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in first.headers and len(first.content) == int(first.headers["content-length"])
    again = httpx.get(url, headers={"If-None-Match": first.headers["etag"], "Accept-Encoding": "identity"})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == first.headers["etag"]
    assert httpx.get(url, headers={"If-None-Match": '"other", W/"x"'}).status_code == 200
    assert httpx.head(url).status_code == 200 and not httpx.head(url).content
    assert httpx.post(url).status_code == 405


def test_and_packed_for_who_can_unpack_it(served: Served) -> None:
    url = served.url + "/made/app.js"
    plain = httpx.get(url, headers={"Accept-Encoding": "identity"})
    with httpx.stream("GET", url, headers={"Accept-Encoding": "br, gzip;q=0.8"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip" and packed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(raw) == plain.content and len(raw) < len(plain.content) / 5
    assert packed.headers["etag"] != plain.headers["etag"]
    refused = httpx.get(url, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers
    assert "vary" not in httpx.get(served.url + "/made/views/wall.css").headers  # too small to be worth it
