"""The `events` section: zones and lines lie in pictures of streams that there are, and of labels that are reported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from pipeline.app.config.document import Key
from pipeline.app.config.mistakes import Mistakes
from pipeline.core.catalogue import nearest
from pipeline.core.errors import InputError
from pipeline.core.media import Medium
from pipeline.engine.event_settings import EventSettings, Line, Zone
from pipeline.engine.tracks import need_tracking

_KEY: Key = ("events",)


def check_places(events: EventSettings, running: Mapping[str, Medium], mistakes: Mistakes) -> None:
    """`running` are the sources of this run, and what each hands over."""
    if events.track:
        try:
            need_tracking()
        except InputError as error:
            mistakes.take(error, (*_KEY, "track"))
    for key, place in _places(events):
        if place.stream is None or running.get(place.stream) == "picture":
            continue
        pictures = [name for name, medium in running.items() if medium == "picture"]
        if place.stream in running:
            mistakes.add(f'"{place.stream}" has no pictures in which it could lie', (*key, "stream"))
        else:
            mistakes.add(_unknown("stream", place.stream, pictures), (*key, "stream"))


def check_event_labels(events: EventSettings, reported: Mapping[str, Sequence[str]], mistakes: Mistakes) -> None:
    """`reported` are the labels that the streams' cascades can report: of all streams, or nothing is checked."""
    everywhere = {label for labels in reported.values() for label in labels}
    for label in events.open_at:
        if label not in everywhere:
            mistakes.add(_unknown("label", label, everywhere), (*_KEY, "open_at", label))
    for key, place in _places(events):
        known = everywhere if place.stream is None else reported.get(place.stream, everywhere)
        for number, label in enumerate(place.labels or ()):
            if label not in known:
                mistakes.add(_unknown("label", label, known), (*key, "labels", str(number)))


def _places(events: EventSettings) -> Iterator[tuple[Key, Zone | Line]]:
    """Every zone and line, and where it stands."""
    for name, zone in events.zones.items():
        yield (*_KEY, "zones", name), zone
    for name, line in events.lines.items():
        yield (*_KEY, "lines", name), line


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    hint = nearest(name, sorted(known)) or (f" Known: {', '.join(sorted(known)[:12])}." if known else "")
    return f'there is no {what} "{name}".{hint}'
