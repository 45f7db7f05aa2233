"""The running part of the MQTT sink. The library's own thread keeps the connection alive between two sends."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from paho.mqtt.client import Client, MQTTMessageInfo, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from pipeline.core import reach
from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.letters import Letter
from pipeline.core.secrets import redact
from pipeline.core.snapshot import Snapshot
from sinks.homeassistant import Retained, Sensors
from sinks.sending import ANSWER_S, BEGIN_S, FOLDERS, Arrivals, raw

if TYPE_CHECKING:
    from sinks.mqtt import Mqtt

_KEEP_ALIVE_S: Final = 15
_IN_FLIGHT: Final = 100  # unacknowledged at once, where the broker does not ask for less
_IN_FLIGHT_311: Final = 20  # what brokers that cannot say so are used to
_LARGEST: Final = 268_435_455  # bytes of a packet, by the protocol
_HEADERS: Final = 1024  # bytes of a packet that are not its payload, at most
_SUSPICIOUS: Final = 16_384  # bytes from which on a letter may be what a broker breaks off for: most say nothing else
_MOST_CUTS: Final = 5  # times that it does so before it is believed
_REFUSED: Final = frozenset({0x90, 0x95, 0x99})  # topic name invalid, packet too large, payload format invalid


class _Message(NamedTuple):
    letter: int  # its place among those that are sent
    topic: str
    payload: bytes
    retain: bool
    properties: Properties | None


class _Client(Client):
    """One that connects to addresses which were checked."""

    why = ""
    """It does not."""

    def _create_socket_connection(self) -> socket.socket:
        self.why = ""
        try:
            return reach.create_connection((self.host, self.port), self.connect_timeout, private=True)
        except reach.OutOfReachError as error:
            self.why = redact(error)
            raise


class Publisher:
    most = 256

    def __init__(self, plan: Mqtt, name: str) -> None:
        self._plan = plan
        self._port = plan.port or (8883 if plan.tls else 1883)
        self._where = f"mqtt{'s' if plan.tls else ''}://{plan.host}:{self._port}"
        unique = sha256(raw(f"{socket.gethostname()} {plan.prefix}")).hexdigest()[:8]
        self._client_id = plan.client_id or f"thresher-{name}-{unique}"
        self._status = f"{plan.prefix}/status"
        self._sensors = Sensors(plan.prefix, plan.discovery_prefix) if plan.homeassistant else None
        self._arrivals = Arrivals()
        self._changed = threading.Condition()  # guards what follows: the library's thread writes it, too
        self._state = "connecting"  # up, down
        self._why = ""
        self._window, self._largest = 1, _LARGEST
        self._acknowledged: dict[int, Any] = {}
        self._told: dict[str, str] = {}
        self._client: Client | None = None
        self._closed = False
        self._cut_off, self._cuts = False, 0
        self._open()

    def _open(self) -> Client:
        five = self._plan.protocol == "5"
        client = _Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=MQTTv5 if five else MQTTv311)
        if self._plan.username is not None:
            client.username_pw_set(self._plan.username, self._plan.password)
        if (context := self._plan.context()) is not None:
            client.tls_set_context(context)
        client.will_set(self._status, "offline", qos=1, retain=True)
        client.connect_timeout = BEGIN_S
        client.reconnect_delay_set(1, 2)
        client.max_inflight_messages_set(0)  # no bound of its own: ours is what the broker asks for
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_publish = self._on_disconnect, self._on_publish
        with self._changed:
            self._state, self._why = "connecting", "no answer in time"
            self._acknowledged.clear()
        client.connect_async(self._plan.host, self._port, _KEEP_ALIVE_S)
        client.loop_start()
        self._client = client
        return client

    def send(self, letters: Sequence[Letter]) -> int:
        if self._closed:
            raise SinkBusy(f"{self._where}: closed")
        deadline = time.monotonic() + ANSWER_S
        client = self._client or self._open()
        with self._changed:
            self._changed.wait_for(lambda: self._state != "connecting", deadline - time.monotonic())
            state, why = self._state, self._why
            self._acknowledged.clear()  # of states, which nobody waits for
        if state == "connecting":
            self._let_go()  # not under the lock, which the library's thread may want
        if state != "up":
            raise SinkBusy(f"{self._where}: {why}")
        missing = self._arrivals.missing(letters)
        if self._cut_off:
            missing = missing[:1]  # was it this one that the broker did not like?
        troubles = self._publish(client, missing, deadline)
        arrived = {letter.id for n, letter in enumerate(missing) if n not in troubles}
        busy = any(isinstance(trouble, SinkBusy) for trouble in troubles.values())
        alone, self._cut_off = self._cut_off, busy and self._state == "down"
        if busy:
            self._let_go()  # with all that it may still have in hand: it comes again, from here
        count = self._arrivals.settle(letters, arrived)
        if count:
            self._cuts = 0
            return count
        if alone and self._cut_off and len(letters[0].body) > _SUSPICIOUS:
            self._cuts += 1
            if self._cuts >= _MOST_CUTS:
                self._cuts, self._cut_off = 0, False
                raise SinkRefused(
                    f"{self._where} closes the connection whenever these {len(letters[0].body)} bytes come"
                )
        raise troubles[0]

    def _publish(self, client: Client, letters: Sequence[Letter], deadline: float) -> dict[int, SinkBusy | SinkRefused]:
        """What became of those that the broker has not acknowledged, by their places."""
        troubles: dict[int, SinkBusy | SinkRefused] = {}
        waiting: dict[int, int] = {}
        late = SinkBusy(f"{self._where}: no answer in time")
        for message in self._messages(letters):
            if message.letter in troubles:
                continue
            if len(message.payload) > self._largest - _HEADERS:
                troubles[message.letter] = SinkRefused(
                    f"{len(message.payload)} bytes are more than {self._where} takes"
                )
                continue
            if not self._settle(waiting, troubles, self._window - 1, deadline):
                troubles |= dict.fromkeys(range(message.letter, len(letters)), late)
                break
            info: MQTTMessageInfo = client.publish(
                message.topic, message.payload, 1, message.retain, message.properties
            )
            if info.rc not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN}:
                troubles[message.letter] = SinkBusy(f"{self._where}: {info.rc.name}")
                continue
            waiting[info.mid] = message.letter
        if not self._settle(waiting, troubles, 0, deadline):
            troubles |= dict.fromkeys((n for n in waiting.values() if n not in troubles), late)
        return troubles

    def _settle(
        self, waiting: dict[int, int], troubles: dict[int, SinkBusy | SinkRefused], most: int, deadline: float
    ) -> bool:
        """Wait until no more than `most` messages wait for their acknowledgement; False where that is not to be had."""
        with self._changed:
            while True:
                for mid in [mid for mid in waiting if mid in self._acknowledged]:
                    code, letter = self._acknowledged.pop(mid), waiting.pop(mid)
                    if code.is_failure:
                        kind = SinkRefused if code.value in _REFUSED else SinkBusy
                        troubles[letter] = kind(f"{self._where}: {code}")
                if len(waiting) <= most:
                    return True
                left = deadline - time.monotonic()
                if left <= 0 or self._state != "up":
                    return False
                self._changed.wait(left)

    def _messages(self, letters: Sequence[Letter]) -> Iterator[_Message]:
        for n, letter in enumerate(letters):
            stream = _level(letter.stream)
            topic = f"{self._plan.prefix}/{stream}/{FOLDERS[letter.kind]}"
            yield _Message(n, topic, letter.body, False, self._properties(letter))
            if self._sensors is not None and letter.kind == "event":
                for kept in self._sensors.event(stream, letter.document):
                    yield _Message(n, kept.topic, kept.payload, True, None)

    def _properties(self, letter: Letter) -> Properties | None:
        if self._plan.protocol != "5":
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        properties.UserProperty = [("id", _text(letter.id)), ("kind", letter.kind), ("about", _text(letter.about))]
        return properties

    def observe(self, snapshot: Snapshot) -> None:
        """Keep the retained states of the streams up to date. What cannot be told now is told once it can."""
        if self._closed:
            return
        client = self._client or self._open()
        with self._changed:
            self._acknowledged.clear()
        for stream in snapshot.streams:
            name = _level(stream.stream)
            state = json.dumps({"state": str(stream.state), "detail": stream.detail}, ensure_ascii=True)
            with self._changed:
                if self._state != "up" or self._told.get(name) == state:
                    continue
                self._told[name] = state
            kept = [*(self._sensors.stream(name) if self._sensors else ())]
            for one in (*kept, Retained(f"{self._plan.prefix}/{name}/state", state.encode())):
                client.publish(one.topic, one.payload, 0, True)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, code: Any, properties: Properties | None) -> None:
        with self._changed:
            if code.is_failure:
                self._state, self._why = "down", redact(code)
            else:
                asked = getattr(properties, "ReceiveMaximum", _IN_FLIGHT)
                self._window = min(asked, _IN_FLIGHT) if self._plan.protocol == "5" else _IN_FLIGHT_311
                self._largest = getattr(properties, "MaximumPacketSize", _LARGEST)
                self._told.clear()
                if self._sensors is not None:
                    self._sensors.forget()
                client.publish(self._status, "online", 0, True)
                self._state = "up"
            self._changed.notify_all()

    def _on_connect_fail(self, client: Client, _data: Any) -> None:
        if isinstance(client, _Client) and client.why:
            self._down(client.why)
            return
        self._down("cannot be reached" + (", or its certificate is not trusted" if self._plan.tls else ""))

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        with self._changed:
            if self._state == "up":
                self._down(f"the connection broke off: {redact(code)}")

    def _down(self, why: str) -> None:
        with self._changed:
            self._state, self._why = "down", why
            self._changed.notify_all()

    def _on_publish(self, _client: Client, _data: Any, mid: int, code: Any, _properties: Any) -> None:
        with self._changed:
            self._acknowledged[mid] = code
            self._changed.notify_all()

    def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.on_connect = client.on_connect_fail = client.on_disconnect = client.on_publish = None
            client.disconnect()
            client.loop_stop()

    def close(self) -> None:
        client = self._client
        if not self._closed and client is not None and self._state == "up":
            with self._changed:
                mid = client.publish(self._status, "offline", 1, True).mid
                self._changed.wait_for(lambda: mid in self._acknowledged or self._state != "up", 1.0)
        self._closed = True
        self._let_go()


def _level(name: str) -> str:
    """`name` as one level of a topic."""
    return re.sub(r"[+#/\x00]", "_", _text(name)) or "_"


def _text(name: str) -> str:
    """`name` as MQTT takes text: no lone surrogates, no NUL."""
    return raw(name).decode().replace("\x00", "\\x00")
