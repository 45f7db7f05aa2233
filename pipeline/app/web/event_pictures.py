"""A picture of each event, for whoever looks at the list of them: the window in which it was told first, or a later
one that shows it clearly better.

Raw pictures; what was found in them, and where, stands in the JPEG's comment, so that both are there or neither is. Of
sounds and messages there is none: what was said is kept nowhere.
"""

from __future__ import annotations

import json
import logging
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from pydantic import PrivateAttr

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import FrameGone, InputError
from pipeline.core.files import UNFINISHED, write_whole
from pipeline.core.pictures import encode
from pipeline.core.records import Detection, Event, Result, detection_document, iso_time
from sinks.clip_folder import digest

log = logging.getLogger(__name__)

WIDTH = 640
_KEEP, _KEEP_BYTES = 5_000, 500_000_000
_BETTER = 0.05  # so much more of score is worth another picture
_MOST_OPEN = 1_000
_MOST_FOUND = 50
_OURS: Final = re.compile(r"[0-9a-f]{16}\.jpg")
_BEGIN, _COMMENT = b"\xff\xd8", b"\xff\xfe"


class EventPictures:
    """A bounded folder: the oldest go. Files of other names are left alone; whoever looks finds whole ones. Written by
    one thread, read by any."""

    def __init__(self, folder: Path, keep: int = _KEEP, keep_bytes: int = _KEEP_BYTES) -> None:
        self.folder = folder
        self._keep, self._keep_bytes = keep, keep_bytes
        self._sizes: dict[Path, int] = {}  # oldest first
        self._total = 0

    def open(self) -> None:
        """Take up what an earlier run left. Raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)
        known = [path for path in self.folder.iterdir() if _OURS.fullmatch(path.name) and path.is_file()]
        aged = sorted((found.st_mtime_ns, path, found.st_size) for path in known for found in (path.stat(),))
        self._sizes = {path: size for _, path, size in aged}
        self._total = sum(self._sizes.values())
        self._make_room(0)

    def put(self, event: str, jpeg: bytes, shows: dict[str, Any]) -> None:
        """Replaces the one before. Raises `OSError`."""
        comment = json.dumps(shows).encode()
        data = b"".join((_BEGIN, _COMMENT, struct.pack(">H", len(comment) + 2), comment, jpeg[len(_BEGIN) :]))
        path = self.folder / picture_name(event)
        self._make_room(len(data))
        self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
        write_whole(path, data)
        self._total += len(data) - self._sizes.pop(path, 0)
        self._sizes[path] = len(data)  # now the newest

    def _make_room(self, coming: int) -> None:
        while self._sizes and (len(self._sizes) >= self._keep or self._total + coming > self._keep_bytes):
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            self._total -= self._sizes.pop(oldest)

    def read(self, name: str) -> bytes | None:
        """The picture that goes by `name`, if there is one."""
        if not _OURS.fullmatch(name):
            return None
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    def shows(self, event: str) -> dict[str, Any] | None:
        """What the picture of `event` shows: window, time, size of the source picture, detections."""
        try:
            with (self.folder / picture_name(event)).open("rb") as file:
                head = file.read(6)
                if head[:4] != _BEGIN + _COMMENT:
                    return None
                found = json.loads(file.read(int.from_bytes(head[4:], "big") - 2))
                return found if isinstance(found, dict) else None
        except (OSError, ValueError):
            return None


def picture_name(event: str) -> str:
    """Of the file: an event's id may hold anything."""
    return f"{digest(event)}.jpg"


class EventPictureSink(Sink):
    """The sink behind `EventPictures`: made by the program itself, never by a config. It never fails: a picture that
    cannot be kept is no reason to lose a result."""

    takes: ClassVar[frozenset[str]] = frozenset({"pictures", "events"})
    backlog: ClassVar[int] = 64
    _into: EventPictures = PrivateAttr()

    @classmethod
    def into(cls, pictures: EventPictures) -> Self:
        sink = cls()
        sink._into = pictures
        return sink

    def open(self) -> Writer:
        try:
            self._into.open()
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror}", str(self._into.folder)) from error
        return _Writer(self._into)


class _Writer:
    def __init__(self, pictures: EventPictures) -> None:
        self._pictures = pictures
        self._open: dict[str, tuple[Event, float]] = {}  # with the score that its picture shows
        self._trouble = ""

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            if isinstance(item, Event) and item.kind == "end":
                self._open.pop(item.id, None)
            elif isinstance(item, Picture) and item.audit is None and isinstance(item.outcome, Result):
                self._look(item, item.outcome)

    def _look(self, picture: Picture, result: Result) -> None:
        """Pictures cost: one is made where an event begins, and where it is seen clearly better."""
        shown: dict[str, float] = {}
        for event in picture.events:
            score = _best(result, event.label)
            if event.kind == "new" and score is not None:
                shown[event.id] = score
                self._open[event.id] = event, score
                if len(self._open) > _MOST_OPEN:
                    del self._open[next(iter(self._open))]
        for name, (event, before) in self._open.items() if result.detections else ():
            if event.stream != result.window.stream or event.zone or event.track or name in shown:
                continue  # of those in a zone or on a track nobody says here which is which
            score = _best(result, event.label)
            if score is not None and score >= before + _BETTER:
                shown[name] = score
        if shown and (jpeg := self._encoded(picture)) is not None:
            for name, score in shown.items():
                event = self._open[name][0]
                self._open[name] = event, score
                self._keep(event, jpeg, picture, result)

    def _encoded(self, picture: Picture) -> bytes | None:
        if picture.image is None:
            return None
        try:
            return encode(picture.image.rgb(WIDTH), "jpg", fine=False)
        except FrameGone:
            return None

    def _keep(self, event: Event, jpeg: bytes, picture: Picture, result: Result) -> None:
        assert picture.image is not None
        found = sorted((one for one in result.detections if one.label == event.label), key=_by_score)[:_MOST_FOUND]
        shows = {
            "window": result.window.id,
            "time": iso_time(result.window.wall_ns),
            "width": picture.image.width,
            "height": picture.image.height,
            "detections": [detection_document(one) for one in found],
        }
        try:
            self._pictures.put(event.id, jpeg, shows)
            self._trouble = ""
        except (OSError, struct.error) as error:
            trouble = getattr(error, "strerror", None) or str(error)
            if trouble != self._trouble:
                log.warning("%s: pictures of events are not kept: %s", self._pictures.folder, trouble)
            self._trouble = trouble

    def close(self) -> None:
        self._open.clear()


def _best(result: Result, label: str) -> float | None:
    return max((one.score for one in result.detections if one.label == label), default=None)


def _by_score(one: Detection) -> float:
    return -one.score
