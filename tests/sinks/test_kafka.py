from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipeline.core.contracts import Courier
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.letters import Letter
from sinks.kafka import Kafka
from tests.contracts.remote_suite import LETTERS, RemoteSuite, Word, deliver, many
from tests.sinks.servers import Kafka as KafkaServer

pytestmark = pytest.mark.slow

TOO_LARGE, NOT_AUTHORIZED, OUT_OF_ORDER = 10, 29, 45


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaServer]:
    with KafkaServer() as running:
        yield running


class TestKafka(RemoteSuite):
    kind = "kafka"
    said_at = "brokers"
    secrets = ("k4fk4pw",)
    kinds_apart = True

    @pytest.fixture(autouse=True)
    def _server(self, cluster: KafkaServer) -> Iterator[None]:
        self.server: KafkaServer = cluster
        cluster.well()
        yield
        cluster.well()

    def plan(self, port: int | None = None) -> Kafka:
        options = {"ssl.key.password": "k4fk4pw", "topic.metadata.refresh.interval.ms": 1000}
        return Kafka(
            brokers=self.server.servers.replace("127.0.0.1", self.host), topic=self.space + ".{kind}", options=options
        )

    def records(self) -> list[Any]:
        consumer = Consumer(
            {"bootstrap.servers": self.server.servers, "group.id": "reader", "enable.partition.eof": True}
        )
        topics = consumer.list_topics(timeout=20).topics
        parts = [
            TopicPartition(name, partition, 0)
            for name, topic in topics.items()
            if name.startswith(self.space)
            for partition in topic.partitions
        ]
        consumer.assign(parts)
        found, ends = [], 0
        while ends < len(parts):
            record = consumer.poll(20)
            assert record is not None, "the reader waited for nothing"
            error = record.error()
            if error is None:
                found.append(record)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ends += 1
        consumer.close()
        return found

    def words(self) -> list[Word]:
        found = []
        for record in self.records():
            document = json.loads(record.value())
            headers = {name: value.decode() for name, value in record.headers()}
            assert record.key().decode() == (document.get("stream") or document["show"])
            assert headers["about"] in document.values()
            folder = {"outcome": "results"}.get(headers["kind"], headers["kind"] + "s")
            assert record.topic() == f"{self.space}.{folder}"
            found.append(Word(headers["id"], record.key().decode(), document))
        return found

    def poisoned(self) -> Letter:
        return Letter("door/e/bad:1", "outcome", "door/e/bad", "door", b'"' + b"x" * 2_000_000 + b'"')

    @pytest.mark.parametrize("cut_after", [0.0, 0.02, 0.2])
    def test_a_connection_that_is_reset_in_mid_send(self, cut_after: float) -> None:  # type: ignore[override]
        def trip() -> None:
            for _ in range(3):
                time.sleep(cut_after)
                self.server.restart()

        courier, chaos = self.connect(), threading.Thread(target=trip)
        chaos.start()
        deliver(courier, many(3000))
        chaos.join()
        courier.close()
        self.check(many(3000))

    def test_one_that_the_broker_finds_too_large_is_refused_alone(self) -> None:
        courier = self.connect()
        deliver(courier, many(3))
        self.server.tell("fail", str(TOO_LARGE), "2")  # all that was sent together, and then the first of them
        letters = many(20, 3, streams=("door",))
        refused = deliver(courier, letters)
        courier.close()
        assert [name for name, _ in refused] == [letters[0].id] and "too large" in refused[0][1].lower()
        self.check([*many(3), *letters[1:]])

    def test_what_an_operator_can_mend_is_busy(self) -> None:
        courier = self.connect()
        deliver(courier, many(3))
        self.server.tell("fail", str(NOT_AUTHORIZED), "1")
        with pytest.raises(SinkBusy, match=r"(?i)authoriz"):
            courier.send(many(3, 3, streams=("door",)))
        deliver(courier, many(3, 3, streams=("door",)))
        courier.close()
        self.check([*many(3), *many(3, 3, streams=("door",))])

    def test_a_producer_that_broke_for_good_is_replaced(self) -> None:
        courier = self.connect()
        deliver(courier, many(3))
        self.server.tell("fail", str(OUT_OF_ORDER), "1")
        deliver(courier, many(30, 3))
        courier.close()
        self.check(many(33))

    def test_one_topic_for_all(self) -> None:
        plan = self.plan().model_copy(update={"topic": self.space})
        courier = plan.connect("out")
        deliver(courier, LETTERS)
        courier.close()
        assert {record.topic() for record in self.records()} == {self.space}
        assert len(self.records()) == len(LETTERS)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"topic": "a {label}"}, "topic"),
        ({"topic": "a b"}, "topic"),
        ({"options": {"acks": "1"}}, "options.acks"),
        ({"options": {"enable.idempotence": False}}, "options.enable.idempotence"),
        ({"options": {"sasl.password": "x"}}, "options.sasl.password"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], place: str) -> None:
    for step in (Kafka(**settings).check, lambda: Kafka(**settings).connect("out")):
        with pytest.raises(InputError) as caught:
            step()
        assert caught.value.place == place


def test_what_the_library_does_not_know_is_said() -> None:
    with pytest.raises(InputError, match="compresion"):
        Kafka(options={"compresion.type": "lz4"}).connect("out")


def test_one_that_the_library_finds_too_large_needs_no_broker() -> None:
    courier: Courier = Kafka(brokers="127.0.0.1:1").connect("out")
    bad = Letter("x", "outcome", "x", "x", b"x" * 2_000_000)
    with pytest.raises(SinkRefused):
        courier.send([bad])
    courier.close()
