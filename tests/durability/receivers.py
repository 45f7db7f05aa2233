"""Those who get the results: each outlives the run, and can say what came to it, in the order in which it came."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.sinks import servers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_RECEIVER = Path(servers.__file__).with_name("hook_receiver.py")
_QUIET_S = 3.0


class Receiver(Protocol):
    def settings(self) -> dict[str, Any]:
        """The sink of a config that sends here."""

    def results(self) -> Iterator[tuple[str, str]]:
        """The message id and the result's id of every outcome."""


class Hook(servers.Server):
    """Writes down each POST before it answers."""

    def command(self) -> Sequence[str]:
        return [sys.executable, str(_RECEIVER), str(self.port), "received.jsonl", SECRET]

    def settings(self) -> dict[str, Any]:
        return {"kind": "webhook", "url": f"http://127.0.0.1:{self.port}/hook", "secrets": SECRET}

    def count(self) -> int:
        """Bytes, which is as good as posts for telling whether anything came."""
        file = self.folder / "received.jsonl"
        return file.stat().st_size if file.exists() else 0

    def results(self) -> Iterator[tuple[str, str]]:
        with (self.folder / "received.jsonl").open() as lines:
            for line in lines:
                post = json.loads(line)
                if "outcome" in post["body"]:
                    yield post["id"], post["body"]["id"]


class Bus(servers.Kafka):
    """A topic of one partition, read from its beginning."""

    def settings(self) -> dict[str, Any]:
        # compressed, for the mock cluster keeps the last five MiB of a partition
        options = {"compression.type": "lz4"}
        return {"kind": "kafka", "brokers": self.servers, "topic": "results", "options": options}

    def results(self) -> Iterator[tuple[str, str]]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        reader = Consumer({"bootstrap.servers": self.servers, "group.id": "reader", "enable.auto.commit": False})
        try:
            partitions = reader.list_topics("results", 10).topics["results"].partitions
            reader.assign([TopicPartition("results", one, OFFSET_BEGINNING) for one in partitions])
            while (message := reader.poll(_QUIET_S)) is not None:
                assert not message.error(), message.error()
                headers, document = dict(message.headers() or ()), json.loads(message.value())
                if "outcome" in document:
                    yield headers["id"].decode(), document["id"]
        finally:
            reader.close()


class Broker(servers.Mosquitto):
    """A subscriber with QoS 1 that is there all the time."""

    def __init__(self) -> None:
        super().__init__()
        from paho.mqtt.client import CallbackAPIVersion, Client

        self._came: list[dict[str, Any]] = []
        self._heard = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "reader", clean_session=False)
        self._client.username_pw_set(self.user, self.password)
        self._client.on_message = lambda client, data, message: self._came.append(json.loads(message.payload))
        self._client.on_subscribe = lambda *_: self._heard.set()
        self._client.on_connect = lambda client, *_: client.subscribe("thresher/+/results", qos=1)
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()
        assert self._heard.wait(10)

    def settings(self) -> dict[str, Any]:
        return {
            "kind": "mqtt",
            "host": "127.0.0.1",
            "port": self.port,
            "username": self.user,
            "password": self.password,
        }

    def results(self) -> Iterator[tuple[str, str]]:
        count = -1
        while count != len(self._came):  # until nothing more comes
            count = len(self._came)
            time.sleep(_QUIET_S)
        for document in list(self._came):  # an MQTT message has no id: what its letter has, made of the document
            yield f"{document['id']}:{document.get('generation', document['outcome'])}", document["id"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        super().__exit__(kind, error, trace)

    def __enter__(self) -> Self:
        return self
