"""The page's files: both languages say everything, nothing is said outside of them, and it stays small."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pipeline.app.web

PAGE = Path(pipeline.app.web.__file__).parent / "page"
SCRIPTS = sorted(PAGE.rglob("*.js"))
FIRST_LOAD = 300_000  # bytes
WORDS = {name: json.loads((PAGE / "i18n" / f"{name}.json").read_text()) for name in ("en", "zh")}
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
_KEY = re.compile(r'\bt\(\s*"([^"]+)"')
_MADE = re.compile(r"\bt\(\s*`([a-z]+\.[a-z_]*)\$\{")
_CHOSEN = re.compile(r'"([a-z]+\.[a-z0-9_]+)"')
_FAMILY = re.compile(r'\bword\("([a-z]+)"')


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
    if re.search(r"[^\x00-\x7f×·→←–…]", text):
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


def test_what_is_imported_is_there() -> None:
    entry = (PAGE / "index.html").read_text()
    asked = [place for script in SCRIPTS for place in re.findall(r'from "/page/([^"]+)"', script.read_text())]
    asked += re.findall(r'(?:href|src)="/page/([^"]+)"', entry)
    assert [place for place in asked if not (PAGE / place).is_file()] == []
    assert "<style" not in entry and "style=" not in entry and not re.search(r"<script(?![^>]* src=)", entry)


def test_no_part_of_it_is_left_over() -> None:
    """Everything is reached from the entry: by imports, by a view's name, by a language's."""
    text = (PAGE / "index.html").read_text() + "".join(script.read_text() for script in SCRIPTS)
    views = {f"views/{name}.js" for name in ("wall", "events", "flow", "promise", "review", "signin")}
    for file in PAGE.rglob("*"):
        name = file.relative_to(PAGE).as_posix()
        if file.is_file() and name not in views and not name.startswith("i18n/"):
            assert name == "index.html" or f"/page/{name}" in text, name
