"""Holds pictures back for a while, until what a policy rules over their time is known, and does it to them.

A delay is media time: a picture is handed on once a later one of its stream is `delay` ahead of it, or at the end. Each
is held as a JPEG, and at most `MOST_HELD` of a stream: at 1280 pixels across some 100 to 200 KiB each, so 120 MiB a
stream at worst. Where a stream has more in its delay, the oldest go on before their time, counted.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.core.records import Array, Outcome, Result, Window
from pipeline.core.rulings import Ruling
from sinks.annotate import drawing

MOST_HELD: Final = 600
_MOST_ENDED: Final = 256  # rulings that are over and may still be in force for a picture that is held
_QUALITY: Final = 92
_BLOCKS: Final = 8  # that are left of the longer side of what is pixelated


@dataclass(frozen=True, slots=True)
class Held:
    """A picture that waits, and how much smaller than its source it is."""

    outcome: Outcome
    jpeg: Any
    scale: float


class Interceptor:
    """Of one sink, used by its thread. Raises `MissingPart` where OpenCV cannot be used."""

    def __init__(self, delay_s: float) -> None:
        self._cv2 = drawing()
        self._delay_ns = round(delay_s * 1e9)
        self._held: dict[str, deque[Held]] = {}
        self._going: dict[tuple[str, str], Ruling] = {}  # of each rule of a show the last, if it has not ended
        self._ended: OrderedDict[str, Ruling] = OrderedDict()
        self.early = 0  # pictures that went on before their time

    def ruled(self, ruling: Ruling) -> None:
        """A rule has one action at a time: another one that begins says that the one before is over, should its end
        have been lost."""
        rule = ruling.show, ruling.rule
        before = self._going.get(rule)
        if ruling.kind != "end":
            if ruling.id in self._ended:  # it came again after a hitch
                return
            if before is not None and before.id != ruling.id:
                self._end(replace(before, kind="end"))
            self._going[rule] = ruling
            return
        if before is not None and before.id == ruling.id:
            del self._going[rule]
        self._end(ruling)

    def _end(self, ruling: Ruling) -> None:
        self._ended[ruling.id] = ruling
        while len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def hold(self, outcome: Outcome, pixels: Array, scale: float) -> Iterator[tuple[Outcome, Array, float]]:
        """Take a picture, uint8 RGB `[h, w, 3]`, and hand on what it makes due."""
        window = outcome.window
        line = self._held.setdefault(window.stream, deque())
        last = line[-1].outcome.window if line else None
        if last is not None and last.epoch == window.epoch and last.seq >= window.seq:
            return  # it came again after a hitch
        if last is not None and (last.epoch != window.epoch or last.start_ns > window.start_ns):
            yield from self._let_go(line, len(line))  # another time line begins: nothing says how far that one is
        good = [self._cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        _, jpeg = self._cv2.imencode(".jpg", self._cv2.cvtColor(pixels, self._cv2.COLOR_RGB2BGR), good)
        line.append(Held(outcome, jpeg, scale))
        due = sum(window.start_ns - one.outcome.window.start_ns >= self._delay_ns for one in line)
        if len(line) - due > MOST_HELD:
            self.early += len(line) - due - MOST_HELD
            due = len(line) - MOST_HELD
        yield from self._let_go(line, due)

    def rest(self) -> Iterator[tuple[Outcome, Array, float]]:
        """All that is still held: nothing more comes."""
        for line in self._held.values():
            yield from self._let_go(line, len(line))

    def forget(self, stream: str) -> Iterator[tuple[Outcome, Array, float]]:
        """All that is held of one stream, of which nothing more comes."""
        line = self._held.pop(stream, deque())
        yield from self._let_go(line, len(line))

    def _let_go(self, line: deque[Held], count: int) -> Iterator[tuple[Outcome, Array, float]]:
        for _ in range(count):
            one = line.popleft()
            pixels = self._cv2.cvtColor(self._cv2.imdecode(one.jpeg, self._cv2.IMREAD_COLOR), self._cv2.COLOR_BGR2RGB)
            yield one.outcome, pixels, one.scale

    def in_force(self, window: Window) -> list[Ruling]:
        """What is ruled over the time that `window` shows, as far as it is known by now."""
        everything = (*self._going.values(), *self._ended.values())
        return [one for one in everything if _meant(one, window) and _covers(one, window)]

    def apply(self, pixels: Array, outcome: Outcome, scale: float, rulings: Sequence[Ruling]) -> None:
        """Blur and block, in place. What is muted or flagged looks as it did."""
        actions = {one.action for one in rulings}
        if "block" in actions:
            pixels[:] = 0
            return
        for one in rulings:
            if one.action == "blur":
                self._blur(pixels, outcome, scale, one)

    def _blur(self, pixels: Array, outcome: Outcome, scale: float, ruling: Ruling) -> None:
        """The things that it is about, where they can be seen; else all of it: nobody says where they are."""
        labels = {one.label for one in ruling.evidence}
        found = outcome.detections if isinstance(outcome, Result) else ()
        boxes = [one.box for one in found if one.box is not None and one.label in labels]
        height, width = pixels.shape[:2]
        for box in boxes or [(0, 0, width / scale, height / scale)]:
            left, top, right, bottom = (round(side * scale) for side in box)
            self._pixelate(pixels[max(0, top) : max(0, bottom), max(0, left) : max(0, right)])

    def _pixelate(self, part: Array) -> None:
        height, width = part.shape[:2]
        if not (height and width):
            return
        block = max(1, -(-max(height, width) // _BLOCKS))
        small = self._cv2.resize(part, (-(-width // block), -(-height // block)), interpolation=self._cv2.INTER_AREA)
        part[:] = self._cv2.resize(small, (width, height), interpolation=self._cv2.INTER_NEAREST)


def _meant(ruling: Ruling, window: Window) -> bool:
    """Whether it is done to the window's stream; what mutes a track is told of on the picture beside it."""
    return any(
        name == window.stream or (ruling.action == "mute" and _of(name, window.stream)) for name in ruling.targets
    )


def _of(name: str, stream: str) -> bool:
    """Whether it is the stream, or a further track of its reader."""
    return name == stream or name.startswith(f"{stream}.")


def _covers(ruling: Ruling, window: Window) -> bool:
    """By the media clock of the window's own connection; by the one on the wall where the ruling does not know it."""
    first_ns, last_ns, start_ns, end_ns = window.start_ns, window.end_ns, ruling.start_ns, ruling.end_ns
    same = (one for one in ruling.anchors if one.epoch == window.epoch and _of(one.stream, window.stream))
    anchor = next(same, None)
    if anchor is not None:
        start_ns, end_ns = start_ns + anchor.zero_ns, end_ns + anchor.zero_ns
    else:
        first_ns, last_ns = window.start_wall_ns, window.end_wall_ns
        start_ns, end_ns = ruling.start_wall_ns, ruling.end_wall_ns
    return start_ns < max(last_ns, first_ns + 1) and (ruling.kind != "end" or first_ns < end_ns)
