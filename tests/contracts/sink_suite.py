"""What every sink that keeps things must do. A sink's test subclasses `SinkSuite` and says how to read it back."""

from __future__ import annotations

import base64
import os
import pickle
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.contracts import Delivery, Picture, Sink
from pipeline.core.payloads import FrameImage
from pipeline.core.records import (
    Box,
    Detection,
    Event,
    Failed,
    Outcome,
    Result,
    Shed,
    ShedReason,
    Window,
    event_document,
    outcome_document,
)
from pipeline.core.rulings import Evidence, Ruling, ruling_document

ROOT = Path(__file__).parents[2]
NOON = 1_769_860_800_000_000_000  # 2026-01-31T12:00:00Z
Documents = dict[str, dict[str, Any]]


def window(seq: int = 0, stream: str = "door", fps: int = 25) -> Window:
    """The frame `seq` of a stream that began at noon."""
    start, step = seq * 1_000_000_000 // fps, 1_000_000_000 // fps
    return Window(stream, "01K0EPOCH", seq, start, start + step, start, NOON + start)


def result(seq: int = 0, *found: Detection, stream: str = "door", **fields: Any) -> Result:
    seen = window(seq, stream)
    usual: dict[str, Any] = {"decided_by": "mobilenet", "generation": "people@1", "flagged": bool(found)}
    return Result(seen, seen.mono_ns + 7_400_000, detections=found, **usual | fields)


def person(score: float = 0.9, box: Box | None = (10.0, 20.0, 110.5, 220.0)) -> Detection:
    return Detection("person", score, box)


def shed(seq: int, reason: ShedReason = ShedReason.DEADLINE) -> Shed:
    return Shed(window(seq), window(seq).mono_ns + 100_000_000, reason)


def event(kind: Any = "new", last: int = 0, name: str = "door/01K0EPOCH/person/1") -> Event:
    end = window(last)
    return Event(name, kind, "door", "person", 0, end.end_ns, NOON, NOON + end.end_ns, last + 1, 2, person(0.97))


def ruling(kind: Any = "new", seconds: int = 2, name: str = "evening/hate/chat/01K0EPOCH/7") -> Ruling:
    seen = Evidence("chat/01K0EPOCH/7", "chat", "haine – 憎", 0.93, 0.8, "chat-words", "words-v1", "chat@1", True)
    end = seconds * 1_000_000_000
    return Ruling(
        name, kind, "evening", "block", "hate", ("chat", "door"), 0, end, NOON, NOON + end, (seen,), ("door.sound",),
        newest_ns=0, done_ns=12_500_000,
    )  # fmt: skip


EVERY_KIND: list[Outcome] = [
    result(0),
    result(1, person(), person(0.51, None)),
    result(2, Detection("Straße – 歩行者 🚶", 0.7)),
    result(3, person(), decided_by="motion", carried_from="door/01K0EPOCH/1"),
    result(4, person(), decided_by="resnet", certified=True),
    result(8, Detection("yes", 0.8, span_ns=(1_234_567_891, 1_734_567_891)), Detection("hate", 0.7, chars=(0, 17))),
    shed(5),
    shed(6, ShedReason.OVERLOAD),
    Failed(window(7), window(7).mono_ns + 1, 'the model said:\n"no" \udcff'),
]


_WRITE_FOR_EVER = """
import base64, pickle, sys
from itertools import count
from tests.contracts.sink_suite import person, pictured, result
writer = pickle.loads(base64.b64decode(sys.argv[1])).open()
give = pictured if sys.argv[2] == "pictures" else list
for batch in count():
    writer.write(give([result(seq, person()) for seq in range(batch * 10, batch * 10 + 10)]))
    print(batch, flush=True)
"""


def documents(items: list[Any]) -> Documents:
    """What a reader should find: the last word on each outcome, event and ruling, by id."""
    found: Documents = {}
    for item in items:
        if isinstance(item, Ruling):
            found[item.id] = ruling_document(item)
            continue
        document = event_document(item) if isinstance(item, Event) else outcome_document(item)
        found[document.get("event") or document["id"]] = document
    return found


def pictured(items: list[Any], level: int = 128) -> list[Delivery]:
    """Each outcome with a picture of one grey; an event stays what it is."""
    pixels = np.full((48, 64, 3), level, np.uint8)
    return [
        item if isinstance(item, (Event, Ruling)) else Picture(item, FrameImage.from_array(pixels)) for item in items
    ]


class SinkSuite(ABC):
    """Subclass, give `plan` and `read`; pytest runs the rest."""

    @abstractmethod
    def plan(self, folder: Path) -> Sink:
        """A sink that keeps its things in `folder`."""

    @abstractmethod
    def read(self, folder: Path) -> Documents:
        """What a second reader finds there now, as `outcome_document` and `event_document` spell it, by id."""

    def expected(self, items: list[Any]) -> Documents:
        """What `read` should find of these."""
        return documents(items)

    def give(self, items: list[Any]) -> list[Delivery]:
        """`items` as the engine hands them to a sink of this kind."""
        return pictured(items) if "pictures" in self.plan(Path()).takes else items

    def test_acknowledged_is_there_for_another_reader(self, tmp_path: Path) -> None:
        writer = self.plan(tmp_path).open()
        items: list[Any] = [*EVERY_KIND, event()]
        writer.write(self.give(items))
        assert self.read(tmp_path) == self.expected(items)  # before close
        writer.close()
        assert self.read(tmp_path) == self.expected(items)

    @pytest.mark.parametrize("item", [*EVERY_KIND, event()])
    def test_each_kind_alone(self, tmp_path: Path, item: Any) -> None:
        writer = self.plan(tmp_path).open()
        writer.write(self.give([item]))
        writer.close()
        assert self.read(tmp_path) == self.expected([item])

    def test_the_same_batch_again_changes_nothing(self, tmp_path: Path) -> None:
        items: list[Any] = [*EVERY_KIND, event(), event("end", 7)]
        for _ in range(2):
            writer = self.plan(tmp_path).open()
            writer.write(self.give(items))
            writer.write(self.give(items))
            writer.close()
        assert self.read(tmp_path) == self.expected(items)

    def test_a_later_run_has_the_last_word(self, tmp_path: Path) -> None:
        first, second = result(0, person(), person()), result(0, person(0.6), generation="people@2")
        writer = self.plan(tmp_path).open()
        writer.write(self.give([first]))
        writer.write(self.give([second]))
        writer.close()
        assert self.read(tmp_path) == self.expected([second])

    def test_an_event_grows_until_it_ends(self, tmp_path: Path) -> None:
        writer = self.plan(tmp_path).open()
        for step in (event("new"), event("update", 30), event("end", 50)):
            writer.write(self.give([step]))
            assert self.read(tmp_path) == self.expected([step])
        writer.close()

    def test_a_ruling_lasts_until_it_ends(self, tmp_path: Path) -> None:
        plan = self.plan(tmp_path)
        if "rulings" not in plan.takes:
            return
        writer = plan.open()
        for step in (ruling("new"), ruling("end", 7)):
            writer.write([step])
            writer.write([step])
            assert self.read(tmp_path) == self.expected([step])
        writer.close()

    def test_an_action_stands_beside_what_called_for_it(self, tmp_path: Path) -> None:
        marked = result(0, person(), action="blur", rule="people")
        writer = self.plan(tmp_path).open()
        writer.write(self.give([marked, result(1, action="allow")]))
        writer.close()
        assert self.read(tmp_path) == self.expected([marked, result(1, action="allow")])

    def test_an_empty_batch_is_nothing(self, tmp_path: Path) -> None:
        writer = self.plan(tmp_path).open()
        writer.write(self.give([]))
        writer.write(self.give([result(0)]))
        writer.write(self.give([]))
        writer.close()
        assert self.read(tmp_path) == self.expected([result(0)])

    def test_closing_twice_and_opening_again(self, tmp_path: Path) -> None:
        for seq in range(2):
            writer = self.plan(tmp_path).open()
            writer.write(self.give([result(seq)]))
            writer.close()
            writer.close()
        assert self.read(tmp_path) == self.expected([result(0), result(1)])

    def test_the_plan_is_picklable_and_checks_without_writing(self, tmp_path: Path) -> None:
        plan = pickle.loads(pickle.dumps(self.plan(tmp_path)))
        assert plan == self.plan(tmp_path)
        plan.check()
        assert list(tmp_path.iterdir()) == []
        writer = plan.open()
        writer.write(self.give([result(0)]))
        writer.close()
        plan.check()  # and once there is something
        assert self.read(tmp_path) == self.expected([result(0)])

    def test_what_was_acknowledged_survives_kill_9(self, tmp_path: Path) -> None:
        plan = base64.b64encode(pickle.dumps(self.plan(tmp_path))).decode()
        kind = "pictures" if "pictures" in self.plan(tmp_path).takes else "outcomes"
        command = [sys.executable, "-c", _WRITE_FOR_EVER, plan, kind]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(40):
                child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
            acknowledged = 40 + child.stdout.read().count("\n")
        assert child.returncode == -signal.SIGKILL
        found = self.read(tmp_path)
        missing = [seq for seq in range(acknowledged * 10) if found.get(result(seq).window.id) is None]
        assert missing == []
