"""The latest picture of every stream, for whoever watches it.

Written by the thread of one sink. With nobody there it keeps a reference to the decoder's own last frame and does
nothing more: nothing is converted, nothing fetched from a process of its own. Watchers are shown at most `MOST_FPS`
pictures a second of real time, and `HURRIED_FPS` of a film that is read as fast as it goes: nobody can follow that, and
to look at it would take the time that judging it needs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from av.video.frame import VideoFrame

from pipeline.app.own_sinks import OwnSink
from pipeline.core.contracts import Delivery, Picture
from pipeline.core.errors import FrameGone
from pipeline.core.payloads import Image
from pipeline.core.records import Outcome

MOST_FPS: Final = 30
HURRIED_FPS: Final = 6
TICKS_PER_S: Final = 90_000
"""Of the clock of RTP for pictures."""
_ADRIFT_NS: Final = 500_000_000


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture and its outcome. `ticks` is its media time by the clock of RTP, from a zero that all of its stream
    share. `frame` may be the decoder's own: nobody changes anything of it."""

    outcome: Outcome
    frame: VideoFrame
    ticks: int


Look: TypeAlias = Callable[[Shot], None]


class Gallery:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._walls: dict[str, _Wall] = {}

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            if isinstance(item, Picture) and item.audit is None and item.image is not None:
                self._show(item.outcome, item.image)

    def _show(self, outcome: Outcome, image: Image) -> None:
        with self._lock:
            wall = self._walls.setdefault(outcome.window.stream, _Wall())
            wall.is_there = True
            looks = tuple(wall.looks)
        now_ns = time.monotonic_ns()
        ticks = wall.clock.ticks(outcome.window.start_ns, now_ns)
        due = bool(looks) and wall.pace.due(now_ns, HURRIED_FPS if wall.clock.hurries else MOST_FPS)
        if not due and not image.at_hand:
            return
        try:
            frame = image.frame()
        except FrameGone:
            return
        wall.latest = shot = Shot(outcome, frame, ticks)
        if due:
            for look in looks:
                look(shot)

    def close(self) -> None:
        """Who watches leaves by themselves."""

    def latest(self, stream: str) -> Shot | None:
        wall = self._walls.get(stream)
        return None if wall is None else wall.latest

    def watchers(self, stream: str) -> int:
        wall = self._walls.get(stream)
        return 0 if wall is None else len(wall.looks)

    def watch(self, stream: str, look: Look) -> Callable[[], None]:
        """`look` is called with each new picture, in the sink's thread: be quick. What is returned ends that."""
        with self._lock:
            wall = self._walls.setdefault(stream, _Wall())
            wall.looks.append(look)

        def leave() -> None:
            with self._lock:
                if look in wall.looks:
                    wall.looks.remove(look)
                self._let_go(stream, wall)

        return leave

    def forget(self, stream: str) -> None:
        """The stream is no more. Whoever looks at it sees it again if it comes back before they leave."""
        with self._lock:
            if (wall := self._walls.get(stream)) is not None:
                wall.is_there, wall.latest = False, None
                self._let_go(stream, wall)

    def _let_go(self, stream: str, wall: _Wall) -> None:
        """The lock is held."""
        if not wall.is_there and not wall.looks:
            self._walls.pop(stream, None)


class _Wall:
    """Of one stream."""

    __slots__ = ("clock", "is_there", "latest", "looks", "pace")

    def __init__(self) -> None:
        self.is_there = False  # pictures came of it, and it was not removed since
        self.latest: Shot | None = None
        self.looks: list[Look] = []
        self.pace = _Pace()
        self.clock = _Clock()


class _Pace:
    """Says which pictures are shown, so that no more than so many a second are. Those of a camera with as many come a
    little early as often as late, and all of them stay."""

    def __init__(self) -> None:
        self._due_ns = 0

    def due(self, now_ns: int, most_fps: int) -> bool:
        period_ns = 1_000_000_000 // most_fps
        if now_ns < self._due_ns - period_ns // 2:
            return False
        self._due_ns = max(self._due_ns, now_ns - period_ns) + period_ns
        return True


class _Clock:
    """Media time as RTP has it. A receiver plays by it, so it may not run away from real time, as that of a film does
    which is read as fast as it goes, and never goes back, as it does with another connection."""

    def __init__(self) -> None:
        self._zero_ns: int | None = None
        self._offset_ns = 0
        self._last = -1
        self.hurries = False  # media time goes faster than that on the wall

    def ticks(self, pts_ns: int, now_ns: int) -> int:
        if self._zero_ns is None:
            self._zero_ns, self._offset_ns = now_ns, -pts_ns
        elapsed_ns = now_ns - self._zero_ns
        shown_ns = pts_ns + self._offset_ns
        kept_ns = max(elapsed_ns - _ADRIFT_NS, min(shown_ns, elapsed_ns + _ADRIFT_NS))
        self._offset_ns += kept_ns - shown_ns
        self.hurries = kept_ns < shown_ns
        self._last = max(self._last + 1, kept_ns * TICKS_PER_S // 1_000_000_000)
        return self._last


class GallerySink(OwnSink):
    """The sink that writes into a `Gallery`."""

    takes: ClassVar[frozenset[str]] = frozenset({"pictures"})
    backlog: ClassVar[int] = 8
    fleeting: ClassVar[bool] = True
