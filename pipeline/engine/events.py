"""From verdicts to what a person wants to read: "person, 12:00:04 to 12:00:31", not 800 lines.

One tracker a stream; hysteresis on presence, a label at a time: an event opens after `start_after` windows with the
label, stays open over gaps shorter than `end_after_s` of media time, and ends at the last window that showed it.
With `track`, each object is an event of its own (`tracks`); zones and lines make events of what stands in them and
crosses them (`places`); a rate limit stands behind it all (`event_limit`).
Sounds, which have a time of their own, are told one by one (`utterances`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from pipeline.core.records import Detection, Event, Outcome, Result, Window
from pipeline.engine.event_limit import EventLimit
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.places import Direction, Places, Size
from pipeline.engine.tracks import Steps, Track, Tracks, load_tracking
from pipeline.engine.utterances import Utterances


class _Key(NamedTuple):
    """Whose presence it is: a label's, in a zone or anywhere, as a track or all of them together."""

    label: str
    zone: str = ""
    track: str = ""


@dataclass(slots=True)
class _Open:
    """A presence, announced or not yet."""

    id: str
    first: Window
    last: Window
    best: Detection
    count: int
    windows: int = 0
    told_ns: int | None = None  # media time of the last report; None: not announced yet


@dataclass(slots=True)
class _Seen:
    """What of a presence one window shows: the detections, and the number of the first among the window's."""

    n: int
    found: list[Detection]
    dwell_ns: int = 0


class EventTracker:
    """Called with a stream's outcomes in their order."""

    def __init__(self, settings: EventSettings) -> None:
        """Raises `MissingPart` where tracking is asked for and its library is not there."""
        if settings.track:
            load_tracking()
        self._settings = settings
        self._patience_ns = int(settings.end_after_s * 1e9)
        self._open: dict[_Key, _Open] = {}
        self._heard = Utterances(settings.start_after)
        self._limit = EventLimit(settings.most_per_minute)
        self._stream = self._epoch = ""
        self._places = Places(settings, "")
        self._size: Size | None = None
        self._steps = Steps()
        self._tracks: dict[str, Tracks] = {}  # by label

    def see(self, outcome: Outcome, size: Size | None = None) -> Iterator[Event]:
        """Events that this outcome brings about. A window that was not judged neither feeds nor ends one by itself.
        `size` is that of its picture; zones and lines are nowhere until one is known."""
        window = outcome.window
        if window.epoch != self._epoch:  # another connection: its media time has nothing to do with the old one's
            yield from self.end()
            self._begin(window)
        self._size = size or self._size
        yield from self._limit.let(self._bring(outcome))

    def _begin(self, window: Window) -> None:
        if window.stream != self._stream:
            self._stream, self._places = window.stream, Places(self._settings, window.stream)
        self._epoch = window.epoch
        self._steps, self._tracks = Steps(), {}
        self._limit.reconnected()

    def _bring(self, outcome: Outcome) -> Iterator[Event]:
        window, wanted = outcome.window, self._settings.labels
        if self._open:
            yield from self._expire(window.start_ns)
        if not isinstance(outcome, Result):
            return
        found = [(n, d) for n, d in enumerate(outcome.detections) if wanted is None or d.label in wanted]
        yield from self._shown(window, [(n, one) for n, one in found if one.span_ns is None])
        yield from self._heard.hear(outcome, [one for _, one in found if one.span_ns is not None])

    def end(self) -> Iterator[Event]:
        """The stream ended or broke off: whatever is open ends with what was seen last."""
        yield from self._limit.let(self._end())
        self._limit.say_rest(self._stream)

    def _end(self) -> Iterator[Event]:
        for key in list(self._open):
            yield from self._close(key)
        yield from self._heard.end()

    # What is seen.

    def _shown(self, window: Window, found: list[tuple[int, Detection]]) -> Iterator[Event]:
        tracks = self._follow(window, found) if self._settings.track else {}
        groups: dict[_Key, _Seen] = {}
        for n, one in found:
            track = tracks.get(n)
            if track is None and self._settings.track and one.box is not None:
                continue  # too low a score to begin with
            name = "" if track is None else track.id
            if self._places.whole:
                groups.setdefault(_Key(one.label, "", name), _Seen(n, [])).found.append(one)
            if one.box is None or self._size is None or not self._places:
                continue
            anchor = self._places.anchor(one.box, self._size)
            for place, zone in self._places.around(one.label, anchor):
                dwell_ns = int(zone.min_dwell_s * 1e9)
                groups.setdefault(_Key(one.label, place, name), _Seen(n, [], dwell_ns)).found.append(one)
            if track is not None:
                for place, way in self._places.crossed(one.label, anchor, track.stood):
                    if track.windows >= self._settings.start_after:
                        yield from _crossing(_Key(one.label, place, name), window, n, one, way)
        for key, seen in groups.items():
            yield from self._present(key, seen, window)

    def _follow(self, window: Window, found: list[tuple[int, Detection]]) -> dict[int, Track]:
        """The track of each detection that has one, by its number."""
        boxed: dict[str, list[tuple[int, Detection]]] = {label: [] for label in self._tracks}
        for n, one in found:
            if one.box is not None:
                boxed.setdefault(one.label, []).append((n, one))
        step, tracks = self._steps.to(window.start_ns), {}
        for label, those in boxed.items():
            if label not in self._tracks:
                self._tracks[label] = Tracks(label, self._settings.open_at.get(label, 0.0))
            self._tracks[label].forget(window.start_ns - self._patience_ns)
            tracks.update(self._tracks[label].follow(window, step, those))
        return tracks

    def _present(self, key: _Key, seen: _Seen, window: Window) -> Iterator[Event]:
        best = max(seen.found, key=lambda d: d.score)
        entry = self._open.get(key)
        low = best.score < self._settings.open_at.get(key.label, 0.0)
        if entry is None:
            if low:
                return
            entry = self._open[key] = _Open(_name(window, key, seen.n), window, window, best, len(seen.found))
        if entry.told_ns is None and low:
            return
        entry.windows += 1
        entry.last = window
        entry.count = max(entry.count, len(seen.found))
        if best.score > entry.best.score:
            entry.best = best
        if entry.told_ns is None:
            stayed_ns = window.end_ns - entry.first.start_ns
            if entry.windows >= self._settings.start_after and stayed_ns >= seen.dwell_ns:
                entry.told_ns = window.start_ns
                yield _event("new", key, entry)
        elif window.start_ns - entry.told_ns >= self._settings.update_every_s * 1e9:
            entry.told_ns = window.start_ns
            yield _event("update", key, entry)

    def _expire(self, now_ns: int) -> Iterator[Event]:
        gone = [key for key, entry in self._open.items() if now_ns - entry.last.end_ns > self._patience_ns]
        for key in gone:
            yield from self._close(key)

    def _close(self, key: _Key) -> Iterator[Event]:
        entry = self._open.pop(key)
        if entry.told_ns is not None:
            yield _event("end", key, entry)

    # Across a restart.

    def state(self) -> dict[str, Any]:
        """All that it knows, as plain data: a tracker to which it is restored goes on as this one would have."""
        return {
            "stream": self._stream,
            "epoch": self._epoch,
            "size": self._size,
            "open": _OPEN.dump_python(list(self._open.items()), mode="json"),
            "steps": self._steps.state(),
            "tracks": {label: tracks.state() for label, tracks in self._tracks.items()},
            "limit": self._limit.state(),
            "heard": self._heard.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a tracker with these settings stopped. Raises `ValueError` where it is no state of one."""
        try:
            opened = dict(_OPEN.validate_python(state["open"]))
            self._steps.restore(state["steps"])
            for label, tracks in state["tracks"].items() if self._settings.track else ():
                self._tracks[label] = Tracks(label, self._settings.open_at.get(label, 0.0))
                self._tracks[label].restore(tracks, self._steps.count)
            self._limit.restore(state["limit"])
            self._heard.restore(state["heard"])
            self._size = tuple(state["size"]) if state["size"] else None
            self._stream, self._epoch, self._open = state["stream"], state["epoch"], opened
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no state of events: {type(error).__name__} {error}") from error
        self._places = Places(self._settings, self._stream)


_OPEN = TypeAdapter(list[tuple[_Key, _Open]])


def _name(window: Window, key: _Key, n: int) -> str:
    """The same on every replay: where it began, and of several at once, as the which of that window's detections."""
    place = f"{key.label}@{key.zone}" if key.zone else key.label
    return f"{window.stream}/{window.epoch}/{place}/{window.seq}" + (f".{n}" if key.track else "")


def _event(kind: Literal["new", "update", "end"], key: _Key, entry: _Open, way: Direction | None = None) -> Event:
    first, last = entry.first, entry.last
    return Event(
        id=entry.id,
        kind=kind,
        stream=first.stream,
        label=key.label,
        start_ns=first.start_ns,
        end_ns=last.end_ns,
        start_wall_ns=first.start_wall_ns,
        end_wall_ns=last.end_wall_ns,
        windows=entry.windows,
        count=entry.count,
        best=entry.best,
        zone=key.zone,
        direction=way,
        track=key.track,
    )


def _crossing(key: _Key, window: Window, n: int, one: Detection, way: Direction) -> Iterator[Event]:
    """It is over as soon as it has happened."""
    entry = _Open(_name(window, key, n), window, window, one, 1, 1)
    yield _event("new", key, entry, way)
    yield _event("end", key, entry, way)
