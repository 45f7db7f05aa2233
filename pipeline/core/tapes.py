"""The last packets of a stream as they arrived, so that evidence can be cut from them without encoding anything anew.

Whoever cuts says up to where it is done (`Tape.let_go`); what nobody needs any more goes, and at the latest what is
more than the tape may hold: the oldest first, counted. Several cuts share the packets.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

MiB = 1 << 20
_AT_FIRST = 4 * MiB  # until somebody says how much
_SECOND = 1_000_000_000
FORMS = {"mp4": "mp4", "mov": "mov", "matroska": "mkv"}
"""Containers for cuts, by what plays widest, and how their files end. MP4 lacks G.711, QuickTime VP8."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One packet. `pts` and `dts` are in ticks of `base`, `at_ns` is its time of presentation by the sender's own
    stamps, which differ from media time by a constant (see `Tape.shift_ns`)."""

    number: int
    track: int
    data: bytes
    pts: int
    dts: int
    duration: int
    base: Fraction
    key: bool
    at_ns: int
    mono_ns: int

    def packet(self) -> Packet[Any]:
        packet = Packet(self.data)
        packet.pts, packet.dts, packet.duration, packet.time_base = self.pts, self.dts, self.duration, self.base
        packet.is_keyframe = self.key
        return packet


class Tape:
    """Of one connection: a bounded ring. The reader's thread puts packets on it, a sink's takes them. Thread-safe."""

    def __init__(self, *tracks: VideoStream | AudioStream) -> None:
        """The first of `tracks` is the picture's. Sound that no film can hold is left out."""
        self._lock = threading.Lock()
        self._pieces: deque[Piece] = deque()
        self._next = 0
        self._most, self._recorders = _AT_FIRST, 0
        self._holds: dict[object, int] = {}
        self._running = True
        self._end_ns = self._lift_ns = 0
        self._again = False
        self.bytes = 0
        self.dropped = 0
        """Packets that went for want of room, though somebody may have needed them."""
        self.over = False
        self._video = tracks[0].index
        self.form = ""
        """The name of the container format that a cut goes into: the first that holds all tracks."""
        self.templates: dict[int, Any] = {}
        if not any(self._fits(form, tracks) for form in FORMS) and not any(
            self._fits(form, tracks[:1]) for form in FORMS
        ):
            self._running = False

    def _fits(self, form: str, tracks: Sequence[VideoStream | AudioStream]) -> bool:
        # a container that nobody writes keeps what is known of each track: the reader's own may be closed any moment
        keeper = av.open(io.BytesIO(), "w", format=form)
        try:
            templates = {track.index: keeper.add_stream_from_template(track, opaque=True) for track in tracks}
        except (FFmpegError, ValueError):
            return False
        self.form, self.templates, self._keeper = form, templates, keeper
        return True

    @property
    def running(self) -> bool:
        return self._running

    @property
    def codecs(self) -> tuple[str, ...]:
        return tuple(template.codec_context.name for template in self.templates.values())

    # The reader's.

    def add(self, packet: Packet[Any], mono_ns: int) -> None:
        """Put it on the tape; nothing, when nobody records. It arrived at `mono_ns`."""
        track, base = packet.stream.index, packet.time_base
        pts = packet.pts if packet.pts is not None else packet.dts
        if not self._running or track not in self.templates or pts is None or base is None or not packet.size:
            return
        dts = pts if packet.dts is None else packet.dts
        at_ns = pts * base.numerator * _SECOND // base.denominator
        if self._again:
            self._lift_ns, self._again = self._end_ns - at_ns, False
        ticks = self._lift_ns * base.denominator // (base.numerator * _SECOND)
        pts, dts, at_ns = pts + ticks, dts + ticks, at_ns + self._lift_ns
        self._end_ns = max(self._end_ns, at_ns + (packet.duration or 1) * base.numerator * _SECOND // base.denominator)
        key = packet.is_keyframe or track != self._video
        data = bytes(packet)
        with self._lock:
            self._pieces.append(
                Piece(self._next, track, data, pts, dts, packet.duration or 0, base, key, at_ns, mono_ns)
            )
            self._next += 1
            self.bytes += len(data)
            while self.bytes > self._most and len(self._pieces) > 1:
                self._drop()
                self.dropped += 1

    def again(self) -> None:
        """The same film begins once more: its time goes on."""
        self._again = True

    def end(self) -> None:
        """No more will come."""
        self.over = True

    # Who records.

    def record(self, most_bytes: int) -> None:
        """Hold so much, or more where somebody else wants more."""
        with self._lock:
            self._most = max(self._most, most_bytes) if self._recorders else most_bytes
            self._recorders += 1

    def stop(self) -> None:
        """Nobody records: hold nothing."""
        with self._lock:
            self._running = False
            self._pieces.clear()
            self.bytes = 0

    def hold(self, who: object, number: int) -> None:
        """`who` needs nothing before the packet of that number any more; what nobody needs goes."""
        with self._lock:
            self._holds[who] = max(number, self._holds.get(who, 0))
            first = min(self._holds.values())
            while self._pieces and self._pieces[0].number < first:
                self._drop()

    def since(self, number: int) -> Sequence[Piece]:
        """What is there from that number on."""
        with self._lock:
            if not self._pieces:
                return ()
            skip = max(0, number - self._pieces[0].number)
            return tuple(self._pieces)[skip:] if skip < len(self._pieces) else ()

    def begin(self, at_ns: int) -> int | None:
        """The number of the key frame with which a cut that begins at `at_ns` has to begin; the first there is, where
        that is gone. None: there is none yet."""
        found = None
        with self._lock:
            for piece in self._pieces:
                if piece.track == self._video and piece.key:
                    if found is not None and piece.at_ns > at_ns:
                        break
                    found = piece.number
        return found

    def shift_ns(self, mono_ns: int, media_ns: int) -> int | None:
        """What to add to a packet's own time to get media time: told by the picture that arrived at `mono_ns` and is at
        `media_ns`. None where it is gone."""
        with self._lock:
            for piece in reversed(self._pieces):
                if piece.mono_ns == mono_ns and piece.track == self._video:
                    return media_ns - piece.at_ns
        return None

    def is_picture(self, piece: Piece) -> bool:
        return piece.track == self._video

    def _drop(self) -> None:
        self.bytes -= len(self._pieces.popleft().data)


@dataclass(frozen=True, slots=True)
class Recording:
    """A connection of these streams begins (a source and its further tracks), and this is its tape."""

    streams: tuple[str, ...]
    epoch: str
    tape: Tape
