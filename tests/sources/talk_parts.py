"""A pipeline that judges text by a word, and helpers for what arrives from the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from pipeline.core.contracts import Clear, Decision, Flag, Generation, Reader, Source
from pipeline.core.records import Detection, Findings, Item
from pipeline.core.text import Text, TextSpec, TextView
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Collector, Memory
from tests.contracts import source_suite as suite


class BadWords:
    """Scores 1 where the message holds `bad`; hangs on `slow`, breaks on `poison`."""

    name = "words"
    spec = TextSpec(256, context=True)
    labels = ("bad",)
    max_batch = 64
    workers = 1

    def score(self, views: Sequence[TextView]) -> Sequence[Findings]:
        if any("slow" in view.text.raw for view in views):
            time.sleep(0.5)
        if any("poison" in view.text.raw for view in views):
            raise RuntimeError("a poisoned message")
        scores = [float(b"bad" in view.text.plain) for view in views]
        return [Findings(self.labels, np.array([score], np.float32), np.zeros(1, np.int64)) for score in scores]

    def warm(self) -> None: ...

    def describe(self) -> dict[str, object]:
        return {"model": self.name}


class Found:
    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        return []

    def decide(self, cheap: Findings) -> Decision:
        return Flag((Detection("bad", 1.0),)) if cheap.scores[0] > 0.5 else Clear()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Decision:
        raise NotImplementedError


@contextmanager
def running(source: Source) -> Iterator[tuple[Pipeline, Collector]]:
    sink = Memory()
    generation = Generation("words@1", BadWords(), None, Found())
    pipeline = Pipeline([StreamPlan(suite.STREAM, source, "words", generation)], {"memory": sink})
    pipeline.start()
    try:
        yield pipeline, sink.collector
    finally:
        pipeline.stop(4)


class Reading:
    """A reader whose items are taken as they come."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.items: list[Item] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for item in self.reader:
                self.items.append(item)
        except Exception as error:  # noqa: BLE001 a test looks at it
            self.error = error

    @property
    def said(self) -> list[str]:
        return [c.payload.raw for c in suite.chunks(list(self.items)) if isinstance(c.payload, Text)]

    def received(self, count: int) -> list[Item]:
        until(lambda: sum(map(suite.count, list(self.items))) >= count)
        return [item for item in self.items if suite.count(item)]

    def close(self) -> None:
        self.reader.close()
        self._thread.join(5)
        assert not self._thread.is_alive()


def until(true: Callable[[], object], most_s: float = 8) -> None:
    end = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
