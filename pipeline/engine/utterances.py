"""From what overlapping windows hear to one event a sound: told while it goes on, ended as soon as it was heard whole.

A sound is in many windows: cut off at the end of those in which it begins, whole in those behind it. What covers the
same time is the same sound; its label is the one with the highest scores summed, whole hearings counting double.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from pipeline.core.records import Detection, Event, Result, Window

_EDGE_NS = 60_000_000  # so near a window's edge, a sound is taken for cut off
_SAME = 0.5  # of the shorter one: two spans that share it are one sound
_WHOLE = 2.0
_MOST = 64  # of sounds at once


@dataclass(slots=True)
class Utterance:
    """One sound, going on or ended."""

    id: str
    first: Window
    start_ns: int
    end_ns: int
    best: Detection
    votes: dict[str, float] = field(default_factory=dict)  # label → scores summed
    windows: int = 0
    starts: int = 0  # hearings of its beginning
    whole: bool = False
    told: str = ""  # the label that was told last
    over: bool = False

    @property
    def label(self) -> str:
        return max(self.votes, key=lambda label: self.votes[label])


_KNOWN = TypeAdapter(list[Utterance])


class Utterances:
    """Of one stream and epoch; called with its results in their order."""

    def __init__(self, start_after: int) -> None:
        self._start_after = start_after
        self._known: list[Utterance] = []

    def hear(self, result: Result, found: list[Detection]) -> Iterator[Event]:
        window = result.window
        for one in found:
            self._add(window, one)
        for sound in self._known:
            if sound.over:
                continue
            left = sound.end_ns < window.end_ns - _EDGE_NS
            if sound.windows >= self._start_after and (not sound.told or sound.told != sound.label):
                yield self._event(sound, "update" if sound.told else "new")
            if left:  # it was heard to its end
                sound.over = True
                if sound.told:
                    yield self._event(sound, "end")
        self._known = [sound for sound in self._known if sound.end_ns > window.start_ns]

    def end(self) -> Iterator[Event]:
        """Nothing more will come for now."""
        for sound in self._known:
            if not sound.over and sound.told:
                sound.over = True
                yield self._event(sound, "end")
        self._known = []

    def state(self) -> Any:
        """What is known, as plain data."""
        return _KNOWN.dump_python(self._known, mode="json")

    def restore(self, state: Any) -> None:
        """Raises `ValueError`."""
        self._known = _KNOWN.validate_python(state)

    def _add(self, window: Window, one: Detection) -> None:
        assert one.span_ns is not None
        start, end = one.span_ns
        begun, ended = start > window.start_ns + _EDGE_NS, end < window.end_ns - _EDGE_NS
        sound = self._same(start, end)
        if sound is None:
            if not begun and window.seq > 0 and self._known:
                return  # the rest of something that is known by another name, or was never heard whole
            if len(self._known) >= _MOST:
                return
            name = f"{window.stream}/{window.epoch}/sound/{window.seq}.{len(self._known)}"
            sound = Utterance(name, window, start, end, one)
            self._known.append(sound)
        elif sound.over:
            return
        sound.windows += 1
        vote = one.score * (_WHOLE if begun and ended else 1.0)
        sound.votes[one.label] = sound.votes.get(one.label, 0.0) + vote
        if one.score > sound.best.score:
            sound.best = one
        if begun:
            sound.starts += 1
            sound.start_ns += (start - sound.start_ns) // sound.starts
        if ended or not sound.whole:
            sound.end_ns = end if ended else max(sound.end_ns, end)
        sound.whole = sound.whole or ended

    def _same(self, start: int, end: int) -> Utterance | None:
        for sound in reversed(self._known):
            shared = min(end, sound.end_ns) - max(start, sound.start_ns)
            if shared >= _SAME * min(end - start, sound.end_ns - sound.start_ns):
                return sound
        return None

    def _event(self, sound: Utterance, kind: Literal["new", "update", "end"]) -> Event:
        sound.told = sound.label
        first = sound.first
        wall_ns = first.start_wall_ns + sound.start_ns - first.start_ns
        return Event(
            id=sound.id,
            kind=kind,
            stream=first.stream,
            label=sound.told,
            start_ns=sound.start_ns,
            end_ns=sound.end_ns,
            start_wall_ns=wall_ns,
            end_wall_ns=wall_ns + sound.end_ns - sound.start_ns,
            windows=sound.windows,
            count=1,
            best=sound.best,
        )
