"""Where a source goes on after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Place:
    """Behind one window of a stream: it was delivered for good, and so was all before it.

    `pts_ns` is where that window begins, `wall_ns` when it was taken in (`time.time_ns()`). `position` is what its
    chunk said of where it stood, `due_ns` when the next frame is due where not every one is judged.
    """

    epoch: str
    seq: int
    pts_ns: int
    wall_ns: int
    position: str = ""
    due_ns: int | None = None


@runtime_checkable
class Placed(Protocol):
    """A reader that does not begin at the beginning: should it be started again before its first window was delivered,
    it has to know where that was."""

    start: Place
    """Behind nothing: its `seq` is one less than that of the first chunk."""
