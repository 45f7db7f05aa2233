"""Messages that say the same again get the verdict of the first, and nobody is told more than is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from pipeline.core.contracts import Clear, Decision, Escalate, Flag, Generation, Source
from pipeline.core.media import Medium
from pipeline.core.records import Chunk, Detection, Findings, Item, Result
from pipeline.core.text import Text, TextSpec, TextView
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Memory


class Said(Source):
    """With `before`, each message comes behind the one before it."""

    medium: ClassVar[Medium] = "text"
    messages: tuple[str, ...]
    before: bool = False

    def open(self, stream: str) -> Reading:
        return Reading(stream, self.messages, self.before)


@dataclass
class Reading:
    stream: str
    messages: tuple[str, ...]
    before: bool
    epoch: str = "E"

    def __iter__(self) -> Iterator[Item]:
        for seq, message in enumerate(self.messages):
            said = [self.messages[seq - 1].encode()] if self.before and seq else []
            text = Text(message, room_said=said)
            yield Chunk(self.stream, self.epoch, seq, seq, 1, time.monotonic_ns(), time.time_ns(), text)

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
        return Findings(self.labels, scores, np.arange(2), chars=lambda kind: None if at < 0 else (at, at + 2))

    def warm(self) -> None: ...
    def describe(self) -> dict[str, object]:
        return {"model": self.name}


class Loud:
    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        return []

    def decide(self, cheap: Findings) -> Decision:
        assert cheap.chars is not None
        return Flag((Detection("rude", 1.0, chars=cheap.chars(1)),)) if cheap.scores[1] > 0.5 else Clear()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        raise AssertionError("there is no heavy stage")


class Doubtful(Loud):
    """Asks the heavy stage about everything."""

    def decide(self, cheap: Findings) -> Decision:
        return Escalate()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        return Flag((Detection("rude", 1.0),)) if heavy[0].scores[1] > 0.5 else Clear()


def run(
    messages: Sequence[str], remembers: int, heavy: Shouting | None = None, before: bool = False
) -> tuple[list[Result], Shouting]:
    stage, sink = Shouting(), Memory()
    rule = Loud() if heavy is None else Doubtful()
    generation = Generation("loud@1", stage, heavy, rule, certified=True, remembers=remembers)
    plan = StreamPlan("chat", Said(messages=tuple(messages), in_flight=1, before=before), "loud", generation)
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


def reads(context: bool) -> Shouting:
    return Shouting(name="heavy", spec=TextSpec(64, context=context))


def test_what_hung_on_what_was_said_before_is_kept_for_nobody() -> None:
    results, _ = run(["do it", "do it", "do it"], 10, heavy=reads(context=True), before=True)
    assert [r.decided_by for r in results] == ["heavy", "heavy", "heavy"]  # the first stood alone, the others do not
    assert [r.certified for r in results] == [True, False, False]  # no unit of a proof had anything before it


def test_what_stood_alone_holds_where_nothing_is_before() -> None:
    results, _ = run(["do it", "do it"], 10, heavy=reads(context=True))
    assert [r.decided_by for r in results] == ["heavy", "cache"] and all(r.certified for r in results)


def test_a_heavy_stage_that_reads_no_context_is_as_good_as_a_cheap_one() -> None:
    results, _ = run(["do it", "do it"], 10, heavy=reads(context=False), before=True)
    assert [r.decided_by for r in results] == ["heavy", "cache"] and all(r.certified for r in results)
