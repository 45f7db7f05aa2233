"""What every source of text shares: its settings, and the way from what was said to chunks.

A message that fits a model's window is one chunk; a longer one is several, its pieces, and `seq` counts those. A
message of bytes that are no UTF-8 or too many, or that is no JSON where that was asked for, is damaged: one gap,
whatever it may have held. A message of nothing but space says nothing: it is not counted.
"""

from __future__ import annotations

import json
from abc import ABC
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

from pydantic import Field, model_validator

from pipeline.core.contracts import Source
from pipeline.core.errors import InputError
from pipeline.core.media import Medium, Spec
from pipeline.core.plain import plain
from pipeline.core.records import Chunk, Gap, Item, Outcome
from pipeline.core.text import Text, TextSpec
from sources.pieces import SHORTEST, pieces

DEFAULT_LONGEST = 256  # bytes
LARGEST = 1 << 16  # bytes
_LONGEST_NAME = 200
_MOST_REMEMBERED = 4096  # authors, and rooms
_OPENS = ("{", "[")
_MILLISECONDS = 1e11  # a time beyond this is not in seconds


class Conversation(Source, ABC):
    """A source of messages."""

    medium: ClassVar[Medium] = "text"

    longest: int | None = Field(
        None,
        ge=SHORTEST,
        le=LARGEST,
        description="a message of more bytes, once normalised, is judged in pieces (default: what its model reads)",
    )
    author_context: int = Field(
        3, ge=0, le=64, description="earlier messages of the author in the room that a model may read"
    )
    room_context: int = Field(8, ge=0, le=64, description="earlier messages of others in the room, likewise")
    largest_bytes: int = Field(LARGEST, ge=256, le=1 << 24, description="a larger message is damaged: not looked at")
    format: Literal["auto", "json", "plain"] = Field(
        "auto",
        description="json: objects with `text`, perhaps `user` (or `author`), `room` (or `channel`), `time`, or arrays"
        " of such; auto: what looks like one is one",
    )

    @model_validator(mode="after")
    def _leaves_none_out(self) -> Self:
        if self.max_fps is not None:
            raise ValueError("`max_fps` is for frames: it would leave messages without an answer")
        return self

    def fitted(self, spec: Spec, track: str = "") -> Self:
        super().fitted(spec, track)
        assert isinstance(spec, TextSpec)
        if spec.room < SHORTEST:
            raise InputError(f"its cascade reads {spec.room} bytes at once, and a piece may take {SHORTEST}", "cascade")
        if self.longest is not None and self.longest > spec.room:
            raise InputError(f"its cascade reads {spec.room} bytes at once: a larger one would be cut off", "longest")
        return self.model_copy(update={"longest": self.longest or spec.room})


class Said(NamedTuple):
    """A message as it came: what, by whom, where, and when by the sender's clock, if that is known."""

    text: str
    author: str = ""
    room: str = ""
    wall_ns: int | None = None


Moment: TypeAlias = tuple[int, int, int]
"""When a message arrived: `mono_ns`, `wall_ns`, and its media time `pts_ns`."""


class Talk:
    """Makes chunks of one reader's messages. Used by one thread at a time. Media time never stands still: what comes at
    the same moment is a nanosecond apart."""

    def __init__(self, plan: Conversation, stream: str, epoch: str) -> None:
        self.seq = 0
        self.position = ""
        """What chunks say of where they stood, for a source that goes on from there after a restart."""
        self._stream, self._epoch = stream, epoch
        self._longest = plan.longest or DEFAULT_LONGEST
        self._largest = plan.largest_bytes
        self._format = plan.format
        self._memory = _Memory(plan.author_context, plan.room_context)
        self._author_context = plan.author_context
        self._last_ns = -1

    def lines(self, block: bytes, clock: Callable[[], Moment]) -> Iterator[Item]:
        """Of whole lines, one message each, at the moment that `clock` says."""
        try:
            texts = block.decode().split("\n")
        except UnicodeDecodeError:
            for line in block.split(b"\n"):
                yield from self.data(line, clock())
            return
        quick = self._largest // 4
        for text in texts:
            if len(text) > quick and len(text.encode()) > self._largest:
                yield self.damaged()
            elif text:
                yield from self.text(text, clock())

    def recall(self, block: bytes) -> None:
        """Whole lines that were judged before a restart: what they said may be read as context once more."""
        seq, last_ns = self.seq, self._last_ns
        for _ in self.lines(block, lambda: (0, 0, 0)):
            pass
        self.seq, self._last_ns = seq, last_ns

    def data(self, data: bytes, moment: Moment) -> list[Item]:
        """Of one message, or several as a JSON array."""
        messages = self.read(data)
        if messages is None:
            return [self.damaged()]
        return [item for said in messages for item in self.said(said, moment)]

    def text(self, text: str, moment: Moment) -> list[Item]:
        """The same where it is known to be text."""
        if self._format == "plain" or (self._format == "auto" and text[:1] not in _OPENS):
            return self.said(Said(text), moment)
        messages = self._read_json(text)
        if messages is None:
            return [self.damaged()]
        if len(messages) == 1:
            return self.said(messages[0], moment)
        return [item for said in messages for item in self.said(said, moment)]

    def read(self, data: bytes) -> list[Said] | None:
        """The messages in `data`, not yet taken in; None where it is damaged."""
        if len(data) > self._largest:
            return None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        return [Said(text)] if self._format == "plain" else self._read_json(text)

    def _read_json(self, text: str) -> list[Said] | None:
        """Where JSON is optional, whatever is none is a message as it stands."""
        messages = parsed(text) if text[:1] in _OPENS else None
        if messages is not None:
            return messages
        if self._format == "auto":
            return [Said(text)]
        return [] if not text or text.isspace() else None

    def said(self, said: Said, moment: Moment, answer: Callable[[Outcome], None] | None = None) -> list[Item]:
        """The chunks of one message, none if it says nothing."""
        raw, author, room, told_ns = said
        normalised = plain(raw).encode()
        if not normalised and (not raw or raw.isspace()):
            return []
        if told_ns is not None:
            moment = moment[0], told_ns, moment[2]
        if len(normalised) <= self._longest:
            before, around = self._memory.before(author, room, normalised)
            text = Text(raw, author=author, room=room, author_said=before, room_said=around, normalised=normalised)
            return [self._chunk(text, moment, answer)]
        cut = pieces(raw, self._longest)
        before, around = self._memory.before(author, room, cut[0][2])
        chunks: list[Item] = []
        for offset, piece, normalised in cut:
            text = Text(
                piece,
                author=author,
                room=room,
                offset=offset,
                author_said=before,
                room_said=around,
                normalised=normalised,
            )
            chunks.append(self._chunk(text, moment, answer))
            before = (normalised, *before)[: self._author_context]
        return chunks

    def _chunk(self, text: Text, moment: Moment, answer: Callable[[Outcome], None] | None) -> Chunk:
        mono_ns, wall_ns, pts_ns = moment
        seq, self.seq = self.seq, self.seq + 1
        self._last_ns = pts_ns = pts_ns if pts_ns > self._last_ns else self._last_ns + 1
        return Chunk(self._stream, self._epoch, seq, pts_ns, 0, mono_ns, wall_ns, text, "", answer, self.position)

    def damaged(self, count: int = 1) -> Gap:
        self.seq += count
        return Gap(self._stream, "damaged", count)


def parsed(text: str) -> list[Said] | None:
    """The message that came as a JSON object, or those of an array; None where it is neither."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, list):
        messages = [of_document(one) for one in document]
        return None if None in messages else [said for said in messages if said is not None]
    said = of_document(document)
    return None if said is None else [said]


def of_document(document: Any) -> Said | None:
    """A message that came as an object; None where it has no `text`."""
    if not isinstance(document, dict) or not isinstance(text := document.get("text"), str):
        return None
    author = document.get("user") or document.get("author") or ""
    room = document.get("room") or document.get("channel") or ""
    sent = document.get("time")
    return Said(text, _name(author), _name(room), None if sent is None else wall_ns_of(sent))


def _name(value: object) -> str:
    if isinstance(value, str):
        return value[:_LONGEST_NAME]
    return str(value)[:_LONGEST_NAME] if isinstance(value, int) else ""


def wall_ns_of(value: object) -> int | None:
    """A time as people write it: ISO 8601 (UTC unless it says), or seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000
        if isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
            return int(moment.timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError):
        pass
    return None


class _Memory:
    """What was said before: of each author in a room, and of each room, the last few messages, normalised, latest
    first. Who was silent longest is forgotten."""

    def __init__(self, of_author: int, of_room: int) -> None:
        self._of_author, self._of_room = of_author, of_room
        self._authors: OrderedDict[tuple[str, str], tuple[bytes, ...]] = OrderedDict()  # in a room: names are its own
        self._rooms: OrderedDict[str, tuple[tuple[str, ...], tuple[bytes, ...]]] = OrderedDict()

    def before(self, author: str, room: str, said: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """What the author and what others in the room said before, now that `said` is said. Without a name everybody is
        somebody else."""
        own: tuple[bytes, ...] = ()
        around: tuple[bytes, ...] = ()
        if author and self._of_author:
            who = room, author
            own = self._authors.get(who, ())
            self._authors[who] = (said, *own)[: self._of_author]
            self._authors.move_to_end(who)
            if len(self._authors) > _MOST_REMEMBERED:
                self._authors.popitem(last=False)
        if self._of_room:
            authors, around = self._rooms.get(room, ((), ()))
            most = self._of_room
            self._rooms[room] = (author, *authors)[:most], (said, *around)[:most]
            if author and author in authors:
                around = tuple(words for other, words in zip(authors, around, strict=True) if other != author)
            self._rooms.move_to_end(room)
            if len(self._rooms) > _MOST_REMEMBERED:
                self._rooms.popitem(last=False)
        return own, around
