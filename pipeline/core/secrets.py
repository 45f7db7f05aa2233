"""Keeps passwords out of everything that a person or a program may read.

Two nets: every secret that was resolved from the environment or a file, or that stood in a URL, is remembered and
replaced by text; and any URL's user part is replaced by shape, known or not: up to the last `@` that could end it, also
where the URL is malformed, lost a slash on its way through a path, or lost its scheme. Control characters go as well:
what comes from outside must not steer a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
_known: set[str] = set()
_lock = threading.Lock()
_USERINFO = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*:[/\\]+)[^\s'\"]*@")
_NO_SCHEME = re.compile(r"(?<![^\s'\"/])[^\s'\"/@]+:(?![/\\]+\*\*\*@)[^\s'\"]+@(?=[\w\[.*-])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_QUERY = re.compile(
    r"(?i)(?P<key>[?&](?:[\w.-]*(?:token|password|passwd|pwd|secret|key|auth|signature|sig))=)[^&\s#'\"]+"
)
_WRITTEN: tuple[Callable[[str], str], ...] = (repr, ascii, json.dumps, partial(json.dumps, ensure_ascii=False))
_SHORTEST = 3  # a shorter one would blank out innocent text


def remember(value: str) -> None:
    """Replace `value` wherever `redact` meets it from now on, as it is and as URLs, JSON and Python write it."""
    forms = {value, quote(value, safe=""), quote(value), unquote(value)}
    forms |= {written(form)[1:-1] for form in list(forms) for written in _WRITTEN}
    with _lock:
        _known.update(form for form in forms if len(form) >= _SHORTEST)


def remember_url(url: str) -> None:
    """Remember the password of `url`, if it has one. A malformed URL is none of our business here."""
    try:
        parts = urlsplit(url)
        if parts.password:
            remember(parts.password)
    except ValueError:
        pass


def redact(text: object) -> str:
    """`text` without any secret that was remembered and without the user part of any URL."""
    out = _CONTROL.sub("", str(text))
    with _lock:
        known: Iterable[str] = sorted(_known, key=len, reverse=True)
    for secret in known:
        out = out.replace(secret, HIDDEN)
    out = _USERINFO.sub(lambda m: f"{m['scheme']}{HIDDEN}@", out)
    out = _NO_SCHEME.sub(f"{HIDDEN}@", out)
    return _QUERY.sub(lambda m: f"{m['key']}{HIDDEN}", out)


class RedactingFormatter(logging.Formatter):
    """A log formatter whose every line, trace included, went through `redact`."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """A name with line breaks in it makes no lines of its own, which might look like this program's."""
        if "\n" not in str(record.msg):
            record.message = record.message.replace("\n", "\\n")
        return super().formatMessage(record)
