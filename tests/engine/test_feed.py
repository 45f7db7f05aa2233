"""What a feed shows of itself, frame by frame."""

from __future__ import annotations

from parts import grey

from pipeline.core.payloads import FrameImage
from pipeline.core.records import SourceState
from pipeline.engine.feed import FeedWatch
from pipeline.engine.leaps import WOBBLE_NS, Leaps, TrackTime

SECOND = 1_000_000_000


def corrected(track: TrackTime, *arrivals: tuple[float, float]) -> list[float]:
    """Media time and arrival of things that last a tenth of a second → media time without leaps."""
    told = []
    for at_s, mono_s in arrivals:
        track.leaps(round(at_s * SECOND), round(mono_s * SECOND), SECOND // 10)
        told.append(at_s + track.shift_ns / SECOND)
    return told


def test_a_line_that_stood_still_is_no_leap_of_the_clock() -> None:
    """Six seconds of silence, then all that had gathered at once: media time goes on as the camera says."""
    told = corrected(TrackTime(Leaps()), (0, 0), (1, 1), (2, 8), (3, 8), (4, 8))
    assert told == [0, 1, 2, 3, 4]


def test_a_leap_of_the_clock_lasts_as_long_as_the_wait_for_the_frame() -> None:
    assert corrected(TrackTime(Leaps()), (0, 0), (3600, 1), (3601, 2), (5, 3)) == [0, 1, 2, 3]


def test_a_feed_whose_clock_leapt_says_so_for_a_while() -> None:
    feed = FeedWatch()
    feed.leapt(3 * SECOND)
    assert feed.see(FrameImage.from_array(grey(90)), 3 * SECOND, 3 * SECOND) is SourceState.JUMPING
    assert feed.see(FrameImage.from_array(grey(99)), 7 * SECOND, 7 * SECOND) is SourceState.LIVE


def test_tracks_of_one_reader_leap_together_whichever_is_first() -> None:
    for leap in (3600, -3600, -2):
        for first, second in ((0, 1), (1, 0)):
            of = Leaps()
            tracks = TrackTime(of), TrackTime(of, wobble_ns=WOBBLE_NS)
            for track in tracks:
                assert corrected(track, (5000, 0), (5001, 1)) == [5000, 5001]
            corrected(tracks[first], (5002 + leap, 2.02))
            assert corrected(tracks[second], (5002, 2)) == [5002], "this one has yet to leap"
            for track in tracks:
                corrected(track, (5003 + leap, 3.03), (5004 + leap, 4.01))
            assert tracks[0].shift_ns == tracks[1].shift_ns, "to the sample"
            assert abs(tracks[0].shift_ns + leap * SECOND) < SECOND // 10


def test_sound_that_follows_a_drifting_clock_does_not_leap() -> None:
    track = TrackTime(Leaps(), wobble_ns=WOBBLE_NS)
    assert corrected(track, (1, 1), (1.01, 1.01), (0.98, 1.02), (1.0, 1.03)) == [1, 1.01, 0.98, 1.0]
