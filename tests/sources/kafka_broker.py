"""A Kafka cluster that speaks the real protocol, in a process of its own: librdkafka brings one for tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

_CODE = """
import sys
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "", "log_level": 0})
brokers = cluster.list_topics(timeout=30).brokers.values()
print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
sys.stdin.read()
"""


@contextmanager
def cluster() -> Iterator[str]:
    """Its brokers, as `host:port`."""
    process = subprocess.Popen([sys.executable, "-c", _CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()


def produce(brokers: str, topic: str, *messages: str | bytes | None, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": brokers, "log_level": 0, "linger.ms": 1})
    for message in messages:
        producer.produce(topic, message, partition=partition)
    assert producer.flush(20) == 0
