"""From verdicts to what a person wants to read: "person, 12:00:04 to 12:00:31", not 800 lines.

One tracker a stream; hysteresis on presence, a label at a time: an event opens after `start_after` windows with the
label, stays open over gaps shorter than `end_after_s` of media time, and ends at the last window that showed it.
Sounds, which have a time of their own, are told one by one (`utterances`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, TypeAdapter

from pipeline.core.records import Detection, Event, Outcome, Result, Window
from pipeline.core.settings import Settings
from pipeline.engine.utterances import Utterances


class EventSettings(Settings):
    """How verdicts become events."""

    labels: tuple[str, ...] | None = Field(
        default=None, description="only these labels make events; default: every label"
    )
    start_after: PositiveInt = Field(default=2, description="windows with the label before an event opens")
    end_after_s: NonNegativeFloat = Field(default=2.0, description="seconds without the label after which it ends")
    update_every_s: PositiveFloat = Field(default=5.0, description="an open event is reported again this often")


@dataclass(slots=True)
class _Open:
    """A label's presence, announced or not yet."""

    id: str
    first: Window
    last: Window
    best: Detection
    count: int
    windows: int = 0
    told_ns: int | None = None  # media time of the last report; None: not announced yet


class EventTracker:
    """Called with a stream's outcomes in their order."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._open: dict[str, _Open] = {}
        self._heard = Utterances(settings.start_after)
        self._epoch = ""

    def see(self, outcome: Outcome) -> Iterator[Event]:
        """Events that this outcome brings about. A window that was not judged neither feeds nor ends one by itself."""
        window = outcome.window
        if window.epoch != self._epoch:  # another connection: its media time has nothing to do with the old one's
            yield from self.end()
            self._epoch = window.epoch
        if self._open:
            yield from self._expire(window.start_ns)
        if not isinstance(outcome, Result):
            return
        wanted = self._settings.labels
        groups: dict[str, list[Detection]] = {}
        for detection in outcome.detections:
            if detection.span_ns is None and (wanted is None or detection.label in wanted):
                groups.setdefault(detection.label, []).append(detection)
        for label, found in groups.items():
            yield from self._present(label, found, window)
        heard = [one for one in outcome.detections if one.span_ns is not None]
        yield from self._heard.hear(outcome, [one for one in heard if wanted is None or one.label in wanted])

    def end(self) -> Iterator[Event]:
        """The stream ended or broke off: whatever is open ends with what was seen last."""
        for label in list(self._open):
            yield from self._close(label)
        yield from self._heard.end()

    def _present(self, label: str, found: list[Detection], window: Window) -> Iterator[Event]:
        best = max(found, key=lambda d: d.score)
        entry = self._open.get(label)
        if entry is None:
            name = f"{window.stream}/{window.epoch}/{label}/{window.seq}"
            entry = self._open[label] = _Open(name, window, window, best, len(found))
        entry.windows += 1
        entry.last = window
        entry.count = max(entry.count, len(found))
        if best.score > entry.best.score:
            entry.best = best
        if entry.told_ns is None:
            if entry.windows >= self._settings.start_after:
                entry.told_ns = window.start_ns
                yield _event("new", label, entry)
        elif window.start_ns - entry.told_ns >= self._settings.update_every_s * 1e9:
            entry.told_ns = window.start_ns
            yield _event("update", label, entry)

    def _expire(self, now_ns: int) -> Iterator[Event]:
        patience_ns = self._settings.end_after_s * 1e9
        for label in [name for name, entry in self._open.items() if now_ns - entry.last.end_ns > patience_ns]:
            yield from self._close(label)

    def _close(self, label: str) -> Iterator[Event]:
        entry = self._open.pop(label)
        if entry.told_ns is not None:
            yield _event("end", label, entry)

    # Across a restart.

    def state(self) -> dict[str, Any]:
        """All that it knows, as plain data: a tracker to which it is restored goes on as this one would have."""
        return {"epoch": self._epoch, "open": _OPEN.dump_python(self._open, mode="json"), "heard": self._heard.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises `ValueError` where it is no state of a tracker."""
        if not isinstance(epoch := state.get("epoch"), str):
            raise ValueError("no epoch")
        opened = _OPEN.validate_python(state.get("open"))
        self._heard.restore(state.get("heard"))
        self._epoch, self._open = epoch, opened


_OPEN = TypeAdapter(dict[str, _Open])


def _event(kind: Literal["new", "update", "end"], label: str, entry: _Open) -> Event:
    first, last = entry.first, entry.last
    return Event(
        id=entry.id,
        kind=kind,
        stream=first.stream,
        label=label,
        start_ns=first.start_ns,
        end_ns=last.end_ns,
        start_wall_ns=first.start_wall_ns,
        end_wall_ns=last.end_wall_ns,
        windows=entry.windows,
        count=entry.count,
        best=entry.best,
    )
