"""Pictures from memory, and the faults that tests script."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Gap, Watermark
from sources.memory import Leap, LiveMemory, Lost, Memory, Missing, Pause, Refused, Stall
from tests.contracts import source_suite as suite


def grey(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def test_contract() -> None:
    plan = Memory(script=[grey(n) for n in range(5)], repeat=3, fps=10)
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=15)
    assert [c.pts_ns for c in suite.chunks(items)] == [n * 100_000_000 for n in range(15)]
    suite.check_replay(plan)
    assert plan.open("a").epoch != Memory(script=[grey(n + 9) for n in range(5)], repeat=3, fps=10).open("a").epoch


def test_pictures_can_be_released_and_played_again() -> None:
    plan = Memory(script=[grey(90)], repeat=3)
    for chunk in suite.chunks(suite.read(plan)[1]):
        assert abs(int(chunk.payload.rgb().mean()) - 90) <= 1
        chunk.payload.release()


def test_an_image_of_ones_own() -> None:
    image = FrameImage.from_array(grey(7))
    assert suite.chunks(suite.read(Memory(script=[image]))[1])[0].payload is image


def test_gaps_and_leaps() -> None:
    _, items = suite.read(Memory(script=[grey(1), Missing(3), Missing(2, "undecoded"), Leap(-1), grey(2)], fps=10))
    suite.check_items(items, received=7, intact=False)
    assert [item for item in items if isinstance(item, Gap)] == [
        Gap(suite.STREAM, "damaged", 3),
        Gap(suite.STREAM, "undecoded", 2),
    ]
    assert [(c.seq, c.pts_ns) for c in suite.chunks(items)] == [(0, 0), (6, -400_000_000)]


def test_pause_says_so_and_stall_does_not() -> None:
    for step, marks in ((Pause(1.2), 2), (Stall(1.2), 0)):
        start = time.monotonic()
        _, items = suite.read(Memory(script=[grey(1), step, grey(2)]))
        assert time.monotonic() - start >= 1.2
        assert sum(isinstance(item, Watermark) for item in items) == marks


def test_faults() -> None:
    with pytest.raises(SourceLost, match="cable"):
        suite.read(Memory(script=[grey(1), Lost("cable")]))
    with pytest.raises(InputError, match="nonsense"):
        suite.read(Memory(script=[Refused("nonsense")]))


def test_a_live_one_goes_on_where_it_broke() -> None:
    plan = LiveMemory(script=[grey(1), Lost(), grey(2), grey(3)])
    assert plan.live and plan.paced
    suite.check_epochs(LiveMemory(script=[grey(1)]))
    first = plan.open(suite.STREAM)
    items = iter(first)
    assert next(items)
    with pytest.raises(SourceLost, match="by script"):
        next(items)
    again = iter(plan.open(suite.STREAM))
    assert [c.seq for c in suite.chunks([next(again), next(again)])] == [0, 1]
    with pytest.raises(SourceLost, match="over"):
        next(again)
