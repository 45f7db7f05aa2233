"""The test pictures of FFmpeg."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pydantic import ValidationError

from sources.pattern import Pattern
from tests.contracts import source_suite as suite

PICTURES = ("testsrc2", "smptebars", "black", "noise", "freeze")


def small(picture: str, frames: int) -> Pattern:
    sizes = {"width": 160, "height": 96, "fps": 10}
    return Pattern.model_validate({"picture": picture, "frames": frames, "realtime": False, **sizes})


@pytest.mark.parametrize("picture", PICTURES)
def test_contract(picture: str) -> None:
    plan = small(picture, frames=12)
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=12)
    assert [c.pts_ns for c in suite.chunks(items)] == [n * 100_000_000 for n in range(12)]
    assert {(c.payload.width, c.payload.height) for c in suite.chunks(items)} == {(160, 96)}
    suite.check_replay(plan)


def test_what_they_show() -> None:
    def luma(picture: str) -> np.ndarray:
        return np.stack([c.payload.luma() for c in suite.chunks(suite.read(small(picture, frames=5))[1])]).astype(int)

    assert np.ptp(luma("black")) == 0 and luma("black").max() <= 16
    assert np.ptp(luma("noise"), axis=0).mean() > 5
    for still in ("smptebars", "freeze"):
        assert np.ptp(luma(still), axis=0).max() == 0 and np.ptp(luma(still)) > 100
    assert np.ptp(luma("testsrc2"), axis=0).max() > 50


def test_names_follow_what_it_shows() -> None:
    epochs = {Pattern(picture=p, fps=f).open("a").epoch for p in ("black", "noise") for f in (5, 7.5)}
    assert len(epochs) == 4


def test_realtime_and_endless() -> None:
    plan = Pattern(width=64, height=48, fps=20)
    assert plan.paced and not plan.live
    start = time.monotonic()
    _, items = suite.read(plan, most=11)
    assert time.monotonic() - start >= 0.5
    suite.check_items(items, received=11)


def test_slow_ones_wake() -> None:
    _, items = suite.read(Pattern(width=64, height=48, fps=0.5), most=2)
    assert len(items) >= 5


@pytest.mark.parametrize("wrong", [{"picture": "movie=/etc/passwd"}, {"width": 0}, {"fps": 0}, {"size": "1x1"}])
def test_no_filter_gets_in(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Pattern.model_validate(wrong)
