from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis as library

from pipeline.core.errors import InputError, SinkBusy
from pipeline.core.letters import Letter
from sinks.redis import Redis
from tests.contracts.names import Pair, certificate, leads
from tests.contracts.remote_suite import PinningSuite, Word, deliver, many
from tests.sinks.servers import Redis as RedisServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


class TestRedis(PinningSuite):
    kind = "redis"
    said_at = "url"
    secrets = (RedisServer.password,)
    kinds_apart = True

    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> Iterator[None]:
        self.server: RedisServer = server
        server.well()
        yield
        server.well()

    def plan(self, port: int | None = None) -> Redis:
        url = f"redis://:{self.server.password}@{self.host}:{port or self.server.port}/0"
        return Redis(url=url, key=self.space + ":{kind}")

    def entries(self, kind: str = "results") -> list[dict[bytes, bytes]]:
        with library.Redis(port=self.server.port, password=self.server.password) as client:
            answer: Any = client.xrange(f"{self.space}:{kind}")
            return [fields for _, fields in answer]

    def words(self) -> list[Word]:
        found = []
        for kind in ("results", "events", "rulings", "audits", "outages"):
            for fields in self.entries(kind):
                document = json.loads(fields[b"body"])
                assert sorted(fields) == [b"about", b"body", b"id", b"kind"]
                assert fields[b"kind"].decode() in {"outcome", "event", "ruling", "audit", "outage"}
                found.append(Word(fields[b"id"].decode(), document.get("stream") or document["show"], document))
        assert len({word.id for word in found}) == len(found)  # what comes again is left out
        return found

    def poisoned(self) -> Letter:
        return Letter("door/e/bad:1", "outcome", "door/e/bad", "door", b'"' + b"x" * (2 << 20) + b'"')

    def test_the_oldest_entries_go(self) -> None:
        plan = self.plan().model_copy(update={"max_entries": 100})
        courier = plan.connect("out")
        deliver(courier, many(1000))
        courier.close()
        assert 100 <= len(self.entries()) <= 300  # about, for whole nodes of the tree go
        assert json.loads(self.entries()[-1][b"body"])["seq"] == 999

    def test_of_the_ids_no_more_are_kept_than_was_said(self) -> None:
        courier = self.plan().model_copy(update={"remember": 50}).connect("out")
        deliver(courier, many(500))
        courier.close()
        with library.Redis(port=self.server.port, password=self.server.password) as client:
            assert client.zcard(f"{{{self.space}:results}}:ids") == 50

    def test_without_a_memory_what_comes_again_is_there_again(self) -> None:
        courier = self.plan().model_copy(update={"remember": 0}).connect("out")
        deliver(courier, many(5))
        deliver(courier, many(5))
        courier.close()
        assert len(self.entries()) == 10

    def test_two_senders_of_the_same_add_it_once(self) -> None:
        couriers = [self.connect() for _ in range(4)]
        threads = [threading.Thread(target=deliver, args=(courier, many(300))) for courier in couriers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for courier in couriers:
            courier.close()
        self.check(many(300))

    def test_a_key_that_holds_something_else_is_said_and_waited_for(self) -> None:
        with library.Redis(port=self.server.port, password=self.server.password) as client:
            client.set(f"{self.space}:results", "mine")
            courier = self.connect()
            with pytest.raises(SinkBusy, match="WRONGTYPE"):
                courier.send(many(3))
            client.delete(f"{self.space}:results")
        deliver(courier, many(3))
        courier.close()
        self.check(many(3))

    def test_a_wrong_password_is_busy(self) -> None:
        courier = Redis(url=f"redis://:wr0ngpw@127.0.0.1:{self.server.port}/0").connect("out")
        with pytest.raises(SinkBusy, match=r"(?i)password") as caught:
            courier.send(many(1))
        courier.close()
        assert "wr0ngpw" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"url": "http://host"}, "url"),
        ({"url": "redis://host:99999"}, "url"),
        ({"url": "redis://:s3cr3t pw@"}, "url"),
        ({"url": "redis://:s3cr3t@host:0"}, "url"),
        ({"url": "redis://:s3cr3t@host/zero"}, "url"),
        ({"ca_file": "x.pem"}, "ca_file"),
        ({"url": "rediss://:s3cr3t@host", "ca_file": "/no/such"}, "ca_file"),
        ({"key": "thresher:{label}"}, "key"),
        ({"key": "thresher:{"}, "key"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], place: str) -> None:
    plan = Redis(**settings)
    for step in (plan.check, lambda: plan.connect("out")):
        with pytest.raises(InputError) as caught:
            step()
        assert caught.value.place == place and "s3cr3t" not in str(caught.value)


def test_words_behind_the_url_that_nobody_knows() -> None:
    with pytest.raises(InputError) as caught:
        Redis(url="redis://:s3cr3t@host/0?no_such=1").connect("out")
    assert caught.value.place == "url" and "s3cr3t" not in str(caught.value)


class Encrypted(RedisServer):
    """One that speaks TLS, and nothing else."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        super().__init__()

    def command(self) -> Sequence[str]:
        words = [*super().command(), "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        words += ["--tls-cert-file", str(self._pair.file), "--tls-key-file", str(self._pair.key)]
        words[words.index("--port") + 1] = "0"
        return words


def test_over_tls_the_server_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = certificate(tmp_path, "redis.test")
    for name in ("redis.test", "another.test"):
        leads(monkeypatch, name, "127.0.0.1")
    with Encrypted(pair) as server:
        url = f"rediss://:{server.password}@{{}}:{server.port}/0"
        courier = Redis(url=url.format("redis.test"), ca_file=str(pair.file)).connect("out")
        assert courier.send(many(3)) == 3
        courier.close()
        courier = Redis(url=url.format("another.test"), ca_file=str(pair.file)).connect("out")
        with pytest.raises(SinkBusy, match=r"(?i)certificate"):
            courier.send(many(3))
        courier.close()
