"""The sink that fails on purpose: around one that keeps, and around one elsewhere."""

from __future__ import annotations

import json
import pickle
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ConfigDict, ValidationError

from pipeline.core.contracts import Courier, Observer, Remote, Sink
from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.letters import Letter, letter_of
from sinks.console import Console
from sinks.faulty import Faulty, FaultyRemote
from sinks.jsonl import Jsonl
from sinks.memory import Collector, Memory
from sinks.sqlite import Sqlite
from tests.contracts.sink_suite import Documents, SinkSuite, event, result, ruling


class TestAroundJsonl(SinkSuite):
    """With nothing in its script it is the sink that it wraps."""

    def plan(self, folder: Path) -> Sink:
        return Faulty(of=Jsonl(path=str(folder / "out.jsonl")))

    def read(self, folder: Path) -> Documents:
        lines = (folder / "out.jsonl").read_text("utf-8", "surrogatepass").splitlines()
        found = [json.loads(line) for line in lines]
        return {document.get("event") or document.get("ruling") or document["id"]: document for document in found}


def test_what_each_fault_does() -> None:
    kept = Memory()
    acts = ("busy", "unacknowledged", "full", "refuse", "crash")
    sink = Faulty.around(kept, *({"fault": act} for act in acts))
    with pytest.raises(SinkBusy, match="busy"):
        sink.open().write([result(0)])
    assert kept.collector.items == []
    writer = sink.open()  # the script goes on where it was
    with pytest.raises(SinkBusy, match="no answer"):
        writer.write([result(0)])
    assert kept.collector.items == [result(0)]
    with pytest.raises(SinkBusy, match="No space left"):
        writer.write([result(1)])
    with pytest.raises(SinkRefused):
        writer.write([result(1)])
    with pytest.raises(RuntimeError):
        writer.write([result(1)])
    writer.write([result(2)])
    assert kept.collector.items == [result(0), result(2)]
    writer.close()
    writer.close()


def test_slow_and_hanging_writes_take_their_time() -> None:
    kept = Memory()
    writer = Faulty.around(kept, {"fault": "slow", "each_s": 0.1}, {"fault": "hang", "for_s": 0.2}).open()
    for least_s in (0.1, 0.2):
        began = time.monotonic()
        writer.write([result(0)])
        assert time.monotonic() - began >= least_s
    assert len(kept.collector) == 2
    with pytest.raises(ValidationError, match="for_s"):
        Faulty.around(kept, {"fault": "hang"})


def test_it_is_to_the_engine_what_it_wraps() -> None:
    class Small(Memory):
        backlog = 3

    assert Faulty(of=Small()).backlog == 3
    assert Faulty(of=Console()).takes == Console.takes
    assert isinstance(Faulty(of=Console()).open(), Observer)
    assert not isinstance(Faulty(of=Memory()).open(), Observer)


class Elsewhere(Remote):
    """A receiver in this process: takes as many letters at once as it likes."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    collector: Collector

    def connect(self, name: str) -> Courier:
        return Post(self.collector)


class Post:
    most = 7

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def send(self, letters: Sequence[Letter]) -> int:
        self._collector.add(letters[: self.most])  # type: ignore[arg-type]
        return len(letters[: self.most])

    def close(self) -> None:
        pass


def test_around_a_sink_elsewhere_it_is_one_too() -> None:
    inner = Elsewhere(collector=Collector(), outcomes="flagged", events=False, outbox={"max_mb": 3})
    sink = Faulty.around(inner, {"fault": "unacknowledged"}, {"fault": "refuse"})
    assert isinstance(sink, FaultyRemote) and isinstance(sink, Remote)
    assert sink.takes == inner.takes and sink.outbox == inner.outbox
    assert not sink.wants(event()) and not sink.wants(result(0)) and sink.wants(ruling())
    courier = sink.connect("post")
    letters = [letter_of(result(seq)) for seq in range(9)]
    assert courier.most == 7
    with pytest.raises(SinkBusy):
        courier.send(letters)
    assert len(inner.collector) == 7, "they arrived, and nobody heard of it"
    with pytest.raises(SinkRefused):
        courier.send(letters)
    assert courier.send(letters) == 7
    assert courier.send(letters[7:]) == 2
    courier.close()
    with pytest.raises(TypeError, match="outbox"):
        sink.open()
    with pytest.raises(ValidationError, match=r"Faulty\.around"):
        Faulty(of=inner)


def test_a_plan_with_a_script_survives_the_way_to_another_process(tmp_path: Path) -> None:
    plan = Faulty.around(Sqlite(path=str(tmp_path / "r.sqlite")), {"fault": "busy", "share": 0.5, "times": 4}, seed=3)
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan

    def busy(one: Sink) -> list[bool]:
        writer, said = one.open(), []
        for seq in range(6):
            try:
                writer.write([result(seq)])
                said.append(False)
            except SinkBusy:
                said.append(True)
        writer.close()
        return said

    assert busy(plan) == busy(again)
    with sqlite3.connect(tmp_path / "r.sqlite") as db:
        assert db.execute("select count(*) from results").fetchone()[0] >= 2
