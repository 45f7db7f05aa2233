"""RTP packets become whole frames or are counted: in any order, with losses, without aiortc's own waiting."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.mailbox import Mailbox
from sources.webrtc_rtp import Arrived, Assembly, Encoded, Lost

VP8, H264, OPUS = 97, 99, 96
CODECS = {VP8: "VP8", H264: "H264"}


@dataclass
class Packet:
    """What of aiortc's packet is looked at."""

    sequence_number: int
    timestamp: int
    payload: bytes
    marker: int = 0
    payload_type: int = VP8
    ssrc: int = 1
    _data: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._data = self.payload[1:]


def frame(number: int, parts: int, *, key: bool = False, first: int = 0, at: int | None = None) -> list[Packet]:
    """VP8's packets of a frame; the sequence begins at `first`."""
    stamp = (number * 6000 if at is None else at) & 0xFFFFFFFF
    return [
        Packet(
            (first + n) & 0xFFFF,
            stamp,
            bytes([0x10 if n == 0 else 0, (0 if key else 1) if n == 0 else 7, number & 0xFF, n]),
            int(n == parts - 1),
        )
        for n in range(parts)
    ]


class Line:
    """An assembly and a clock of its own."""

    def __init__(self, *, kind: str = "video", most: int = 1000) -> None:
        self.now_ns = 1_000_000_000
        self.mailbox: Mailbox[Arrived] = Mailbox(most)
        self.assembly = Assembly(kind, CODECS | {OPUS: "opus"}, 90_000, self.mailbox, clock=lambda: self.now_ns)  # type: ignore[arg-type]
        self.asked = 0

    def add(self, *packets: Packet, after_ms: float = 1) -> list[Arrived]:
        for packet in packets:
            self.now_ns += int(after_ms * 1e6)
            asks, nothing = self.assembly.add(packet)  # type: ignore[arg-type]
            assert nothing is None
            self.asked += asks
        return self.mailbox.take(0)


def frames(arrived: list[Arrived]) -> list[Encoded]:
    return [one for one in arrived if isinstance(one, Encoded)]


def lost(arrived: list[Arrived], reason: str = "damaged") -> int:
    return sum(one.count for one in arrived if isinstance(one, Lost) and one.reason == reason)


def test_a_frame_is_there_with_its_last_packet() -> None:
    line = Line()
    first, second = frame(0, 3, key=True), frame(1, 2, first=3)
    assert not line.add(*first[:2])
    (one,) = frames(line.add(first[2]))
    assert one.key and one.codec == "VP8" and one.data == b"".join(packet._data for packet in first)
    assert one.mono_ns == 1_001_000_000, "its first packet's arrival"
    (two,) = frames(line.add(*second))
    assert two.stamp - one.stamp == 6000 and not two.key
    assert line.asked == 0


def test_without_a_marker_the_next_frame_tells() -> None:
    line = Line()
    packets = frame(0, 2, key=True)
    packets[1].marker = 0
    assert not line.add(*packets)
    assert len(frames(line.add(*frame(1, 2, first=2)))) == 2


def test_before_the_first_key_frame_nothing_is_decoded_and_one_is_asked_for() -> None:
    line = Line()
    arrived = line.add(*frame(0, 2), *frame(1, 2, first=2))
    assert not frames(arrived) and lost(arrived) == 2
    assert line.asked == 1
    line.add(*frame(2, 1, first=4), after_ms=600)
    assert line.asked == 2, "the sender may not have heard"
    assert len(frames(line.add(*frame(3, 3, key=True, first=5)))) == 1


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_lost_packet_costs_its_frame_and_what_builds_upon_it(missing: int) -> None:
    line = Line()
    line.add(*frame(0, 2, key=True))
    hit = frame(1, 3, first=2)
    del hit[missing]
    arrived = line.add(*hit)
    for number in range(2, 8):
        arrived += line.add(*frame(number, 1, first=number + 3), after_ms=66)
    assert not frames(arrived)
    assert lost(arrived) == 7
    assert line.asked >= 1
    arrived = line.add(*frame(8, 2, key=True, first=11), *frame(9, 1, first=13))
    assert [one.stamp for one in frames(arrived)][-1] - frames(arrived)[0].stamp == 6000


def test_a_packet_that_is_sent_again_heals_it() -> None:
    line = Line()
    line.add(*frame(0, 2, key=True))
    late = frame(1, 3, first=2)
    assert not line.add(late[0], late[2], *frame(2, 1, first=5), after_ms=20)
    arrived = line.add(late[1])
    assert len(frames(arrived)) == 2 and not lost(arrived) and line.asked == 0


def test_another_sender_begins_anew() -> None:
    line = Line()
    (one,) = frames(line.add(*frame(0, 2, key=True)))
    other = frame(0, 2, key=True, first=60_000, at=123_456_789)
    for packet in other:
        packet.ssrc = 2
    (two,) = frames(line.add(*other, after_ms=1000))
    assert 85_000 < two.stamp - one.stamp < 95_000, "time goes on by arrival"


def test_numbers_and_time_stamps_begin_anew_in_the_middle() -> None:
    line = Line()
    begun = 0xFFFFFFFF - 9000
    arrived = line.add(*frame(0, 3, key=True, first=0xFFFE, at=begun))
    arrived += line.add(*frame(1, 3, first=1, at=begun + 6000), *frame(2, 1, first=4, at=begun + 12_000))
    stamps = [one.stamp for one in frames(arrived)]
    assert [b - a for a, b in itertools.pairwise(stamps)] == [6000, 6000]


def test_what_only_fills_the_line_is_no_frame() -> None:
    line = Line()
    line.add(*frame(0, 2, key=True))
    padding = [Packet(2 + n, 0, b"", 0) for n in range(3)]
    arrived = line.add(*padding, *frame(1, 2, first=5))
    assert len(frames(arrived)) == 1 and not lost(arrived)


def test_a_full_mailbox_counts_and_asks_for_a_key_frame() -> None:
    line = Line(most=2)
    packets = [packet for number in range(6) for packet in frame(number, 1, key=number == 0, first=number)]
    for packet in packets:
        line.now_ns += 1_000_000
        line.asked += line.assembly.add(packet)[0]  # type: ignore[arg-type]
    assert len(frames(line.mailbox.take(0))) == 2 and line.asked == 1
    arrived = line.add(*frame(6, 1, key=True, first=6))
    assert lost(arrived, "undecoded") == 4 and len(frames(arrived)) == 1


def test_h264_is_read_by_its_units() -> None:
    def unit(seq: int, stamp: int, payload: bytes, marker: int = 0) -> Packet:
        return Packet(seq, stamp, payload, marker, H264)

    line = Line()
    bundle = bytes([24, 0, 2, 0x67, 1, 0, 2, 0x68, 1])
    idr = [bytes([28, 0x85, 0x80]), bytes([28, 0x45, 0])]
    assert len(frames(line.add(unit(0, 0, bundle), unit(1, 0, idr[0]), unit(2, 0, idr[1], 1)))) == 1
    (plain,) = frames(line.add(unit(3, 6000, bytes([1, 0x80, 0]), 1)))
    assert not plain.key
    # its first slice is lost, and the second does not begin a picture
    arrived = line.add(unit(5, 12_000, bytes([1, 0x40, 0]), 1), after_ms=300)
    arrived += line.add(unit(6, 18_000, bytes([1, 0x80, 0]), 1), after_ms=300)
    assert not frames(arrived) and lost(arrived) == 2


def test_sound_goes_on_behind_a_lost_packet() -> None:
    line = Line(kind="audio")
    packets = [Packet(n, n * 960, bytes([1, n]), 0, OPUS) for n in range(10)]
    del packets[4]
    arrived = line.add(*packets, after_ms=20)
    assert [one.data[0] for one in frames(arrived)] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert not lost(arrived) and line.asked == 0


@given(st.integers(0, 2**32), st.lists(st.integers(1, 5), min_size=1, max_size=30), st.floats(0, 0.4))
def test_no_frame_is_lost_without_a_word(seed: int, sizes: list[int], share: float) -> None:
    """Each frame of which a packet came is handed over or counted, once; none is handed over with a part missing."""
    chance = random.Random(seed)
    line, number, arrived, whole, partly = Line(), 0, list[Arrived](), 0, 0
    for index, parts in enumerate(sizes):
        packets = frame(index, parts, key=index % 3 == 0, first=number)
        number += parts
        kept = [packet for packet in packets if chance.random() >= share]
        whole += len(kept) == parts
        partly += bool(kept)
        arrived += line.add(*kept, after_ms=30)
    for index in range(len(sizes), len(sizes) + 20):  # the end is waited for, too
        arrived += line.add(*frame(index, 1, key=True, first=number), after_ms=100)
        number += 1
    told = frames(arrived)
    assert all(len(one.data) == 3 * (sizes[n] if (n := one.data[1]) < len(sizes) else 1) for one in told)
    assert len(told) + lost(arrived) == partly + 20
    assert len([one for one in told if one.data[1] < len(sizes)]) <= whole
