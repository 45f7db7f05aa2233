"""Packets of RTP in, whole frames out: what stands in for aiortc's own buffer in front of our decoders.

aiortc's gives a frame out when the next one begins to arrive, 67 ms late at 15 frames a second, and where a packet is
lost for good it waits until 512 others are there. RTP's marker tells the end of a frame with its last packet; and a
lost packet is waited for as long as sending it again may take, no longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sources.mailbox import Mailbox

if TYPE_CHECKING:
    from aiortc.rtp import RtpPacket

_PATIENCE_NS = {"video": 200_000_000, "audio": 60_000_000}
_KEY_EVERY_NS = 500_000_000  # a sender may take a while to make one, and each costs it bandwidth
_LEAP = 3000  # packets; what is further away is another stream, or was too long away
_MOST = 4096  # packets held: a key frame of 8K has less
_NAL_SLICES, _NAL_KEYS, _NAL_BUNDLE, _NAL_PART = frozenset({1, 5}), frozenset({5, 7}), 24, 28


@dataclass(frozen=True, slots=True)
class Encoded:
    """One frame, whole. `stamp` counts in units of its clock from the same zero as `mono_ns`; `mono_ns` and `wall_ns`
    are when its first packet came."""

    kind: Literal["video", "audio"]
    codec: str
    data: bytes
    stamp: int
    mono_ns: int
    wall_ns: int
    key: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames of which something came, and that are not to be decoded, and why."""

    kind: Literal["video", "audio"]
    reason: Literal["damaged", "undecoded"]
    count: int = 1


Arrived: TypeAlias = Encoded | Lost
_Held: TypeAlias = "tuple[RtpPacket, int]"  # with its arrival


class Assembly:
    """Of one track. `add` is called on the network's loop, by aiortc, once for each packet, its payload unpacked.

    A frame builds upon the one before: where one is lost, those that follow are passed over as damaged until a key
    frame comes, which is asked for. In front of a full mailbox the same is done.
    """

    def __init__(
        self,
        kind: Literal["video", "audio"],
        codecs: Mapping[int, str],
        clock_rate: int,
        mailbox: Mailbox[Arrived],
        *,
        flows: Callable[[int], None] = lambda _: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`codecs` by payload type; `flows` is told when each packet came."""
        self._kind, self._codecs, self._rate = kind, codecs, clock_rate
        self._mailbox, self._flows, self._now_ns = mailbox, flows, clock
        self._wants_key = False  # set by whoever decodes
        self._asked_ns = -_KEY_EVERY_NS
        self._unsaid = 0  # frames that found no room, and nobody was told of yet
        self._ssrc: int | None = None
        self._zero = self._last = 0  # where time stamps begin by our clock, and the last one
        self._broken = kind == "video"
        self._begin(0)

    def ask_for_key(self) -> None:
        """From any thread: the decoder has lost its thread."""
        self._wants_key = True

    def _begin(self, seq: int) -> None:
        """Nothing is known of what came before."""
        self._packets: dict[int, _Held] = {}
        self._next = seq  # where the next frame begins
        self._seen = seq  # up to there, all of it is there
        self._newest = seq
        self._hole_ns: int | None = None
        self._stamp: int | None = None
        self._given_up: int | None = None  # the frame of which more may come

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """As aiortc's buffer: whether a key frame is to be asked for, and never a frame for its own decoder."""
        now = self._now_ns()
        self._flows(now)
        seq = self._extended(packet, now)
        if seq >= self._next and len(self._packets) < _MOST:
            self._packets.setdefault(seq, (packet, now))
        self._newest = max(self._newest, seq)
        self._deliver()
        self._wait(now)
        return self._asks(now), None

    def _extended(self, packet: RtpPacket, now: int) -> int:
        """Its number, carried on where RTP's own begins anew."""
        number = packet.sequence_number
        seq = self._newest + ((number - self._newest + 0x8000) & 0xFFFF) - 0x8000
        if packet.ssrc == self._ssrc and abs(seq - self._newest) < _LEAP:
            return seq
        if self._packets:
            self._lose("damaged")
        self._broken = self._kind == "video"
        self._ssrc = packet.ssrc
        self._begin(number)
        self._zero = -(-now * self._rate // 1_000_000_000)  # its own time stamps begin anywhere
        return number

    def _deliver(self) -> None:
        """All that is whole."""
        while (end := self._end()) is not None:
            frame = [self._packets.pop(seq) for seq in range(self._next, end)]
            self._next = self._seen = end
            self._hole_ns = None
            self._hand_over(frame)

    def _end(self) -> int | None:
        """Behind the last packet of the frame that begins at `_next`, once all of it is there."""
        while (held := self._packets.get(self._seen)) is not None:
            packet = held[0]
            if self._seen > self._next and packet.timestamp != self._packets[self._next][0].timestamp:
                return self._seen  # a sender that sets no marker
            self._seen += 1
            if packet.marker or self._kind == "audio":
                return self._seen
            if not packet.payload and self._seen == self._next + 1:  # to see how much the line carries
                return self._seen
        return None

    def _wait(self, now: int) -> None:
        """For what is missing, if anything; in vain: give that frame up, and the next one if that is as old."""
        while self._packets and self._seen <= self._newest:
            if self._hole_ns is None:
                behind = (mono_ns for seq, (_, mono_ns) in self._packets.items() if seq >= self._seen)
                self._hole_ns = min(behind, default=now)
            if now - self._hole_ns <= _PATIENCE_NS[self._kind] and len(self._packets) < _MOST:
                return
            self._give_up()
            self._deliver()

    def _give_up(self) -> None:
        """The frame with the hole in it is left out, and whatever of it lies behind the hole."""
        front = self._packets.get(self._next)
        behind = sorted(seq for seq in self._packets if seq >= self._seen)
        start = behind[0] if behind else self._seen
        if front is not None:
            self._lose("damaged")
            self._given_up = front[0].timestamp
            rest = (seq for seq in behind if self._packets[seq][0].timestamp != self._given_up)
            start = next(rest, behind[-1] + 1 if behind else self._seen)
        self._broken = self._kind == "video"
        self._packets = {seq: held for seq, held in self._packets.items() if seq >= start}
        self._next = self._seen = start
        self._hole_ns = None

    def _hand_over(self, frame: list[_Held]) -> None:
        data = b"".join(packet._data for packet, _ in frame)  # type: ignore[attr-defined]  # set by aiortc
        packet, mono_ns = frame[0]
        codec = self._codecs.get(packet.payload_type)
        if not data or codec is None or packet.timestamp == self._given_up:
            return
        key = self._kind == "audio" or any(_is_key(codec, one.payload) for one, _ in frame)
        if not _begins(codec, packet.payload) or (self._broken and not key):
            self._broken = True
            self._lose("damaged")
            return
        stamp = self._unwrapped(packet.timestamp)
        wall_ns = time.time_ns() - (self._now_ns() - mono_ns)
        one = Encoded(self._kind, codec, data, stamp, mono_ns, wall_ns, key)
        if self._tell(one):
            self._broken = False
        else:
            self._broken = self._kind == "video"
            self._unsaid += 1

    def _unwrapped(self, timestamp: int) -> int:
        """A frame's time stamp, carried on where RTP's own begins anew."""
        if self._stamp is None:
            self._stamp = self._zero
        else:
            self._stamp += ((timestamp - self._last + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        self._last = timestamp
        return self._stamp

    def _lose(self, reason: Literal["damaged", "undecoded"]) -> None:
        if not self._tell(Lost(self._kind, reason)):
            self._unsaid += 1

    def _tell(self, one: Arrived) -> bool:
        said: list[Arrived] = [Lost(self._kind, "undecoded", self._unsaid), one] if self._unsaid else [one]
        if not self._mailbox.offer(said):
            return False
        self._unsaid = 0
        return True

    def _asks(self, now: int) -> bool:
        if not (self._broken or self._wants_key) or now - self._asked_ns < _KEY_EVERY_NS:
            return False
        if self._kind == "audio" or (self._broken and self._packets and self._hole_ns is None):
            return False  # one may just be on its way
        self._asked_ns, self._wants_key = now, False
        return True


def _begins(codec: str, payload: bytes) -> bool:
    """Whether a frame can begin with this packet."""
    if codec == "VP8":
        return bool(payload[0] & 0x10) and not payload[0] & 0x07  # the start of the first partition
    if codec != "H264":
        return True
    kind, head = payload[0] & 0x1F, 1
    if kind == _NAL_PART:
        if len(payload) < 2 or not payload[1] & 0x80:
            return False
        kind, head = payload[1] & 0x1F, 2
    # a slice says where in the picture it begins: 0 is a single bit, 1
    return kind not in _NAL_SLICES or (len(payload) > head and bool(payload[head] & 0x80))


def _is_key(codec: str, payload: bytes) -> bool:
    """Whether this packet is of a frame that builds upon no other."""
    if codec == "VP8":
        return _begins(codec, payload) and _vp8_key(payload)
    if codec != "H264" or not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == _NAL_PART:
        return len(payload) > 1 and payload[1] & 0x1F in _NAL_KEYS
    if kind != _NAL_BUNDLE:
        return kind in _NAL_KEYS
    at = 1
    while at + 2 < len(payload):
        if payload[at + 2] & 0x1F in _NAL_KEYS:
            return True
        at += 2 + int.from_bytes(payload[at : at + 2], "big")
    return False


def _vp8_key(payload: bytes) -> bool:
    """RFC 7741: behind a descriptor of one to six bytes, the first bit of a key frame is 0."""
    at = 1
    if payload[0] & 0x80 and len(payload) > 1:
        extends = payload[1]
        at = 2
        if extends & 0x80 and len(payload) > at:
            at += 2 if payload[at] & 0x80 else 1
        at += bool(extends & 0x40) + bool(extends & 0x30)
    return len(payload) > at and not payload[at] & 0x01
