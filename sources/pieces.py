"""Long messages in pieces that a model takes whole."""

from __future__ import annotations

import re
import unicodedata

from pipeline.core.plain import plain

SHORTEST = 48
"""Bytes that any one character fits into, whatever normalisation makes of it."""

# A word with the space behind it; where a language sets none, what its punctuation parts.
_UNIT = re.compile(r"\s*[^\s。！？，、；]*[。！？，、；]*\s*")
_ENDS_SENTENCE = re.compile(r"[.!?…。！？।؟][\"'”’»)\]]*\s*$")
_JOINERS = "\u200d\ufe0f\ufe0e"

_WORD, _SENTENCE, _PARAGRAPH = 1, 2, 3


def pieces(text: str, longest: int) -> list[tuple[int, str, bytes]]:
    """`text` in pieces of at most `longest` bytes (`SHORTEST` or more) once normalised: where each begins, what it
    says, and that normalised. Together they are `text`.

    A piece is as full as may be, but ends with a paragraph or else a sentence where one ends in its latter three
    quarters; else between two words. Only a word that is too long by itself is cut.
    """
    out: list[tuple[int, str, bytes]] = []
    _cut(text, 0, longest, longest, out)
    return out


def _cut(text: str, offset: int, longest: int, limit: int, out: list[tuple[int, str, bytes]]) -> None:
    """Pieces of at most `limit` bytes as they are written; those that normalisation makes longer are cut again."""
    for start, end in _spans(text, longest, limit):
        piece = text[start:end]
        said = plain(piece).encode()
        if len(said) > longest and len(piece) > 1:
            _cut(piece, offset + start, longest, max(limit // 2, 1), out)
        else:
            out.append((offset + start, piece, said))


def _spans(text: str, longest: int, limit: int) -> list[tuple[int, int]]:
    units = [found.span() for found in _UNIT.finditer(text) if found[0]]
    sizes = [_bytes(text[start:end]) for start, end in units]
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(units):
        filled, behind = 0, first
        while behind < len(units) and filled + sizes[behind] <= limit:
            filled += sizes[behind]
            behind += 1
        start, end = units[first]
        if behind == first:  # a word that is too long as it is written, but perhaps not as it is read: a link
            if len(plain(text[start:end]).encode()) > longest:
                start = _within(text, start, end, limit, spans)
            behind = first + 1
        elif behind < len(units):
            best = behind
            rank = _WORD
            for until in range(behind, first, -1):
                if 4 * filled < limit:
                    break
                if (found := _rank(text[slice(*units[until - 1])])) > rank:
                    best, rank = until, found
                filled -= sizes[until - 1]
            behind = best
        spans.append((start, units[behind - 1][1]))
        first = behind
    return spans


def _within(text: str, start: int, end: int, limit: int, spans: list[tuple[int, int]]) -> int:
    """Cut a word by itself; returns where what is left of it begins."""
    while _bytes(text[start:end]) > limit and end - start > 1:
        at = start + max(len(_encoded(text[start : start + limit])[:limit].decode("utf-8", "ignore")), 1)
        while at > start + 1 and (unicodedata.combining(text[at]) or text[at] in _JOINERS):
            at -= 1
        spans.append((start, at))
        start = at
    return start


def _rank(unit: str) -> int:
    if "\n" in unit:
        return _PARAGRAPH
    return _SENTENCE if _ENDS_SENTENCE.search(unit) else _WORD


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(_encoded(text))
