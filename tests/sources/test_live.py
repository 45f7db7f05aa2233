"""The reading part that cameras and network streams share, on FFmpeg's own live device."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.core.errors import SourceLost
from pipeline.core.records import Chunk, Gap, Item, Watermark
from sources.ffmpeg import open_video
from sources.live import LiveReader
from tests.contracts import source_suite as suite


def reader(graph: str) -> LiveReader:
    container, video = open_video(graph, container_format="lavfi")
    return LiveReader(container, video, suite.STREAM, silence_s=8.0)


def pump_ends() -> bool:
    for thread in threading.enumerate():
        if thread.name == f"pump-{suite.STREAM}":
            thread.join(5)
            return not thread.is_alive()
    return True


def test_an_end_is_a_disconnect_behind_the_last_frame() -> None:
    live = reader("testsrc2=size=64x48:rate=25:duration=4")
    items: list[Item] = []
    with pytest.raises(SourceLost, match="the stream ended"):  # noqa: PT012  # what came before counts
        for item in live:
            items.append(item)  # noqa: PERF402
    suite.check_items(items, received=100)
    live.close()
    assert pump_ends()


def test_a_slow_taker_loses_nothing() -> None:
    live = reader("testsrc2=size=64x48:rate=25")
    items = suite.until(live, 200)
    time.sleep(0.5)  # the pump is far ahead by now, and waits
    suite.check_items(list(items), received=200)
    live.close()
    assert pump_ends()


def test_closing_without_reading() -> None:
    live = reader("testsrc2=size=64x48:rate=25")
    live.close()
    live.close()
    assert pump_ends()
    assert list(live) == []


def test_silence_is_said_and_ends_nothing() -> None:
    live = reader("testsrc2=size=64x48:rate=0.6,realtime")
    items: list[Item] = []
    for item in live:
        items.append(item)
        if sum(map(suite.count, items)) == 2:
            break
    live.close()
    assert sum(isinstance(item, Watermark) for item in items) >= 3
    suite.check_items(items, received=2)


def test_what_waited_too_long_is_passed_over_and_counted() -> None:
    live = reader("testsrc2=size=64x48:rate=25")
    items = list(suite.until(live, 1))
    time.sleep(2.5)  # the queue is full of what came at once, and old by now
    more = list(suite.until(live, 150))
    gaps = [item for item in more if isinstance(item, Gap)]
    assert sum(gap.count for gap in gaps) >= 60
    assert {gap.reason for gap in gaps} == {"undecoded"}
    assert isinstance(more[-1], Chunk), "and then it is with the present again"
    assert sum(map(suite.count, [*items, *more])) == 151
    chunks = [item.seq for item in [*items, *more] if isinstance(item, Chunk)]
    assert chunks[-1] == 150, "gaps count in the numbering"
    live.close()


@pytest.mark.slow
def test_a_slow_camera_is_not_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame in two and a half seconds, each stamped with the moment the one before was handed over."""
    monkeypatch.setattr("sources.live.held_back", lambda container, video: True)
    live = reader("testsrc2=size=64x48:rate=0.4,realtime=limit=10")
    items = list(suite.until(live, 4))
    live.close()
    assert sum(isinstance(item, Chunk) for item in items) == 4
    assert not any(isinstance(item, Gap) for item in items)
