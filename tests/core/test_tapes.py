"""The ring of packets: bounded, begun at key frames, shared."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import av
import pytest

from pipeline.core.tapes import MiB, Tape
from tests.sinks.clip_parts import FPS, make_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", 8, [(2.0, 3.0)])


def recorded(film: Path, most_bytes: int = 64 * MiB, rounds: int = 1) -> Tape:
    """A tape of the whole film; the picture at n / 25 s arrived at 1000 + n."""
    with av.open(str(film)) as container:
        tape = Tape(container.streams.video[0], container.streams.audio[0])
    tape.record(most_bytes)
    for number in range(rounds):
        with av.open(str(film)) as container:
            if number:
                tape.again()
            for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
                if packet.pts is not None:
                    shown = round(float(packet.pts * packet.time_base) * FPS)
                    tape.add(packet, 1000 + shown if packet.stream.type == "video" else 0)
    return tape


def test_a_cut_begins_at_the_key_frame_before(film: Path) -> None:
    tape = recorded(film)
    for at_s, key_s in ((0.0, 0), (0.99, 0), (1.0, 1), (4.5, 4), (99.0, 7)):
        number = tape.begin(int(at_s * 1e9))
        assert number is not None
        first = tape.since(number)[0]
        assert first.key and tape.is_picture(first) and first.at_ns == pytest.approx(key_s * 1e9, abs=1e6)
    assert tape.shift_ns(1000 + 50, 12_000_000_000) == pytest.approx(10_000_000_000, abs=1e6)
    assert tape.shift_ns(7, 0) is None


def test_it_is_bounded_and_says_what_it_dropped(film: Path) -> None:
    whole = recorded(film)
    pieces = whole.since(0)
    assert whole.bytes == sum(len(piece.data) for piece in pieces) and whole.dropped == 0
    tape = recorded(film, whole.bytes // 3)
    left = tape.since(0)
    assert tape.bytes == sum(len(piece.data) for piece in left) <= whole.bytes // 3
    assert tape.dropped == len(pieces) - len(left) > 0
    begin = tape.begin(0)
    assert begin is not None and tape.since(begin)[0].at_ns > 0, "what is gone is gone"


def test_what_one_still_needs_stays(film: Path) -> None:
    tape = recorded(film)
    one, other = object(), object()
    tape.hold(one, 0)
    tape.hold(other, 50)
    assert tape.since(0)[0].number == 0
    tape.hold(one, 30)
    assert tape.since(0)[0].number == 30 and tape.dropped == 0
    tape.hold(one, 10)
    assert tape.since(0)[0].number == 30, "nobody gets back what was let go"
    assert tape.since(10_000) == ()


def test_a_film_in_a_loop_has_one_time(film: Path) -> None:
    tape = recorded(film, rounds=3)
    shown = sorted(piece.at_ns for piece in tape.since(0) if tape.is_picture(piece))
    assert len(shown) == 3 * 8 * FPS
    steps = [after - before for before, after in pairwise(shown)]
    assert min(steps) > 0 and max(steps) < 150_000_000


def test_where_nobody_records_nothing_is_held(film: Path) -> None:
    tape = recorded(film)
    tape.stop()
    assert tape.bytes == 0 and not tape.since(0) and not tape.running and tape.begin(0) is None
