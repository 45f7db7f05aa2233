"""Messages as models take them, and how they are told apart."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.core.text import Text, TextSpec

SPEC = TextSpec(128)


@pytest.mark.parametrize(("length", "read"), [(126, 126), (127, 127), (128, 127)])
def test_the_last_byte_of_a_view_ends_the_last_word(length: int, read: int) -> None:
    view = Text("ab" * (length // 2) + "c" * (length % 2)).view(SPEC)
    assert view.data.shape == SPEC.shape and view.data[-1] == 0
    assert view.used == read == int((view.data > 0).sum())


def test_context_takes_what_room_the_message_leaves() -> None:
    spec = TextSpec(16, context=True)
    said = Text("hello", author_said=[b"abc", b"d"], room_said=[b"efghij"])
    assert said.view(spec).data.tobytes() == b"hello\x01abc\x01d\x02efg\0"
    assert Text("ab" * 7, room_said=[b"b"]).view(spec).data.tobytes() == b"ab" * 7 + b"\0\0", "no room for a mark alone"


def test_a_key_says_what_is_said_and_how_it_is_written() -> None:
    assert Text("Oh No").key() == Text("Oh No").key()
    others = [Text("oh no"), Text("Oh No", offset=7), Text("Oh  No"), Text("Oh No", offset=1 << 20)]
    assert {one.key()[0] for one in others} == {b"oh no"}
    assert len({one.key() for one in [Text("Oh No"), *others]}) == 5
    assert Text("\ud800 x").key()[0] == b"x"


def test_a_key_is_the_same_in_every_process() -> None:
    code = "from pipeline.core.text import Text; print(Text('Oh No', offset=3).key()[1])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{Text('Oh No', offset=3).key()[1]}\n"}
