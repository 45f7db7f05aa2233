"""A process that reads a source may have been taken over by what it read: what it says is no code, and has a shape."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.contracts import Source
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Gap, Watermark
from pipeline.engine import isolated_child, isolated_wire
from pipeline.engine.isolation import Isolated
from sources.memory import Memory


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self._path}",)


@pytest.mark.parametrize(
    "wrapped", [lambda bomb: bomb, lambda bomb: ("item", bomb), lambda bomb: ("log", ("a", 1, bomb))]
)
def test_nothing_that_is_sent_runs(tmp_path: Path, wrapped: Any) -> None:
    with pytest.raises(SourceLost, match="cannot be read"):
        isolated_wire.decoded(pickle.dumps(wrapped(Bomb(tmp_path / "owned"))))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "said",
    [
        None, 7, "open", ("open",), ("open", 7), ("chunk", ()), ("chunk", (1,) * 9), ("item", "x"), ("end", 1),
        ("error", "x"), ("what", 1), ("log", ("a", "b", "c")), (["open"], "x"),
        ("chunk", (1, 2, 3, 4, 5, 6, "wide", np.zeros((2, 2)), "")),
    ],
)  # fmt: skip
def test_what_has_no_shape_is_no_message(said: object) -> None:
    with pytest.raises(SourceLost, match="cannot be read"):
        isolated_wire.checked(isolated_wire.decoded(pickle.dumps(said)))


@pytest.mark.parametrize(
    "said",
    [
        ("open", "01K"),
        ("item", Gap("s", "damaged", 1)),
        ("item", Watermark("s", 3)),
        ("end", None),
        ("log", ("a", 1, "b")),
    ],
)
def test_what_a_source_says_arrives(said: tuple[str, Any]) -> None:
    assert isolated_wire.checked(isolated_wire.decoded(pickle.dumps(said))) == said


def test_errors_of_ours_arrive_as_themselves() -> None:
    for error in (SourceLost("gone"), InputError("wrong", "place")):
        kind, body = isolated_wire.checked(isolated_wire.decoded(pickle.dumps(("error", error))))
        assert kind == "error" and type(body) is type(error) and str(body) == str(error)


class Babbling(Memory):
    """Talks past the protocol, as a process that was taken over may."""

    script: tuple[Any, ...] = ()

    def open(self, stream: str) -> Any:
        send = isolated_child._Child.send

        def babble(child: Any, kind: str, body: object) -> None:
            send(child, kind, body)
            child._items.send_bytes(b"\x80\x04no pickle at all")

        isolated_child._Child.send = babble  # type: ignore[method-assign]  # in that process alone
        return super().open(stream)


def test_a_process_that_babbles_is_a_source_that_is_lost() -> None:
    source: Source = Babbling()
    reader = Isolated.around(source).open("s")
    with pytest.raises(SourceLost, match="cannot be read"):
        list(reader)
    reader.close()
