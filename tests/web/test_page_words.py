"""The page's files: both languages say everything, nothing is said outside of them, and it stays small."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from pipeline.app.web.routes import page

PAGE = Path(page.__file__).parents[1] / "page"
SCRIPTS = sorted(PAGE.rglob("*.js"))
FIRST_LOAD = 300_000  # bytes
WORDS = {name: json.loads((PAGE / "i18n" / f"{name}.json").read_text()) for name in ("en", "zh")}
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
_KEY = re.compile(r'\bt\(\s*"([^"]+)"')
_MADE = re.compile(r"\bt\(\s*`([a-z]+\.[a-z_]*)\$\{")
_CHOSEN = re.compile(r'"([a-z]+\.[a-z0-9_]+)"')
_FAMILY = re.compile(r'\bword\("([a-z]+)"')


Get = Callable[..., httpx.Response]


@pytest.fixture
def get() -> Get:
    """Asks for a path, with the headers given as `headers`."""
    app = FastAPI()
    app.include_router(page.router(None))  # type: ignore[arg-type]  # it tells nothing of what runs

    def ask(path: str, **headers: str) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://thresher") as client:
                return await client.get(path, headers={name.replace("_", "-"): text for name, text in headers.items()})

        return asyncio.run(once())

    return ask


def test_both_languages_say_the_same_things() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        assert text.strip() and WORDS["zh"][key].strip()
        assert set(re.findall(r"\{\w+\}", text)) - {"{n}"} == set(re.findall(r"\{\w+\}", WORDS["zh"][key])) - {"{n}"}, (
            key
        )


def test_every_word_that_is_asked_for_is_there_and_every_word_that_is_there_is_asked_for() -> None:
    source = "\n".join(script.read_text() for script in SCRIPTS)
    asked = set(_KEY.findall(source))
    assert asked <= WORDS["en"].keys()
    families = {f"{family}." for family in _FAMILY.findall(source)} | set(_MADE.findall(source))
    chosen = set(_CHOSEN.findall(source))
    idle = {key for key in WORDS["en"] if key not in asked | chosen and not key.startswith(tuple(families))}
    assert idle == set()


def test_no_view_says_anything_by_itself() -> None:
    """A text of two words or more, or in another script, is a literal that nobody could translate."""
    assert [text for script in SCRIPTS for text in _literals(script.read_text())] == []


def test_a_literal_text_would_be_noticed() -> None:
    assert list(_literals('h("p", {}, "Nothing here yet")')) == ["Nothing here yet"]
    assert list(_literals('h("p", { title: "没有" })')) == ["没有"]
    assert list(_literals('h("p", {}, "Closed")')) == ["Closed"]


def _literals(source: str) -> Iterator[str]:
    source = re.sub(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", "", source, flags=re.S)
    for match in _STRING.finditer(source):
        text = match[1] if match[1] is not None else re.sub(r"\$\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "", match[2])
        if _is_text(text) and not any(text.startswith(one) for one in _NO_TEXT):
            yield text


_NO_TEXT = (
    "Content-Type",
    "Delete",
    "Backspace",
    "Escape",
    "Arrow",
    "Location",
    "NotAllowedError",
    "AbortError",
    "Accept",
    "English",  # languages are named in themselves
    "中文",
    "Thresher",
    "sinks:\\n",  # configuration to copy
    "cascades:\\n",
    "M",  # the paths of pictures
    "L",
    "Z",
    "P50",
    "P90",
    "P99",
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "600 12px",
)


def _is_text(text: str) -> bool:
    if re.search(r"[^\x00-\x7f×·→–…]", text):
        return True
    if re.search(r"[<>=(]|\.js$|--|^\W*$", text):
        return False
    return bool(re.match(r"[A-Z][a-z]", text)) or bool(
        re.search(r"[a-z]{2,}[,.]? (is|are|the|a|of|to|no|not|and|here|in|for)\b", text)
    )


def test_the_whole_page_is_smaller_than_a_picture() -> None:
    files = [path for path in PAGE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < FIRST_LOAD
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < FIRST_LOAD / 3


def test_what_is_imported_is_there(get: Get) -> None:
    for script in SCRIPTS:
        for place in re.findall(r'from "(/page/[^"]+)"', script.read_text()):
            assert get(place).headers["content-type"].startswith("text/javascript"), place
    entry = get("/").text
    for place in re.findall(r'(?:href|src)="(/page/[^"]+)"', entry):
        assert get(place).status_code == 200
    assert "<style" not in entry and "style=" not in entry and not re.search(r"<script(?![^>]* src=)", entry)


def test_what_is_the_same_is_not_sent_again(get: Get) -> None:
    first = get("/page/main.js")
    assert first.headers["content-encoding"] == "gzip"
    again = get("/page/main.js", if_none_match=first.headers["etag"])
    assert (again.status_code, again.content) == (304, b"")
    plain = get("/page/main.js", accept_encoding="identity")
    assert "content-encoding" not in plain.headers and plain.text == first.text


@pytest.mark.parametrize(
    "name", ["../site.py", "..%2fsite.py", "%2e%2e/site.py", "views/../../app.py", "views", "", "nothing.js"]
)
def test_nothing_else_can_be_had(get: Get, name: str) -> None:
    assert get(f"/page/{name}").status_code == 404
