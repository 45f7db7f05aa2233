from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from pipeline.core.contracts import Observer
from pipeline.core.errors import InputError, SinkBusy
from pipeline.core.letters import Letter, letter_of
from pipeline.core.records import SourceState
from pipeline.core.snapshot import Snapshot, StreamSnapshot
from sinks.mqtt import Mqtt
from tests.contracts.names import certificate
from tests.contracts.remote_suite import PinningSuite, Word, deliver, many
from tests.contracts.sink_suite import event
from tests.sinks.servers import Mosquitto, eventually, free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


class Broker(Mosquitto):
    """With a subscriber to all that is said, which is there again before anybody else may speak."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._marked: set[bytes] = set()
        self._subscribed = threading.Event()
        self._reader = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self._reader.username_pw_set(self.user, self.password)
        self._reader.reconnect_delay_set(1, 1)
        self._reader.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._reader.on_subscribe = lambda *_: self._subscribed.set()
        self._reader.on_message = lambda _client, _data, message: self._take(message)
        super().__init__()

    def start(self) -> None:
        super().start()
        if not self._subscribed.is_set() and self._reader._thread is None:
            self._reader.connect_async("127.0.0.1", self.port)
            self._reader.loop_start()
        assert self._subscribed.wait(30)

    def stop(self) -> None:
        self._subscribed.clear()
        super().stop()

    def _take(self, message: Any) -> None:
        if message.topic == "marker":
            self._marked.add(message.payload)
        else:
            self.messages.append(message)

    def said(self, under: str) -> list[Any]:
        """All messages under that topic so far, the latest included."""
        mark = uuid4().hex.encode()
        self._reader.publish("marker", mark, 1)
        eventually(lambda: mark in self._marked)
        return [one for one in self.messages if one.topic.startswith(under + "/")]

    def kept(self, under: str) -> dict[str, bytes]:
        """What somebody who comes now is told."""
        found: dict[str, bytes] = {}
        done = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        client.username_pw_set(self.user, self.password)

        def take(_client: Any, _data: Any, message: Any) -> None:
            if message.topic == under + "/over":
                done.set()
            elif message.retain:
                found[message.topic] = message.payload

        client.on_message = take
        client.on_subscribe = lambda client, *_: client.publish(under + "/over", b"", 1)
        client.on_connect = lambda client, *_: client.subscribe(under + "/#", 1)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        assert done.wait(10)
        client.disconnect()
        client.loop_stop()
        return found

    def __exit__(self, *words: Any) -> None:
        self._reader.disconnect()
        self._reader.loop_stop()
        super().__exit__(*words)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running


class TestMqtt(PinningSuite):
    kind = "mqtt"
    said_at = "host"
    secrets = (Mosquitto.password,)
    kinds_apart = True

    @pytest.fixture(autouse=True)
    def _server(self, broker: Broker) -> Iterator[None]:
        self.server: Broker = broker
        broker.well()
        yield
        broker.well()

    def plan(self, port: int | None = None) -> Mqtt:
        return Mqtt(
            host=self.host,
            port=port or self.server.port,
            username=self.server.user,
            password=self.server.password,
            prefix=self.space,
        )

    def words(self) -> list[Word]:
        found = []
        for message in self.server.said(self.space):
            if message.topic.count("/") == 2 and not message.retain and "/state" not in message.topic:
                _, stream, kind = message.topic.split("/")
                assert kind in {"results", "events", "rulings", "audits", "outages"} and message.qos == 1
                document = json.loads(message.payload)
                assert stream == (document.get("stream") or document["show"])
                about = dict(message.properties.UserProperty)
                assert about["about"] in document.values() and message.properties.ContentType == "application/json"
                found.append(Word(about["id"], stream, document))
        return found

    def poisoned(self) -> Letter:
        body = b'"' + b"x" * (self.server.most_bytes + 1) + b'"'
        return Letter("door/e/bad:1", "outcome", "door/e/bad", "door", body)

    def test_whether_it_is_there_is_kept(self) -> None:
        courier = self.connect()
        deliver(courier, many(1))
        assert self.server.kept(self.space)[f"{self.space}/status"] == b"online"
        courier.close()
        assert self.server.kept(self.space)[f"{self.space}/status"] == b"offline"

    def test_the_broker_says_so_where_the_program_dies(self) -> None:
        script = (
            "import pickle, sys, time; from tests.contracts.remote_suite import deliver, many\n"
            "courier = pickle.loads(sys.stdin.buffer.read()).connect('out'); deliver(courier, many(1))\n"
            "print('sent', flush=True); time.sleep(60)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(pickle.dumps(self.plan()))
            child.stdin.close()
            assert child.stdout.readline() == b"sent\n"
            assert self.server.kept(self.space)[f"{self.space}/status"] == b"online"
            os.kill(child.pid, signal.SIGKILL)
        eventually(lambda: self.server.kept(self.space)[f"{self.space}/status"] == b"offline")

    def test_it_is_online_again_by_itself_after_the_broker_was_away(self) -> None:
        courier = self.connect()
        deliver(courier, many(1))
        self.server.restart()
        eventually(lambda: self.server.kept(self.space).get(f"{self.space}/status") == b"online")
        courier.close()

    def test_states_of_streams_are_kept_and_told_once(self) -> None:
        courier = self.connect()
        assert isinstance(courier, Observer)
        deliver(courier, many(1))
        for state in (SourceState.LIVE, SourceState.LIVE, SourceState.SILENT, SourceState.SILENT):
            courier.observe(snapshot(state))
        topic = f"{self.space}/door/state"
        deliver(courier, many(1))  # acknowledged behind them
        told = [json.loads(one.payload)["state"] for one in self.server.said(self.space) if one.topic == topic]
        assert told == ["live", "silent"]
        assert json.loads(self.server.kept(self.space)[topic]) == {"state": "silent", "detail": "who knows"}
        self.server.restart()  # it has forgotten all
        eventually(lambda: self.server.kept(self.space).get(f"{self.space}/status") == b"online")
        courier.observe(snapshot(SourceState.SILENT))
        eventually(lambda: topic in self.server.kept(self.space))
        courier.close()
        courier.observe(snapshot(SourceState.LIVE))  # nothing any more
        assert json.loads(self.server.kept(self.space)[topic])["state"] == "silent"

    def test_home_assistant_finds_a_sensor_that_is_on_while_an_event_lasts(self) -> None:
        plan = self.plan().model_copy(update={"homeassistant": True, "discovery_prefix": f"{self.space}/ha"})
        courier = plan.connect("out")
        assert isinstance(courier, Observer)
        other = event("new", 5, "door/01K0EPOCH/person/2")
        steps = [event(), other, event("update", 9), event("end", 20), event("end", 30, other.id)]
        states = []
        for step in steps:
            deliver(courier, [letter_of(step)])
            kept = self.server.kept(self.space)
            states.append(kept[f"{self.space}/door/detected/person"])
        assert states == [b"ON", b"ON", b"ON", b"ON", b"OFF"]
        courier.observe(snapshot(SourceState.LIVE))
        deliver(courier, many(1))  # acknowledged behind that
        kept = self.server.kept(self.space)
        sensors = {topic: json.loads(text) for topic, text in kept.items() if topic.endswith("/config")}
        assert len(sensors) == 2
        for topic, sensor in sensors.items():
            assert topic.startswith(f"{self.space}/ha/binary_sensor/")
            assert sensor["state_topic"] in kept and sensor["availability_topic"] in kept
            assert sensor["device"]["name"] == "door" and sensor["unique_id"]
        (person,) = [sensor for sensor in sensors.values() if sensor["name"] == "person"]
        assert (person["payload_on"], person["payload_off"]) == ("ON", "OFF")
        assert person["state_topic"] == f"{self.space}/door/detected/person"
        courier.close()

    def test_a_repeated_event_leaves_the_sensor_as_it_was(self) -> None:
        plan = self.plan().model_copy(update={"homeassistant": True, "discovery_prefix": f"{self.space}/ha"})
        for _ in range(2):
            courier = plan.connect("out")
            deliver(courier, [letter_of(event()), letter_of(event("end", 20))])
            courier.close()
        assert self.server.kept(self.space)[f"{self.space}/door/detected/person"] == b"OFF"

    def test_the_older_protocol_works_as_well(self) -> None:
        courier = self.plan().model_copy(update={"protocol": "3.1.1"}).connect("out")
        deliver(courier, many(300))
        courier.close()
        said = [m for m in self.server.said(self.space) if m.topic.endswith("/results")]
        assert len(said) == 300

    def test_a_wrong_password_is_busy_and_not_told(self) -> None:
        plan = self.plan().model_copy(update={"password": "wr0ngpw"})
        courier = plan.connect("out")
        with pytest.raises(SinkBusy, match=r"(?i)not auth|bad user") as caught:
            courier.send(many(1))
        courier.close()
        assert "wr0ngpw" not in str(caught.value)

    # the library leaves the socket of a handshake that failed to the garbage collector
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_tls_is_verified(self, tmp_path: Path) -> None:
        pair = certificate(tmp_path, "localhost")

        class Encrypted(Mosquitto):
            def command(self) -> list[str]:
                (self.folder / "tls.conf").write_text(
                    f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
                    f"certfile {pair.file}\nkeyfile {pair.key}\n"
                )
                return ["mosquitto", "-c", "tls.conf"]

        with Encrypted() as broker:
            plan = Mqtt(host="localhost", port=broker.port, tls=True, prefix=self.space)
            courier = plan.connect("out")
            with pytest.raises(SinkBusy, match="certificate"):
                courier.send(many(1))
            courier.close()
            courier = plan.model_copy(update={"ca_file": str(pair.file)}).connect("out")
            assert courier.send(many(1)) == 1
            courier.close()


class Curt(Broker):
    """It closes the connection where a message is too long, and says nothing before."""

    def command(self) -> list[str]:
        command = [*super().command()]
        config = self.folder / "mosquitto.conf"
        config.write_text(config.read_text().replace("max_packet_size", "message_size_limit"))
        return command


def test_a_broker_that_closes_the_connection_at_a_letter_is_understood_in_the_end() -> None:
    with Curt() as broker:
        plan = Mqtt(port=broker.port, username=broker.user, password=broker.password, prefix="x")
        courier = plan.connect("out")
        bad = Letter("door/e/bad:1", "outcome", "door/e/bad", "door", b'"' + b"x" * (broker.most_bytes + 1) + b'"')
        refused = deliver(courier, [*many(10), bad, *many(10, 10)])
        courier.close()
        assert [name for name, _ in refused] == [bad.id] and "closes the connection" in refused[0][1]
        said = {json.loads(one.payload)["id"] for one in broker.said("x") if one.topic.endswith("results")}
        assert said == {letter.about for letter in many(20)}


def snapshot(state: SourceState) -> Snapshot:
    from pipeline.core.snapshot import Latency

    stream = StreamSnapshot("door", "people", state, "who knows", *(0.0, 0.0), *([0] * 10))
    return Snapshot(1.0, True, (stream,), (), (), Latency(), 0.0, 0)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"ca_file": "/no/such"}, "ca_file"),
        ({"tls": True, "ca_file": "/no/such"}, "ca_file"),
        ({"password": "x"}, "password"),
    ],
)
def test_mistakes_are_named(settings: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError) as caught:
        Mqtt(**settings).check()
    assert caught.value.place == place


@pytest.mark.parametrize("host", ["", "h:1883", "mqtt://h", "me:pw@h", "a b", "h/x"])
def test_a_host_is_a_host_alone(host: str) -> None:
    with pytest.raises(ValueError, match="a key of its own, `port`"):
        Mqtt(host=host)


@pytest.mark.parametrize("host", ["broker.local", "10.1.2.3", "::1", "[fd12::1]", "a_b"])
def test_what_a_host_may_be(host: str) -> None:
    Mqtt(host=host).check()


def test_the_protocol_may_be_a_number() -> None:
    assert Mqtt.model_validate({"protocol": 5}).protocol == "5"
    with pytest.raises(ValueError, match="protocol"):
        Mqtt.model_validate({"protocol": 4})


@pytest.mark.parametrize("prefix", ["", "a/", "/a", "a/+", "#", "$SYS/x", "a b"])
def test_a_prefix_is_a_topic(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Mqtt(prefix=prefix)


def test_a_broker_that_was_never_there_holds_up_no_end() -> None:
    courier = Mqtt(port=free_port()).connect("out")
    with pytest.raises(SinkBusy, match="cannot be reached"):
        courier.send(many(1))
    courier.close()
