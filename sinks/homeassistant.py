"""What Home Assistant is told by MQTT discovery: which sensors there are, and whether they are on."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from sinks.sending import raw


class Retained(NamedTuple):
    """A message that the broker keeps."""

    topic: str
    payload: bytes


class Sensors:
    """The sensors of one connection: a label of a stream is on while any event of it lasts."""

    def __init__(self, prefix: str, discovery_prefix: str) -> None:
        self._prefix, self._discovery = prefix, discovery_prefix
        self._open: dict[tuple[str, str], set[str]] = {}
        self._announced: set[str] = set()

    def forget(self) -> None:
        """What was announced, it is announced again: this may be another broker."""
        self._announced.clear()

    def event(self, stream: str, document: dict[str, Any]) -> list[Retained]:
        """What an event's letter changes."""
        label = str(document["label"])
        lasting = self._open.setdefault((stream, label), set())
        (lasting.discard if document["type"] == "end" else lasting.add)(str(document["event"]))
        topic = f"{self._prefix}/{stream}/detected/{_slug(label)}"
        told = {"name": label, "state_topic": topic, "icon": "mdi:motion-sensor"}
        return [*self._announce(stream, f"detected_{_slug(label)}", told), Retained(topic, _on(bool(lasting)))]

    def stream(self, stream: str) -> list[Retained]:
        """Whether the source of a stream is alive: read from the stream's own state."""
        told = {
            "name": "Source",
            "state_topic": f"{self._prefix}/{stream}/state",
            "value_template": "{{ 'ON' if value_json.state == 'live' else 'OFF' }}",
            "json_attributes_topic": f"{self._prefix}/{stream}/state",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
        }
        return self._announce(stream, "source", told)

    def _announce(self, stream: str, what: str, told: dict[str, str]) -> list[Retained]:
        device = f"{_slug(self._prefix)}_{_slug(stream)}"
        topic = f"{self._discovery}/binary_sensor/{device}/{what}/config"
        if topic in self._announced:
            return []
        self._announced.add(topic)
        document = told | {
            "unique_id": f"{device}_{what}",
            "object_id": f"{device}_{what}",
            "payload_on": "ON",
            "payload_off": "OFF",
            "availability_topic": f"{self._prefix}/status",
            "device": {"identifiers": [device], "name": stream, "manufacturer": "Thresher", "sw_version": _version()},
            "origin": {"name": "Thresher", "sw_version": _version()},
        }
        return [Retained(topic, json.dumps(document).encode())]


def _on(on: bool) -> bytes:
    return b"ON" if on else b"OFF"


def _slug(name: str) -> str:
    """`name` in the letters that ids may have; names that differ in others stay different."""
    fit = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:48]
    return fit if fit == name else f"{fit}_{sha256(raw(name)).hexdigest()[:8]}"


def _version() -> str:
    try:
        return version("thresher")
    except PackageNotFoundError:
        return "unknown"
