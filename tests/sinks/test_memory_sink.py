from __future__ import annotations

import pickle

from pipeline.core.contracts import Picture
from sinks.memory import Collector, Memory
from tests.contracts.sink_suite import event, result, ruling, shed


def test_collects_by_kind_in_order() -> None:
    sink = Memory()
    writer = sink.open()
    writer.write([result(0), shed(1), event(), Picture(result(2), None), ruling()])
    writer.close()
    writer.close()
    assert sink.collector.items == [result(0), shed(1), event(), Picture(result(2), None), ruling()]
    assert sink.collector.outcomes == [result(0), shed(1), result(2)]
    assert sink.collector.results == [result(0), result(2)]
    assert sink.collector.events == [event()]
    assert sink.collector.pictures == [Picture(result(2), None)]
    assert sink.collector.rulings == [ruling()]
    assert len(sink.collector) == 5


def test_two_plans_share_nothing_unless_told_to() -> None:
    assert Memory().collector is not Memory().collector
    shared = Collector()
    Memory(collector=shared).open().write([result(0)])
    Memory(collector=shared).open().write([result(1)])
    assert shared.results == [result(0), result(1)]


def test_the_limit_keeps_the_newest() -> None:
    sink = Memory(limit=2)
    sink.open().write([result(seq) for seq in range(5)])
    assert sink.collector.results == [result(3), result(4)]


def test_a_pickled_plan_arrives_with_a_copy() -> None:
    sink = Memory()
    copy = pickle.loads(pickle.dumps(sink))
    copy.open().write([result(0)])
    assert len(copy.collector) == 1
    assert len(sink.collector) == 0
