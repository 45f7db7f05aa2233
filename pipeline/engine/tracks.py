"""Which box of this picture is which of the last one's: ByteTrack, told how much time went by.

The library's motion noise is tuned for a step of one frame. How long that is, is learnt from the stream, and each step
is given as so many of them: a hole in the stream is a long step, and a camera of 3 frames a second has no long steps.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from pipeline.core.errors import MissingPart
from pipeline.core.records import Box, Detection, Window

_LEARNS = 1 / 16  # of a new step's share in the usual one
_FRAME_RATE = 25.0  # the library's own unit: it takes what is within 4 ms of a frame for a whole one
_FOR_EVER = 1_000_000  # frames: who is gone, is said here
_LEAST_OVERLAP = 0.1
_BUFFER = 0.3  # boxes are grown by so much of their size before they are compared: people go far in a third of a second


def need_tracking() -> None:
    """Raises `MissingPart` where the library is not installed."""
    if importlib.util.find_spec("trackers") is None:
        raise MissingPart("tracking needs the package trackers: pip install 'thresher[track]'")


def load_tracking() -> None:
    """Import the library, which takes more than a second: no live window shall wait for that. Raises `MissingPart`."""
    need_tracking()
    import_module("trackers")


@dataclass(slots=True)
class Track:
    """One object on its way."""

    id: str
    box: Box
    seen_ns: int  # media time at which its last window ended
    windows: int = 1
    stood: dict[str, tuple[float, float]] = field(default_factory=dict)  # by line, see `Places.crossed`


class Steps:
    """The time of one stream, counted in its usual steps."""

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._usual_ns = 0.0
        self.count = 0.0

    def to(self, now_ns: int) -> float:
        if self._last_ns is not None and now_ns > self._last_ns:
            step = now_ns - self._last_ns
            self._usual_ns += (step - self._usual_ns) * _LEARNS if self._usual_ns else step
            self.count += step / self._usual_ns
        self._last_ns = now_ns
        return self.count

    def state(self) -> dict[str, Any]:
        return {"last_ns": self._last_ns, "usual_ns": self._usual_ns, "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        self._last_ns, self._usual_ns, self.count = state["last_ns"], state["usual_ns"], state["count"]


class Tracks:
    """The objects of one label in one stream and epoch."""

    def __init__(self, label: str, open_at: float) -> None:
        """What scores below `open_at` carries a track on, but begins none. Raises `MissingPart`."""
        need_tracking()
        import supervision
        from trackers import BIoU, ByteTrackTracker

        self._label, self._open_at = label, open_at
        self._boxes = supervision.Detections
        self._tracker = ByteTrackTracker(
            lost_track_buffer=_FOR_EVER,
            frame_rate=_FRAME_RATE,
            track_activation_threshold=0.0,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=_LEAST_OVERLAP,
            high_conf_det_threshold=open_at,
            iou=BIoU(_BUFFER),
        )
        self._known: dict[int, Track] = {}
        self._next = 0

    def forget(self, before_ns: int) -> None:
        """Who was last seen before that is gone for good."""
        gone = {number for number, track in self._known.items() if track.seen_ns < before_ns}
        if gone:
            self._known = {number: track for number, track in self._known.items() if number not in gone}
            self._tracker.tracks = [one for one in self._tracker.tracks if one.tracker_id not in gone]

    def follow(self, window: Window, step: float, found: Sequence[tuple[int, Detection]]) -> dict[int, Track]:
        """The track of each detection, by the number beside it; none for what begins none. `step` is the window's time
        by `Steps`."""
        if not found and not self._known:
            return {}
        numbers = self._update([one.box for _, one in found if one.box is not None], [d.score for _, d in found], step)
        tracks: dict[int, Track] = {}
        for (n, detection), number in zip(found, numbers, strict=True):
            if number is None or detection.box is None:
                continue
            track = self._known.get(number)
            if track is None:
                name = f"{window.stream}/{window.epoch}/{self._label}/{window.seq}.{n}"
                track = self._known[number] = Track(name, detection.box, window.end_ns)
            else:
                track.box, track.seen_ns, track.windows = detection.box, window.end_ns, track.windows + 1
            tracks[n] = track
        return tracks

    def _update(self, boxes: Sequence[Box], scores: Sequence[float], step: float) -> list[int | None]:
        """The number of each box's track; None where it has none."""
        seen = self._boxes(
            xyxy=np.array(boxes, np.float64).reshape(-1, 4),
            confidence=np.array(scores, np.float64),
            class_id=np.arange(len(boxes)),  # it comes back in another order
        )
        told = self._tracker.update(seen, timestamp=step / _FRAME_RATE)
        numbers: list[int | None] = [None] * len(boxes)
        fresh: list[int] = []
        for index, number in zip(told.class_id if len(told) else (), told.tracker_id, strict=True):
            if number >= 0:
                numbers[index] = int(number)
            elif scores[index] >= self._open_at:
                fresh.append(int(index))
        # it numbers a track at its second box: we do so at its first, so that whoever is seen once can be told of
        for index, one in zip(fresh, [one for one in self._tracker.tracks if one.tracker_id < 0], strict=True):
            one.tracker_id = numbers[index] = self._next
            self._next += 1
        return numbers

    def state(self) -> Any:
        """As plain JSON data."""
        return _TRACKS.dump_python(list(self._known.values()), mode="json")

    def restore(self, state: Any, step: float) -> None:
        """Tracks go on from their last boxes, under their old names; how fast they were is learnt anew. Raises
        `ValueError`."""
        known = _TRACKS.validate_python(state)
        numbers = self._update([track.box for track in known], [1.0] * len(known), step)
        self._known = {number: track for number, track in zip(numbers, known, strict=True) if number is not None}


_TRACKS = TypeAdapter(list[Track])
