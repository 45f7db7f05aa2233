"""A source that waits for somebody to come is opened again at once, and says what it waits for."""

from __future__ import annotations

import time
from typing import ClassVar

from parts import generation

from pipeline.core.contracts import Reader, Source
from pipeline.core.errors import SourceAway
from pipeline.core.records import SourceState
from pipeline.engine.pipeline import Pipeline, StreamPlan

_opened: list[float] = []


class Nobody(Source):
    live: ClassVar[bool] = True

    def open(self, stream: str) -> Reader:
        _opened.append(time.monotonic())
        time.sleep(0.02)
        raise SourceAway(f"waits for somebody at {stream}")


def test_whoever_comes_is_there_at_once() -> None:
    _opened.clear()
    running = Pipeline([StreamPlan("door", Nobody(), "c", generation())], {})
    running.start()
    end = time.monotonic() + 20
    while len(_opened) < 60 and time.monotonic() < end:  # with the waits of others, this would take two minutes
        time.sleep(0.02)
    (door,) = running.snapshot().streams
    running.stop(1)
    assert len(_opened) >= 60
    assert door.state is SourceState.CONNECTING and door.detail == "waits for somebody at door"
