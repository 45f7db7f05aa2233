"""What a feed shows of itself, frame by frame."""

from __future__ import annotations

from parts import grey

from pipeline.core.payloads import FrameImage
from pipeline.core.records import SourceState
from pipeline.engine.feed import FeedWatch

SECOND = 1_000_000_000


def test_a_line_that_stood_still_is_no_leap_of_the_clock() -> None:
    """Six seconds of silence, then all that had gathered at once: media time goes on as the camera says."""
    feed = FeedWatch()
    arrivals = [(0, 0), (1, 1), (2, 8), (3, 8), (4, 8)]  # media time, arrival
    told = [feed.media_time(pts * SECOND, mono * SECOND, SECOND) for pts, mono in arrivals]
    assert told == [pts * SECOND for pts, _ in arrivals]
    assert feed.see(FrameImage.from_array(grey(90)), 4 * SECOND, 8 * SECOND) is SourceState.LIVE


def test_a_leap_of_the_clock_lasts_as_long_as_the_wait_for_the_frame() -> None:
    feed = FeedWatch()
    told = [
        feed.media_time(pts * SECOND, mono * SECOND, SECOND) for pts, mono in ((0, 0), (3600, 1), (3601, 2), (5, 3))
    ]
    assert told == [0, SECOND, 2 * SECOND, 3 * SECOND]
    assert feed.see(FrameImage.from_array(grey(90)), 3 * SECOND, 3 * SECOND) is SourceState.JUMPING
