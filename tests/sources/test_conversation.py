"""What all sources of text share: pieces, context, what counts as a message."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from talk_parts import BadWords, Found

from pipeline.core.contracts import Generation, Reader
from pipeline.core.errors import InputError
from pipeline.core.payloads import ViewSpec
from pipeline.core.plain import plain
from pipeline.core.records import Chunk, Gap, Item
from pipeline.core.text import Text, TextSpec
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sources.conversation import _MOST_REMEMBERED, Conversation, Moment, Talk, parsed
from sources.line_splitter import LineSplitter
from sources.pieces import pieces

NOW: Moment = (1, 2_000_000_000_000_000_000, 3)


class Plan(Conversation):
    def open(self, stream: str) -> Reader:
        raise NotImplementedError


def talk(**options: Any) -> Talk:
    return Talk(Plan(**options), "chat", "E")


def texts(items: list[Item]) -> list[Text]:
    return [item.payload for item in items if isinstance(item, Chunk) and isinstance(item.payload, Text)]


def one(items: list[Item]) -> Text:
    (text,) = texts(items)
    return text


# Pieces.


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab .!?\n,я好。é\u0301İ\u200d&;ﷺ"), max_size=90), max_size=12).map("".join),
    st.integers(64, 200),
)
def test_pieces_are_the_text_and_fit(text: str, longest: int) -> None:
    cut = pieces(text, longest)
    assert "".join(piece for _, piece, _ in cut) == text
    assert [offset for offset, _, _ in cut] == [sum(len(p) for _, p, _ in cut[:n]) for n in range(len(cut))]
    for _, piece, said in cut:
        assert said == plain(piece).encode() and len(said) <= longest


def test_a_cut_comes_between_words() -> None:
    words = " ".join(f"word{n}" for n in range(500))
    cut = pieces(words, 128)
    assert len(cut) > 20
    assert [word for _, piece, _ in cut for word in piece.split()] == words.split()
    assert all(len(said) > 100 for _, _, said in cut[:-1])


def test_paragraphs_and_sentences_are_kept_together() -> None:
    text = "One two three four. " * 5 + "\n\n" + "Five six seven. Eight nine ten eleven twelve thirteen. " * 4
    ends = [piece.rstrip()[-1] for _, piece, _ in pieces(text, 128)]
    assert set(ends) == {"."}
    assert pieces(text, 128)[0][1] == "One two three four. " * 5 + "\n\n"


def test_only_a_word_that_is_too_long_is_cut() -> None:
    cut = [piece for _, piece, _ in pieces("ab " + "c" + "ba" * 150 + " de https://x.y/" + "z" * 900 + " end", 64)]
    assert cut[0] == "ab " and cut[-1] == "end" and cut[-2] == "https://x.y/" + "z" * 900 + " "
    assert {len(piece) for piece in cut[1:5]} == {64}
    assert [piece for _, piece, _ in pieces("一二三四五六七" * 9, 64)] == ["一二三四五六七" * 3] * 3


def test_a_long_text_is_cut_in_no_time() -> None:
    for text in ("word " * 13000, "x" * 65536, "e\u0301" * 20000, "好。" * 10000, "ﷺ" * 9000):
        began = time.process_time()
        pieces(text, 256)
        assert time.process_time() - began < 1.5


def test_a_long_message_is_several_chunks() -> None:
    items = talk(longest=64).text("The first sentence is here to stay. " * 4, NOW)
    said = texts(items)
    assert len(said) == 4 and [text.offset for text in said] == [0, 36, 72, 108]
    assert [item.seq for item in items if isinstance(item, Chunk)] == [0, 1, 2, 3]
    pts = [item.pts_ns for item in items if isinstance(item, Chunk)]
    assert pts == sorted(set(pts))


# Context.


def test_what_was_said_before_goes_with_it() -> None:
    room = talk(author_context=2, room_context=3)
    for n in range(3):
        for who in ("ann", "bob"):
            said = one(room.text(json.dumps({"text": f"{who} {n}", "user": who, "room": "r"}), NOW))
    assert said.author_said == (b"bob 1", b"bob 0")
    assert said.room_said == (b"ann 2", b"ann 1")
    other = one(room.text('{"text": "hi", "user": "bob", "channel": "elsewhere"}', NOW))
    assert (other.author_said, other.room_said) == ((), ()), "somebody else may have the name there"
    nobody = one(room.text("who?", NOW))
    assert (nobody.author_said, nobody.room_said) == ((), ())
    assert one(room.text("who?", NOW)).room_said == (b"who?",)
    none = talk(author_context=0, room_context=0)
    none.text("a", NOW)
    assert one(none.text("b", NOW)).room_said == ()


def test_the_memory_is_bounded() -> None:
    room = talk()
    for n in range(_MOST_REMEMBERED + 9):
        room.text(json.dumps({"text": "x", "user": f"u{n}", "room": f"r{n}"}), NOW)
    assert len(room._memory._authors) == len(room._memory._rooms) == _MOST_REMEMBERED
    assert one(room.text('{"text": "x", "user": "u0"}', NOW)).author_said == ()


def test_all_of_a_full_piece_is_read() -> None:
    spec = TextSpec(128)
    room = Talk(Plan().fitted(spec), "chat", "E")
    for length, wanted in ((127, 1), (128, 2)):
        said = texts(room.text("ab " * 41 + "word?"[: length - 124] + "!", NOW))
        assert len(said) == wanted
        read = b"".join(one.view(spec).data.tobytes()[:-1].rstrip(b"\0") + b" " for one in said).split()
        assert read == [word for one in said for word in one.plain.split()]


def test_no_message_is_left_out_for_coming_too_soon() -> None:
    with pytest.raises(ValidationError, match="without an answer"):
        Plan(max_fps=5)


@pytest.mark.parametrize(("overflow", "most"), [("block", 1024), ("drop_oldest", 256)])
def test_messages_come_in_crowds_but_none_grows_old(overflow: str, most: int) -> None:
    generation = Generation("words@1", BadWords(), None, Found())
    pipeline = Pipeline([StreamPlan("chat", Plan.model_validate({"overflow": overflow}), "words", generation)], {})
    assert pipeline._roster.streams[0]._most == most


# What a message is.


@pytest.mark.parametrize(
    ("line", "text", "author", "room"),
    [
        ('{"text": "Hi", "user": "ann", "room": "r"}', "Hi", "ann", "r"),
        ('{"text": "Hi", "author": 7, "channel": "c", "more": []}', "Hi", "7", "c"),
        ('{"text": 5}', '{"text": 5}', "", ""),
        ('{"text"', '{"text"', "", ""),
        ('"text"', '"text"', "", ""),
        ("{" * 100_000, "{" * 100_000, "", ""),
    ],
)
def test_what_looks_like_json_is_json(line: str, text: str, author: str, room: str) -> None:
    said = texts(talk().text(line, NOW))
    assert "".join(s.raw for s in said) == text and (said[0].author, said[0].room) == (author, room)


def test_json_alone_is_taken_where_that_was_asked_for() -> None:
    strict = talk(format="json")
    assert isinstance(strict.text("hello", NOW)[0], Gap) and strict.seq == 1
    assert one(talk(format="plain").text('{"text": "x"}', NOW)).raw == '{"text": "x"}'
    assert strict.text("  ", NOW) == []


def test_an_array_holds_several_messages() -> None:
    both = texts(talk().text('[{"text": "a", "user": "x"}, {"text": "b"}]', NOW))
    assert [text.raw for text in both] == ["a", "b"]
    assert one(talk().text('[{"text": "a"}, 5]', NOW)).raw == '[{"text": "a"}, 5]'
    assert talk().text("[]", NOW) == []


def test_the_senders_clock() -> None:
    for said in (
        "2026-01-31T12:00:00.5Z",
        "2026-01-31T13:00:00.5+01:00",
        "2026-01-31T12:00:00.5",
        1769860800.5,
        1769860800500,
    ):
        message = parsed(json.dumps({"text": "x", "time": said}))
        assert message is not None and message[0].wall_ns == 1_769_860_800_500_000_000
    for said in ("yesterday", None, True, 1e300, [], "9999999-01-01"):
        message = parsed(json.dumps({"text": "x", "time": said}))
        assert message is not None and message[0].wall_ns is None


def test_nothing_is_no_message_and_what_is_unseen_is_one() -> None:
    room = talk()
    assert [room.text(text, NOW) for text in ("", "  \r", "\t", '{"text": " "}')] == [[]] * 4
    assert room.seq == 0
    assert one(room.text("\u200b\u200d", NOW)).plain == b""


def test_no_guess_is_made_on_bytes_that_are_no_text() -> None:
    room = talk(largest_bytes=256)
    items = list(room.lines("ä\n".encode() + b"\xff\xfe\nb\n" + b"c" * 257 + b"\nd", lambda: NOW))
    assert [text.raw for text in texts(items)] == ["ä", "b", "d"]
    assert sum(item.count for item in items if isinstance(item, Gap)) == 2
    assert [type(item) for item in items] == [Chunk, Gap, Chunk, Gap, Chunk]
    items = list(room.lines(("ü" * 129 + "\nx").encode(), lambda: NOW))
    assert [type(item) for item in items] == [Gap, Chunk]


def test_it_hands_over_what_its_model_reads() -> None:
    assert Plan().fitted(TextSpec(512)).longest == 511
    assert Plan(longest=100).fitted(TextSpec(512)).longest == 100
    assert Plan(longest=511).fitted(TextSpec(512)).longest == 511
    with pytest.raises(InputError, match=r"^longest: its cascade reads 511 bytes at once"):
        Plan(longest=512).fitted(TextSpec(512))
    assert Plan().fitted(TextSpec(64)).longest == 63
    with pytest.raises(InputError, match=r"^cascade: its cascade reads 31 bytes at once"):
        Plan().fitted(TextSpec(32))
    with pytest.raises(InputError, match="judges picture, and this is text"):
        Plan().fitted(ViewSpec(8, 8))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=2000).map(lambda data: data.replace(b"\x01", b"\n")),
    st.lists(st.integers(1, 300)),
    st.integers(1, 64),
)
def test_lines_are_whole_however_they_come(data: bytes, sizes: list[int], largest: int) -> None:
    splitter = LineSplitter(largest)
    got, lost, at = b"", 0, 0
    for size in [*sizes, len(data)]:
        whole, too_long = splitter.feed(data[at : at + size])
        at += size
        lost += too_long
        got += whole
        assert len(splitter._rest) <= largest
    got += splitter.end()
    lines = data.split(b"\n")
    kept = [line for line in got.split(b"\n") if len(line) <= largest]
    assert [line for line in kept if line] == [line for line in lines if line and len(line) <= largest]
    assert lost + sum(len(line) > largest for line in got.split(b"\n")) == sum(len(line) > largest for line in lines)
