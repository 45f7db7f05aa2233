"""The main job on shipped data and models: a clip of people walking through the `people` cascade."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.app.config.document import Document
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.browser import somebody_sits_in_front
from pipeline.core.errors import InputError

CLIP = Path(__file__).with_name("people.mp4")
_QUERY = "SELECT * FROM labels_per_minute"
_SHOWN = 12  # events told at the end


def document(results: Path, as_json: bool) -> Document:
    """The demo's config. At its own speed where a person watches the table, as fast as it goes otherwise. Results of
    an earlier demo are replaced."""
    for name in ("demo.jsonl", "demo.sqlite", "demo.sqlite-wal", "demo.sqlite-shm", "demo.mp4"):
        with contextlib.suppress(FileNotFoundError):
            (results / name).unlink()
    sinks = {
        "table": {"kind": "console", "stream": "stderr" if as_json else "stdout"},
        "log": {"kind": "jsonl", "path": str(results / "demo.jsonl")},
        "db": {"kind": "sqlite", "path": str(results / "demo.sqlite")},
    }
    if missing_for_video() is None:
        sinks["film"] = {"kind": "video", "path": str(results / "demo.mp4")}
    watched = sys.stdout.isatty() and not as_json
    data = {"sources": {"people": {"kind": "file", "path": str(CLIP), "realtime": watched}}, "sinks": sinks}
    return Document({**data, "cascade": "people"}, Path.cwd(), "demo")


def page() -> dict[str, Any] | None:
    """The section `web` where a person sits in front and can be shown the page; None elsewhere. Its usual port, so that
    the page finds the second half of the demo by itself; another one where that is taken."""
    if not somebody_sits_in_front() or any(find_spec(part) is None for part in ("fastapi", "uvicorn", "aiortc")):
        return None
    usual = WebSettings()
    try:
        socket.create_server(usual.address).close()
    except OSError:
        return {"listen": "127.0.0.1:0"}
    return {"listen": usual.listen}


def missing_for_video() -> str | None:
    """Why no annotated video can be drawn here; None where it can."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return "OpenCV does not load here; `apt-get install libgl1 libglib2.0-0` brings what it lacks"
    return None


def findings(results: Path) -> Iterator[str]:
    """What was found, and where it lies."""
    yield ""
    yield from _events(results / "demo.sqlite")
    yield ""
    yield f"every verdict, a line each   {results / 'demo.jsonl'}"
    yield f"the same, to be queried      {results / 'demo.sqlite'}"
    reason = missing_for_video()
    yield f"the clip with its boxes      {results / 'demo.mp4' if reason is None else f'not drawn: {reason}'}"
    yield ""
    yield "Ask for more yourself:"
    yield f'  sqlite3 -box {results / "demo.sqlite"} "{_QUERY}"'


def _events(path: Path) -> Iterator[str]:
    query = "SELECT label, start_s, end_s, count, windows, best_score FROM events ORDER BY start_s, label LIMIT ?"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            rows = database.execute(query, (_SHOWN,)).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"the results cannot be read back: {error}", str(path)) from error
    yield "Found:" if rows else "Found nothing."
    for label, start, end, count, windows, score in rows:
        most = f", up to {count} at once" if count > 1 else ""
        yield f"  {label} from {start:.1f} s to {end:.1f} s{most} ({windows} frames, best score {score:.2f})"
