"""The one normalisation of text, against the usual tricks: what is trained, calibrated and run reads the same."""

from __future__ import annotations

import html
import re
import unicodedata

_LINK = re.compile(r"https?://\S+|www\.\S+")
_MENTION = re.compile(r"@\w+")
_SPACE = re.compile(r"\s+")


def plain(text: str) -> str:
    """`text` as a model reads it: lower case, one kind of space, no control characters."""
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.lower()
    if "://" in text or "www." in text:
        text = _LINK.sub("\x03", text)
    if "@" in text:
        text = _MENTION.sub("\x04", text)
    return _SPACE.sub(" ", text).strip()


def positions(text: str) -> list[int]:
    """For each character of `plain(text)`, the index of the character of `text` that it comes from."""
    raise NotImplementedError
