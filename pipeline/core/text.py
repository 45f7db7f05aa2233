"""Messages as they flow, and the one preprocessing of text: normalised, as UTF-8 bytes, no vocabulary in between.

A model of text takes uint8 `[length]`: the bytes of the message, for one that reads context those of earlier messages
behind it, zeros to the end. Bytes that no text holds mark where an earlier message begins.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.core import media
from pipeline.core.media import Key, Medium, Payload, Spec
from pipeline.core.plain import plain
from pipeline.core.records import Array, Box

_SHORTEST = 128
OF_THE_AUTHOR, OF_THE_ROOM = b"\x01", b"\x02"
"""What stands before an earlier message of the same author, and before one of somebody else in the room."""


@dataclass(frozen=True, slots=True)
class TextSpec(Spec):
    """A model reads uint8 `[length]`, of which the last is always 0. With `context`, the room that the message leaves
    is filled with earlier messages, the author's and the room's, latest first."""

    medium: ClassVar[Medium] = "text"

    length: int
    context: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many bytes are worth reading at once, ascending: most messages leave most of a long view empty."""
        return (*(_SHORTEST << power for power in range(16) if _SHORTEST << power < self.length), self.length)

    def long_enough(self, views: Sequence[TextView]) -> int:
        """The least of `lengths` that holds all of them."""
        used = max(view.used for view in views)
        return next(length for length in self.lengths if used < length)

    @property
    def room(self) -> int:
        """Bytes of text that fit in: a network gives up the last one of a view for the end of the last word."""
        return self.length - 1

    @property
    def dtype(self) -> str:
        return "uint8"

    @property
    def reads_context(self) -> bool:
        return self.context

    def words(self) -> str:
        return f"{self.length} bytes" + (", with context" if self.context else "")


@dataclass(frozen=True, slots=True)
class TextView(media.View):
    """What a stage reads, and the message that it was made of."""

    codes: Array
    text: Text
    used: int = 0  # bytes that are not empty

    @property
    def data(self) -> Array:
        return self.codes


class Text(Payload):
    """A message, or a piece of a long one.

    `raw` is what was written, `offset` where it begins in the whole message, `author` and `room` say whose it is,
    `author_said` and `room_said` hold what was said before (normalised, latest first).
    """

    __slots__ = ("_plain", "author", "author_said", "offset", "raw", "room", "room_said")
    medium: ClassVar[Medium] = "text"

    def __init__(
        self,
        raw: str,
        *,
        author: str = "",
        room: str = "",
        offset: int = 0,
        author_said: Sequence[bytes] = (),
        room_said: Sequence[bytes] = (),
        normalised: bytes | None = None,
    ) -> None:
        self.raw = raw
        self.author, self.room, self.offset = author, room, offset
        self.author_said, self.room_said = author_said, room_said
        self._plain = normalised

    @property
    def alone(self) -> bool:
        return not (self.author_said or self.room_said)

    @property
    def plain(self) -> bytes:
        """The message, normalised, as UTF-8."""
        if self._plain is None:
            self._plain = plain(self.raw).encode()
        return self._plain

    def view(self, spec: TextSpec, region: Box | None = None) -> TextView:
        codes = self.plain
        if spec.context:
            codes = self._with_context(spec.room)
        if len(codes) > spec.room:
            codes = codes[: spec.room]
        return TextView(np.frombuffer(codes.ljust(spec.length, b"\0"), np.uint8), self, len(codes))

    def _with_context(self, room: int) -> bytes:
        parts, left = [self.plain], room - len(self.plain)
        for mark, said in ((OF_THE_AUTHOR, self.author_said), (OF_THE_ROOM, self.room_said)):
            for message in said:
                if left <= 1:
                    break
                parts.append(mark + message[: left - 1])
                left -= len(parts[-1])
        return b"".join(parts)

    def key(self) -> Key:
        # a digest that is the same in every process, of what a place in the message depends on
        written = zlib.crc32(self.raw.encode("utf-8", "surrogatepass"))
        return self.plain, self.offset << 32 | written

    def release(self) -> None:
        """There is nothing to let go."""
