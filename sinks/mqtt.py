"""Results, events and rulings as MQTT messages, with availability, states, and Home Assistant's discovery."""

from __future__ import annotations

import os
import re
import ssl
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from pipeline.core import reach
from pipeline.core.contracts import Courier, Remote
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact, remember

_TOPIC = re.compile(r"(?![$/])[^+#\x00-\x1f\s]+(?<!/)")
_HOST = re.compile(r"[^\s/@:]+|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%\w]*\]?")


class Mqtt(Remote):
    """Documents go to `PREFIX/STREAM/results`, `…/events`, `…/audits`, `…/outages` and `PREFIX/SHOW/rulings`, with
    QoS 1: the broker has said that it has them before they count as sent.

    Kept by the broker (retained): `PREFIX/status`, `online` or `offline`, which the broker says itself where this
    program dies; and `PREFIX/STREAM/state`, what a stream's source is doing. A message that comes again has the same
    `id` among its user properties (MQTT 5).
    """

    host: str = Field("127.0.0.1", max_length=253, description="of the broker")
    port: int | None = Field(None, ge=1, le=65535, description="default: 1883, with TLS 8883")
    username: str | None = Field(None, description="who this is to the broker")
    password: str | None = Field(None, repr=False, description="give it as ${VARIABLE}")
    tls: bool = Field(False, description="encrypted, and the broker's certificate is verified")
    ca_file: str = Field("", description="with `tls`, PEM file of the authorities to trust, instead of the system's")
    client_id: str = Field(
        "", max_length=128, description="unique at the broker (default: made from this machine's name and the sink's)"
    )
    prefix: str = Field("thresher", max_length=200, description="what every topic begins with; one for each program")
    protocol: Annotated[Literal["5", "3.1.1"], BeforeValidator(lambda value: "5" if value == 5 else value)] = Field(
        "5", description="with 3.1.1, a broker cannot say that it refuses a message: what is too large for it is lost"
    )
    homeassistant: bool = Field(
        False, description="announce a binary sensor for each stream and each label of its events to Home Assistant"
    )
    discovery_prefix: str = Field(
        "homeassistant", max_length=200, description="where Home Assistant looks for announcements"
    )

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        if not _HOST.fullmatch(host):
            raise ValueError("should be a host alone, like broker.local; its port is a key of its own, `port`")
        return host

    @field_validator("prefix", "discovery_prefix")
    @classmethod
    def _begins_a_topic(cls, prefix: str) -> str:
        if not _TOPIC.fullmatch(prefix):
            raise ValueError("should be words with / between, like site/hall: without spaces, + and #, and no $ first")
        return prefix

    def model_post_init(self, _context: object) -> None:
        self._remember()

    def _remember(self) -> None:
        if self.password:
            remember(self.password)

    def context(self) -> ssl.SSLContext | None:
        """Raises `InputError`."""
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=os.path.expanduser(self.ca_file) if self.ca_file else None)
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror or error}", "ca_file") from None

    def check(self) -> None:
        try:
            reach.check(self.host, private=True)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "host") from None
        if self.ca_file and not self.tls:
            raise InputError("is for TLS: set `tls: true` as well", "ca_file")
        if self.password is not None and self.username is None:
            raise InputError("needs a username", "password")
        self.context()
        _library()

    def connect(self, name: str) -> Courier:
        self._remember()  # again: this may be another process
        self.check()
        from sinks.mqtt_publishing import Publisher

        return Publisher(self, name)


def _library() -> None:
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError:
        raise MissingPart("needs the package paho-mqtt: pip install 'thresher[mqtt]'") from None
