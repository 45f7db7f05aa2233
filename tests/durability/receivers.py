"""Those who get the results: each outlives the run, and can say what came to it, in the order in which it came."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence, Sized
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
    """A topic that is read as it is written: the mock cluster keeps the last five MiB of a partition."""

    def start(self) -> None:
        super().start()
        self._came: list[tuple[str, str]] = []
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def settings(self) -> dict[str, Any]:
        return {"kind": "kafka", "brokers": self.servers, "topic": "results"}

    def _read(self) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        reader = Consumer({"bootstrap.servers": self.servers, "group.id": "reader", "enable.auto.commit": False})
        try:
            while "results" not in (topics := reader.list_topics(timeout=10).topics) and not self._over.wait(0.2):
                pass
            if "results" in topics:
                partitions = topics["results"].partitions
                reader.assign([TopicPartition("results", one, OFFSET_BEGINNING) for one in partitions])
            while not self._over.is_set():
                message = reader.poll(0.2)
                if message is None or message.error():
                    continue
                headers, document = dict(message.headers() or ()), json.loads(message.value())
                if "outcome" in document:
                    self._came.append((headers["id"].decode(), document["id"]))
        finally:
            reader.close()

    def results(self) -> Iterator[tuple[str, str]]:
        _until_quiet(self._came)
        yield from list(self._came)

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._reader.join(30)
        super().__exit__(*error)


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
        _until_quiet(self._came)
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


def _until_quiet(came: Sized) -> None:
    """Until nothing more comes."""
    count = -1
    while count != len(came):
        count = len(came)
        time.sleep(_QUIET_S)
