"""From scores of a message to what it is, and which of its words says so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from detectors.decode import Classification
from detectors.runtimes.base import Tensors
from pipeline.core.plain import positions
from pipeline.core.records import Array, Findings, Span
from pipeline.core.text import OF_THE_AUTHOR, OF_THE_ROOM, Text, TextView

PLACES = "places"
_ENDS = frozenset(b" " + OF_THE_AUTHOR + OF_THE_ROOM + b"\0")


class Passages(Classification):
    """Scores `[N, C]` of the message, as `classification` has them; and, where there is an output `places` `[N, C]`,
    for each label the byte that speaks most for it. Its word is looked up when somebody asks."""

    def read(self, tensors: Tensors, views: Sequence[TextView]) -> list[Findings]:
        rest = dict(tensors)
        places = rest.pop(PLACES, None)
        found = super().read(rest, views)
        if places is None:
            return found
        return [
            Findings(one.labels, one.scores, one.classes, chars=partial(_told, view.text, row))
            for one, row, view in zip(found, places, views, strict=False)
        ]


def _told(text: Text, places: Array, kind: int) -> Span | None:
    return passage(text, int(places[kind]))


def passage(text: Text, byte: int) -> Span | None:
    """The word around that byte of the normalised message, as characters of the message as it was written; None where
    the byte lies behind it, in what was said before."""
    codes: bytes = text.plain
    if byte >= len(codes):
        return None
    start, end = byte, byte
    while start > 0 and codes[start - 1] not in _ENDS:
        start -= 1
    while end < len(codes) and codes[end] not in _ENDS:
        end += 1
    if start == end:
        return None
    if text.raw.isascii() and codes.count(codes[start:end]) == 1:  # most words stand there as they are read, just once
        written, word = text.raw.lower(), codes[start:end].decode()
        found = written.find(word)
        if found >= 0 and written.rfind(word) == found:
            return text.offset + found, text.offset + found + len(word)
    first, behind = len(codes[:start].decode()), len(codes[:end].decode())
    where = positions(text.raw)
    until = where[behind] if behind < len(where) else len(text.raw.rstrip())  # a link's one sign stands for all of it
    return text.offset + where[first], text.offset + max(until, where[behind - 1] + 1)
