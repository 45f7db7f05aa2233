"""Kafka topics: ids that a replay gives again, going on where it was left, what was deleted meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from kafka_broker import cluster, produce

from pipeline.core.errors import InputError
from pipeline.core.places import Place
from pipeline.core.records import Chunk, Gap, Item
from pipeline.core.text import Text
from sources.kafka import Kafka
from tests.contracts import source_suite as suite
from tests.contracts.names import leads

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    with cluster() as brokers:
        yield brokers


def read(plan: Kafka, received: int) -> tuple[str, list[Item]]:
    with closing(plan.open(suite.STREAM)) as reader:
        return reader.epoch, list(suite.until(reader, received))


def said(items: list[Item]) -> list[str]:
    return [item.payload.raw for item in suite.chunks(items) if isinstance(item.payload, Text)]


def behind(chunk: Chunk) -> Mapping[str, Place]:
    return {"": Place(chunk.epoch, chunk.seq, chunk.pts_ns, time.time_ns(), chunk.position)}


def test_contract(brokers: str) -> None:
    produce(brokers, "contract", "one", "zwei", json.dumps({"text": "три", "user": "ann"}), b"\xff\xfe", None, "五")
    plan = Kafka(brokers=brokers, topic="contract", from_start=True)
    suite.check_plan(plan)
    suite.check_closing(plan)
    epoch, items = read(plan, 5)
    assert said(items) == ["one", "zwei", "три", "五"] and suite.gaps(items, "damaged") == 1
    assert [c.seq for c in suite.chunks(items)] == [0, 1_000_000, 2_000_000, 5_000_000]
    again, second = read(plan, 5)
    assert epoch == again and len(epoch) == 26
    assert [c.seq for c in suite.chunks(second)] == [c.seq for c in suite.chunks(items)]
    assert read(Kafka(brokers=brokers, topic="contract", from_start=True, partitions=(0,)), 5)[0] == epoch
    assert not plan.live and not plan.paced and plan.endless
    assert all(abs(c.wall_ns - time.time_ns()) < 60e9 for c in suite.chunks(items))


def test_it_begins_at_the_end_unless_it_is_told_otherwise(brokers: str) -> None:
    produce(brokers, "ends", "old")
    with closing(Kafka(brokers=brokers, topic="ends").open("s")) as reader:
        start = reader.start  # type: ignore[attr-defined]
        produce(brokers, "ends", "new", "newer")
        assert said(list(suite.until(reader, 2))) == ["new", "newer"]
    resumed = Kafka(brokers=brokers, topic="ends").resumed({"": start})
    assert resumed is not None
    assert said(read(resumed, 2)[1]) == ["new", "newer"], "killed before the first message was delivered"


def test_it_goes_on_behind_any_piece_of_any_message_of_any_partition(brokers: str) -> None:
    long = "word " * 60  # in pieces
    for partition in range(3):
        produce(brokers, "pieces", *(f"{partition}.{n}" for n in range(4)), long, "last", partition=partition)
    plan = Kafka(brokers=brokers, topic="pieces", from_start=True, longest=64)
    pieces = len(
        suite.chunks(read(Kafka(brokers=brokers, topic="pieces", from_start=True, longest=64, partitions=(0,)), 6)[1])
    )
    assert pieces >= 6
    _, items = read(plan, 3 * (5 + 5))
    every = suite.chunks(items)
    assert len({c.seq for c in every}) == len(every) >= 30
    for at in range(0, len(every) - 1, 4):
        resumed = plan.resumed(behind(every[at]))
        assert resumed is not None
        rest = suite.chunks(read(resumed, len(every) - at - 1)[1])
        assert {c.seq for c in rest} == {c.seq for c in every[at + 1 :]}
        assert all(c.pts_ns > every[at].pts_ns for c in rest)


def test_what_was_said_before_is_context_behind_a_restart(brokers: str) -> None:
    produce(brokers, "context", *(json.dumps({"text": f"t{n}", "user": "ann", "room": "r"}) for n in range(8)))
    plan = Kafka(brokers=brokers, topic="context", from_start=True)
    every = suite.chunks(read(plan, 8)[1])
    resumed = plan.resumed(behind(every[4]))
    assert resumed is not None
    rest = suite.chunks(read(resumed, 3)[1])
    assert [c.payload.author_said for c in rest] == [c.payload.author_said for c in every[5:]]  # type: ignore[attr-defined]


def test_what_was_deleted_before_it_was_read_is_a_gap(brokers: str, caplog: pytest.LogCaptureFixture) -> None:
    produce(brokers, "anew", "a", "b")
    plan = Kafka(brokers=brokers, topic="anew", from_start=True)
    place = Place("x", 900 * 1_000_000, 0, time.time_ns(), json.dumps({0: 900}))
    resumed = plan.resumed({"": place})
    assert resumed is not None
    assert said(read(resumed, 2)[1]) == ["a", "b"]
    assert "the topic was made anew" in caplog.text


def test_wrong_names_are_told_at_once(brokers: str) -> None:
    with pytest.raises(InputError, match="there is no topic nothing"):
        Kafka(brokers=brokers, topic="nothing").open("s")
    produce(brokers, "few", "x")
    with pytest.raises(InputError, match="and no 17"):
        Kafka(brokers=brokers, topic="few", partitions=(17,)).open("s")


def test_it_waits_for_brokers_that_are_away(caplog: pytest.LogCaptureFixture) -> None:
    with cluster() as brokers:
        produce(brokers, "away", "x", "y")
        reader = Kafka(brokers=brokers, topic="away", from_start=True).open("s")
        items = iter(reader)
        assert said([next(items), next(items)]) == ["x", "y"]
    with closing(reader):
        begun = time.monotonic()
        while time.monotonic() - begun < 4:
            assert not isinstance(next(items), Chunk | Gap)
    assert "goes on once the brokers answer" in caplog.text


@pytest.mark.parametrize(
    ("settings", "place", "what"),
    [
        ({"password": "geheim"}, "password", "belong together"),
        ({"username": "a"}, "username", "belong together"),
        ({"username": "a", "password": "geheim"}, "password", "`tls: true` only"),
        ({"ca_file": "x.pem"}, "ca_file", "`tls: true`"),
        ({"ca_file": "x.pem", "tls": True}, "ca_file", "no such file"),
        ({"brokers": "a.example.org:0"}, "brokers", "host:port"),
        ({"brokers": "a.example.org,"}, "brokers", "host:port"),
        ({"brokers": "a.example.org:9092,169.254.169.254:9092"}, "brokers", "link-local"),
        ({"brokers": "[fe80::1]"}, "brokers", "link-local"),
        ({"options": {"enable.auto.commit": True}}, "options.enable.auto.commit", "leave it out"),
        ({"options": {"security.protocol": "ssl"}}, "options.security.protocol", "`tls`"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], place: str, what: str) -> None:
    plan = Kafka(**{"brokers": "example.org:9092", "topic": "t"} | settings)  # type: ignore[arg-type]
    for step in (plan.check, lambda: plan.open("s")):
        with pytest.raises(InputError, match=what) as caught:
            step()
        assert caught.value.place == place and "geheim" not in str(caught.value)
    assert "geheim" not in repr(plan)


def test_frames_are_not_counted_in_messages() -> None:
    with pytest.raises(ValueError, match="for frames"):
        Kafka(topic="t", max_fps=3)


def test_what_the_library_does_not_know_is_said() -> None:
    with pytest.raises(InputError, match="compresion") as caught:
        Kafka(topic="t", options={"compresion.type": "lz4"}).open("s")
    assert caught.value.place == "options"


def test_a_name_that_leads_astray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    leads(monkeypatch, "kafka-2.test", "10.0.0.7", "169.254.169.254")
    with pytest.raises(InputError, match="link-local"):
        Kafka(brokers="127.0.0.1:1,kafka-2.test:9092", topic="t").open("s")


@pytest.mark.parametrize(
    ("settings", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"tls": True}, "SSL"),
        ({"username": "a", "password": "b"}, "SASL_PLAINTEXT"),
        ({"tls": True, "username": "a", "password": "b"}, "SASL_SSL"),
        ({"tls": True, "options": {"sasl.mechanism": "GSSAPI"}}, "SASL_SSL"),
    ],
)
def test_how_it_speaks_follows_from_what_is_given(settings: dict[str, object], protocol: str) -> None:
    plan = Kafka(topic="t", **settings)  # type: ignore[arg-type]
    plan.check()
    assert plan.properties()["security.protocol"] == protocol
