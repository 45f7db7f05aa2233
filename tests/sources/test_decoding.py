"""The law that nothing received goes missing, under every kind of damage."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.records import Item
from sources.decoding import Decoder
from tests.contracts import source_suite as suite

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"
FRAMES = 24
FORMATS = {"libx264": "mpegts", "mpeg4": "avi", "mjpeg": "avi", "libvpx": "matroska"}


@cache
def film(codec: str, shape: str) -> bytes:
    """Noise on a moving edge: packets of some hundred bytes each, with B-frames where the codec has them."""
    rng = np.random.default_rng(5)
    target = io.BytesIO()
    with av.open(target, "w", format=shape) as container:
        stream = container.add_stream(codec, rate=Fraction(10), options={"g": "8"})
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for n in range(FRAMES):
            pixels = rng.integers(0, 60, (48, 64, 3), np.uint8)
            pixels[:, n * 2 :] += 120
            container.mux(stream.encode(VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return target.getvalue()


def packets(container: InputContainer) -> Iterator[Packet[VideoStream]]:
    for packet in container.demux(video=0):
        if packet.dts is not None or packet.size:
            yield packet


def decode(
    container: InputContainer, arriving: Sequence[Packet[VideoStream]], threads: int
) -> tuple[Decoder, list[Item]]:
    """`mono_ns` is the packet's number, from 1."""
    decoder = Decoder(suite.STREAM, "E" * 26)
    decoder.attach(container.streams.video[0], threads=threads)
    items: list[Item] = []
    for n, packet in enumerate(arriving, 1):
        items += decoder.feed(packet, n, 1_700_000_000_000_000_000)
    return decoder, [*items, *decoder.flush()]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("codec", sorted(FORMATS))
def test_intact(codec: str, threads: int) -> None:
    with av.open(io.BytesIO(film(codec, FORMATS[codec]))) as container:
        _, items = decode(container, list(packets(container)), threads)
    suite.check_items(items, received=FRAMES)


@pytest.mark.parametrize("threads", [1, 2])
def test_arrival_travels_with_the_frame(threads: int) -> None:
    with av.open(str(BIKES)) as container:
        arriving = list(packets(container))
        number = {packet.pts: n for n, packet in enumerate(arriving, 1)}
        assert sorted(number, key=lambda pts: pts or 0) != list(number), "this film has reordered frames"
        _, items = decode(container, arriving, threads)
    assert [c.mono_ns for c in suite.chunks(items)] == [number[pts] for pts in sorted(number, key=lambda pts: pts or 0)]


@settings(max_examples=60, deadline=None)
@given(
    codec=st.sampled_from(sorted(FORMATS)),
    threads=st.sampled_from([1, 2]),
    lost=st.sets(st.integers(0, FRAMES - 1), max_size=FRAMES),
    hurt=st.dictionaries(st.integers(0, FRAMES - 1), st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=6),
    cut=st.dictionaries(st.integers(0, FRAMES - 1), st.floats(0, 1), max_size=3),
    flagged=st.sets(st.integers(0, FRAMES - 1), max_size=3),
)
def test_every_packet_is_accounted_for(
    codec: str,
    threads: int,
    lost: set[int],
    hurt: dict[int, tuple[float, int]],
    cut: dict[int, float],
    flagged: set[int],
) -> None:
    """Packets are lost, flipped, cut short and flagged as damaged on the way."""
    with av.open(io.BytesIO(film(codec, FORMATS[codec]))) as container:
        arriving = []
        for n, packet in enumerate(packets(container)):
            if n in lost:
                continue
            data = bytearray(bytes(packet))
            if n in hurt:
                where, flip = hurt[n]
                data[int(where * (len(data) - 1))] ^= flip
            if n in cut:
                del data[int(cut[n] * len(data)) :]
            copy: Packet[VideoStream] = Packet(bytes(data))
            copy.stream, copy.pts, copy.dts, copy.duration = packet.stream, packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe, copy.is_corrupt = packet.time_base, packet.is_keyframe, n in flagged
            arriving.append(copy)
        decoder, items = decode(container, arriving, threads)
    suite.check_items(items, received=len(arriving), intact=False)
    assert decoder.received == len(arriving) and decoder.chunks == len(suite.chunks(items))
    suspects = {n for n, packet in enumerate(arriving, 1) if packet.is_corrupt}
    assert not suspects & {c.mono_ns for c in suite.chunks(items)}, "what came damaged is never judged"


def test_a_stream_without_time_stamps_gets_them_from_its_rate() -> None:
    with av.open(io.BytesIO(film("mjpeg", "avi"))) as container:
        arriving = list(packets(container))
        for packet in arriving:
            packet.pts = packet.dts = None
        _, items = decode(container, arriving, 1)
    assert [c.pts_ns for c in suite.chunks(items)] == [n * 100_000_000 for n in range(FRAMES)]


def test_gaps_come_in_time_on_an_endless_stream() -> None:
    """A live stream has no end at which to count what never came out."""
    with av.open(io.BytesIO(film("libx264", "mpegts"))) as container:
        arriving = [packet for packet in packets(container) if not packet.is_keyframe]
        decoder = Decoder(suite.STREAM, "E" * 26)
        decoder.attach(container.streams.video[0], threads=1)
        items = [item for _ in range(4) for packet in arriving for item in decoder.feed(packet, 1, 1)]
    assert sum(map(suite.count, items)) >= len(arriving) * 4 - 25
