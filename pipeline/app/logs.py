"""What the program says on standard error: lines for a person, or a JSON object a line for what gathers logs.

Nothing of it holds a secret. Where a line speaks of a stream or a sink, the object says which: what says it knows, or
runs in that one's thread.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Literal, TextIO, TypeAlias, get_args

import click

from pipeline.core.records import iso_time
from pipeline.core.secrets import RedactingFormatter, redact

Form: TypeAlias = Literal["text", "json"]
FORMS: tuple[Form, ...] = get_args(Form)
_VERBOSE = "thresher: %(asctime)s %(levelname)s %(name)s: %(message)s"
_OURS = ("pipeline", "sources", "sinks")
_OF_THREADS = {"source": "stream", "sink": "sink", "send": "sink"}
_form: list[Form] = ["text"]


def set_up(level: int, form: Form = "text") -> None:
    """From now on, for the whole process."""
    _form[0] = form
    handler = _Stderr()
    text = RedactingFormatter(_VERBOSE) if level == logging.DEBUG else _Plain()
    handler.setFormatter(_Json() if form == "json" else text)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO) if level == logging.DEBUG else level)
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level)
    logging.getLogger("detectors").setLevel(min(level, logging.INFO))  # says why a first start takes longer


def say(message: str, level: int = logging.INFO) -> None:
    """A line that is said at any level of logging: what runs, or what went wrong."""
    for line in redact(message).splitlines() or [""]:
        if _form[0] == "json":
            click.echo(_document("thresher", level, line, time.time_ns()), err=True)
        else:
            click.echo(f"thresher: {line}" if level >= logging.WARNING else line, err=True)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever is standard error at that moment: a live table swaps it for its own while it runs."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Always standard error."""


class _Plain(RedactingFormatter):
    """What went wrong carries the program's name, as its other complaints do; how it gets on does not."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return f"thresher: {line}" if record.levelno >= logging.WARNING else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about: dict[str, Any] = {}
        kind, _, name = (record.threadName or "").partition("-")
        if name and kind in _OF_THREADS:
            about[_OF_THREADS[kind]] = name
        about |= {key: str(value) for key in ("stream", "sink") if (value := getattr(record, key, None)) is not None}
        if record.exc_info and record.exc_info[0] is not None:
            about["exception"] = self.formatException(record.exc_info)
        return _document(record.name, record.levelno, record.getMessage(), int(record.created * 1e9), about)


def _document(logger: str, level: int, message: str, wall_ns: int, about: dict[str, Any] | None = None) -> str:
    said = {"level": logging.getLevelName(level).lower(), "logger": logger, "message": message, **(about or {})}
    return json.dumps(
        {"time": iso_time(wall_ns), **{key: redact(value) for key, value in said.items()}}, ensure_ascii=False
    )
