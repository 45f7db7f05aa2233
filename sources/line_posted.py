"""Parts that are posted: what stands between who posts them and who takes them in."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs

from av.video.frame import VideoFrame

from pipeline.core.pictures import BadPicture, TooLarge
from pipeline.core.records import Item, Watermark
from pipeline.core.settings import address
from sources.ffmpeg import new_epoch
from sources.http_server import Answer, PostServer, Request
from sources.parts import BadReference, Belt

if TYPE_CHECKING:
    from sources.line import Line

log = logging.getLogger(__name__)

PATH = "/part"
NAME_HEADER = "Part-Name"

_TICK_S = 0.5
_TELL_S = 1.0
_LONGEST_NAME = 200
_DECODERS = 4  # at once: a few bytes may hold many pixels, and whoever is connected may post such
_MOST_DECODED = 1 << 30  # bytes of decoded parts that wait


@dataclass(slots=True)
class _Place:
    """A part in the line, from the moment its picture was received whole. Decoded by whoever received it."""

    number: int
    name: str
    mono_ns: int
    frame: VideoFrame | None = None
    decoded: bool = False


class Inbox:
    """Parts in the order in which they arrived, `most` of them at a time. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._line: deque[_Place] = deque()
        self._next = 0
        self._bytes = 0
        self._open = False

    def open(self) -> None:
        """From now on somebody takes what comes: before, it would only grow old."""
        with self._changed:
            self._open = True

    def close(self) -> int:
        """Nothing more comes in. How many are left that nobody will take."""
        with self._changed:
            self._open = False
            left = len(self._line)
            self._line.clear()
            self._bytes = 0
            self._changed.notify_all()
            return left

    @property
    def has_room(self) -> bool:
        return self._open and len(self._line) < self._most and self.may_decode

    @property
    def may_decode(self) -> bool:
        return self._bytes < _MOST_DECODED

    def arrive(self, name: str) -> _Place | None:
        """A place for a part that arrives now, or None where there is none."""
        with self._changed:
            if not self.has_room:
                return None
            place = _Place(self._next, name, time.monotonic_ns())
            self._next += 1
            self._line.append(place)
            return place

    def decoded(self, place: _Place, frame: VideoFrame | None) -> None:
        """Its picture, or None where it is of no use. Each place gets this once."""
        with self._changed:
            place.frame, place.decoded = frame, True
            self._bytes += _bytes(frame)
            self._changed.notify_all()

    def take(self) -> _Place | None:
        """The next part, once it is decoded; None where that takes more than half a second."""
        with self._changed:
            if self._changed.wait_for(lambda: bool(self._line) and self._line[0].decoded, _TICK_S):
                place = self._line.popleft()
                self._bytes -= _bytes(place.frame)
                return place
            return None


def _bytes(frame: VideoFrame | None) -> int:
    return 0 if frame is None else sum(plane.buffer_size for plane in frame.planes)


class PostedReader:
    """The running part of a `Line` with `trigger: http`. A part arrives when its picture was received whole; a picture
    that is none is a part that nobody can judge, counted as undecoded. What was refused before it was read, for its
    size or for want of room, has not arrived. Media time begins with the reading."""

    def __init__(self, plan: Line, stream: str) -> None:
        self.epoch = new_epoch()
        self._stream = stream
        self._bench = plan.bench()
        self._belt = Belt(stream, self.epoch)
        self._inbox = Inbox(plan.waiting)
        self._decoders = threading.Semaphore(_DECODERS)
        self._told_s = 0.0
        self._closed = False
        self._server = PostServer(
            self, address(plan.listen), most_bytes=int(plan.max_mb * 1e6), connections=plan.connections
        )
        log.info("%s: post parts to http://%s:%d/part", stream, *self._server.address)

    @property
    def port(self) -> int:
        return self._server.address[1]

    # For whoever posts, in a thread of its own.

    paths: ClassVar[Mapping[str, str]] = {PATH: "picture"}

    def refusal(self, request: Request) -> Answer | None:
        """Why that part need not be sent at all."""
        try:
            name = _name(request)
        except ValueError as error:
            return Answer(400, {"error": str(error)})
        try:
            if name or self._bench.asks_for_names:
                self._bench.reference_of(name)
        except BadReference as error:
            return Answer(400, {"error": f"the part {error}"})
        if not self._inbox.has_room:
            return Answer(503, {"error": "there is no room for a part now"})
        return None

    def receive(self, request: Request, data: bytes) -> Answer:
        """A picture was received whole."""
        name = _name(request)
        place = self._inbox.arrive(name)
        if place is None:
            return Answer(503, {"error": "there is no room for a part now"})
        frame = None
        try:
            with self._decoders:
                if not self._inbox.may_decode:
                    return Answer(503, {"error": "there is no room for so large a part now"})
                frame = self._bench.decode(data, name)
        except BadPicture as error:
            self._tell(name, error)
            status = 422 if isinstance(error, BadReference) else 413 if isinstance(error, TooLarge) else 415
            return Answer(status, {"error": f"the part {error}"})
        finally:
            self._inbox.decoded(place, frame)
        return Answer(202, {"id": f"{self._stream}/{self.epoch}/{place.number}"})

    def _tell(self, name: str, error: BadPicture) -> None:
        """Once a second at most: who posts is told each time, and could fill the log."""
        if (now_s := time.monotonic()) - self._told_s >= _TELL_S:
            self._told_s = now_s
            log.warning("%s: the posted part %s %s", self._stream, name or "without a name", error)

    # For the engine.

    def __iter__(self) -> Iterator[Item]:
        start_ns = last_ns = time.monotonic_ns()
        self._inbox.open()
        while not self._closed:
            place = self._inbox.take()
            if place is None:
                yield Watermark(self._stream, time.monotonic_ns() - start_ns)
            elif place.frame is None:
                yield self._belt.gap()
            else:
                last_ns = max(place.mono_ns, last_ns + 1)
                yield self._belt.chunk(place.frame, place.name, last_ns, last_ns - start_ns)

    def close(self) -> None:
        self._closed = True
        left = self._inbox.close()
        self._server.close()
        if left:
            log.warning("%s: stopped before %d posted parts were taken in", self._stream, left)


def _name(request: Request) -> str:
    """Of the part, from the header or else the query; empty where it has none. Raises `ValueError`."""
    try:
        names = parse_qs(request.query, max_num_fields=8, errors="strict").get("name", [])
    except ValueError:
        raise ValueError("the query cannot be read") from None
    name: str = request.headers.get(NAME_HEADER) or (names[0] if names else "")
    if not is_name(name):
        raise ValueError("a part's name is a plain file name: no path, no hidden file, no control")
    return name


def is_name(name: str) -> bool:
    """Whether `name` may name a part: it goes into results, and may lead to a reference in a folder."""
    sound = name.isprintable() and not {"/", "\\"} & set(name) and not name.startswith(".")
    return sound and len(name.encode("utf-8", "replace")) <= _LONGEST_NAME
