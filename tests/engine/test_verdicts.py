"""Messages that say the same again get the verdict of the first, and nobody is told more than is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from pipeline.core.contracts import Clear, Decision, Flag, Generation, Source
from pipeline.core.media import Medium
from pipeline.core.records import Chunk, Detection, Findings, Item, Result
from pipeline.core.text import Text, TextSpec, TextView
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory


class Said(Source):
    medium: ClassVar[Medium] = "text"
    messages: tuple[str, ...]

    def open(self, stream: str) -> Reading:
        return Reading(stream, self.messages)


@dataclass
class Reading:
    stream: str
    messages: tuple[str, ...]
    epoch: str = "E"

    def __iter__(self) -> Iterator[Item]:
        for seq, message in enumerate(self.messages):
            yield Chunk(self.stream, self.epoch, seq, seq, 1, time.monotonic_ns(), time.time_ns(), Text(message))

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Shouting:
    """Flags what holds `no`, and says where it stands as it was written."""

    name: str = "cheap"
    spec: TextSpec = field(default_factory=lambda: TextSpec(32))
    labels: tuple[str, ...] = ("fine", "rude")
    max_batch: int = 4
    workers: int = 1
    seen: list[str] = field(default_factory=list)

    def score(self, views: Sequence[TextView]) -> list[Findings]:
        self.seen += [view.text.raw for view in views]
        return [self._one(view.text.raw) for view in views]

    def _one(self, raw: str) -> Findings:
        at = raw.lower().find("no")
        scores = np.array([at < 0, at >= 0], np.float32)
        return Findings(self.labels, scores, np.arange(2), chars=(None, None if at < 0 else (at, at + 2)))

    def warm(self) -> None: ...
    def describe(self) -> dict[str, object]:
        return {"model": self.name}


class Loud:
    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        return []

    def decide(self, cheap: Findings) -> Decision:
        assert cheap.chars is not None
        return Flag((Detection("rude", 1.0, chars=cheap.chars[1]),)) if cheap.scores[1] > 0.5 else Clear()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        raise AssertionError("there is no heavy stage")


def run(messages: Sequence[str], remembers: int) -> tuple[list[Result], Shouting]:
    stage, sink = Shouting(), Memory()
    generation = Generation("loud@1", stage, None, Loud(), certified=True, remembers=remembers)
    plan = StreamPlan("chat", Said(messages=tuple(messages), in_flight=1), "loud", generation)
    pipeline = Pipeline([plan], {"memory": sink})
    pipeline.start()
    assert pipeline.wait(20)
    pipeline.stop()
    results = [item for item in sink.collector.items if isinstance(item, Result)]
    assert len(results) == len(messages)
    return results, stage


def test_a_raid_is_judged_once() -> None:
    results, stage = run(["oh no", "OH  no", "fine by me", "oh no", "fine by me"], remembers=10)
    assert stage.seen == ["oh no", "fine by me"]
    assert [r.decided_by for r in results] == ["cheap", "cache", "cheap", "cache", "cache"]
    assert [r.flagged for r in results] == [True, True, False, True, False]
    assert all(r.certified for r in results)  # the same stage would say the same again
    assert results[1].carried_from == results[0].window.id
    assert results[3].detections == results[0].detections
    assert results[1].detections == (replace(results[0].detections[0], chars=None),)  # it stands elsewhere there


def test_it_is_bounded_by_what_was_last_of_use() -> None:
    results, stage = run(["a", "b", "a", "c", "b", "a"], remembers=2)
    assert [r.decided_by for r in results] == ["cheap", "cheap", "cache", "cheap", "cheap", "cheap"]
    assert stage.seen == ["a", "b", "c", "b", "a"]


def test_none_is_kept_unless_it_is_asked_for() -> None:
    results, _ = run(["a", "a"], remembers=0)
    assert [r.decided_by for r in results] == ["cheap", "cheap"]
