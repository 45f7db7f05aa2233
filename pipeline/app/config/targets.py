"""What a person may write after `thresher run` instead of a config: a URL, a camera's number, a file, a folder, or `-`
for lines from standard input."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.app.config.document import Document
from pipeline.core import secrets
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError

CONFIG_SUFFIXES = frozenset({".yaml", ".yml"})
SOUND_SUFFIXES = frozenset({".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"})
"""Of files that hold nothing but sound, as a rule: for others a config says `kind: sound`."""
TEXT_SUFFIXES = frozenset({".jsonl", ".log", ".ndjson", ".txt"})
STDIN = "-"
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:/")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_NAME = 48


def is_config(target: str) -> bool:
    return not _URL.match(target) and Path(target).suffix.lower() in CONFIG_SUFFIXES


def filter_sinks() -> dict[str, Any]:
    """What a run gets that reads standard input: a verdict a line on standard output."""
    return {"verdicts": {"kind": "jsonl", "path": STDIN, "events": False}}


def default_sinks(results: Path, name: str) -> dict[str, Any]:
    """What a run without `sinks` gets: a live table, and results beside it."""
    return {
        "table": {"kind": "console"},
        "log": {"kind": "jsonl", "path": str(results / f"{name}.jsonl")},
        "db": {"kind": "sqlite", "path": str(results / f"{name}.sqlite")},
    }


def add_targets(document: Document, targets: Sequence[str]) -> list[str]:
    """Add a source for each target to `document`; returns the names they got. Raises `InputError`."""
    sources = document.data.setdefault("sources", {})
    if not isinstance(sources, dict):
        return []  # the config is wrong already, and will be told so
    added = []
    for target in targets:
        name, section = _source_of(target, sources)
        sources[name] = section
        document.names["sources", name] = secrets.redact(target)
        added.append(name)
    return added


def _source_of(target: str, taken: Iterable[str]) -> tuple[str, dict[str, Any]]:
    if target == STDIN:
        if "stdin" in taken:
            raise InputError("standard input can be read once", target)
        return "stdin", {"kind": "lines", "path": STDIN}
    if _URL.match(target):
        return _source_at(target, taken)
    if target.isdecimal() and target.isascii():
        return _name(f"webcam-{target}", taken), {"kind": "webcam", "device": int(target)}
    return _source_in(target, taken)


def _source_at(url: str, taken: Iterable[str]) -> tuple[str, dict[str, Any]]:
    secrets.remember_url(url)
    kind = "websocket" if url.lower().startswith(("ws:", "wss:")) else "rtsp"
    return _name(_url_name(url), taken), {"kind": kind, "url": url}


def _source_in(target: str, taken: Iterable[str]) -> tuple[str, dict[str, Any]]:
    path = Path(target)
    if target.startswith("/dev/video"):
        return _name(path.name, taken), {"kind": "webcam", "device": target}
    if path.is_dir():
        return _name(path.resolve().name, taken), {"kind": "folder", "path": target}
    if not os.path.exists(path):
        raise InputError(_absent(path), secrets.redact(target))
    if not path.is_file() and not path.is_fifo():
        raise InputError("is no file that could hold a film, and no camera", secrets.redact(target))
    if path.suffix.lower() in TEXT_SUFFIXES:
        return _name(path.stem, taken), {"kind": "lines", "path": target}
    kind = "sound" if path.suffix.lower() in SOUND_SUFFIXES else "file"
    return _name(path.stem, taken), {"kind": kind, "path": target}


def _absent(path: Path) -> str:
    try:
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        beside = []
    hint = nearest(path.name, beside)
    return (
        f"there is no such file or folder.{hint or ' A target is a URL, the number of a camera, a file or a folder.'}"
    )


def _url_name(url: str) -> str:
    try:
        parts = urlsplit(url)
        # elsewhere the end of the path may be a key, and a name shows in every result
        last = parts.path.rstrip("/").rpartition("/")[2] if parts.scheme in {"rtsp", "rtsps"} else ""
        return last or parts.hostname or "stream"
    except ValueError:
        return "stream"


def _name(wanted: str, taken: Iterable[str]) -> str:
    """`wanted` as a name that is safe in ids, metrics and file names, and not among `taken`."""
    base = safe_name(wanted) or "stream"
    number, name = 2, base
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def safe_name(wanted: str) -> str:
    """`wanted` without what a name must not hold; may be empty."""
    return _UNSAFE.sub("-", secrets.redact(wanted)).strip("-_.")[:_LONGEST_NAME]
