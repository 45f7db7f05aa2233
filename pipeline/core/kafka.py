"""What a source and a sink both have to be told of a Kafka cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.core import reach
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact, remember
from pipeline.core.settings import Settings

_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@,\[\]]+)(?::([1-9]\d{0,4}))?")
_HERE = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SECRET = re.compile(r"(?i)password|secret|\.key|token|jaas|sasl.oauthbearer.config")
_SAID_ELSEWHERE = {
    "bootstrap.servers": "brokers",
    "metadata.broker.list": "brokers",
    "ssl.ca.location": "ca_file",
    "sasl.username": "username",
    "sasl.password": "password",
    "security.protocol": "tls",
}
_MECHANISM = frozenset({"sasl.mechanism", "sasl.mechanisms"})


class Cluster(Settings):
    """Its brokers, and who this is to them."""

    brokers: str = Field(
        "127.0.0.1:9092",
        min_length=1,
        max_length=10_000,
        description="where to ask first: host:port, several with commas between",
    )
    tls: bool = Field(False, description="encrypted, with the brokers' certificates checked")
    ca_file: str = Field("", description="with `tls`, PEM file of the authorities to trust, instead of the system's")
    username: str | None = Field(None, min_length=1, description="who this is to the brokers")
    password: str | None = Field(None, min_length=1, repr=False, description="give it as ${VARIABLE}")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how the password is shown"
    )
    options: Mapping[str, str | int | bool | float] = Field(
        {},
        repr=False,
        description="further properties of librdkafka, such as client.rack, ssl.key.location, or sasl.mechanism"
        " where it is another one; secrets as ${VARIABLE}",
    )

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        self.remember()

    def remember(self) -> None:
        """Its secrets: again, where this may be another process."""
        if self.password:
            remember(self.password)
        for name, value in self.options.items():
            if _SECRET.search(name):
                remember(str(value))

    def check_cluster(self, fixed: frozenset[str]) -> None:
        """`fixed` are properties that are no matter of `options`. Raises `InputError` and `MissingPart`."""
        try:
            for host, _ in self._hosts():
                reach.check(host, private=True)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "brokers") from None
        if (self.username is None) != (self.password is None):
            raise InputError("`username` and `password` belong together", "password" if self.password else "username")
        local = all(host in _HERE for host, _ in self._hosts())
        if self.password is not None and not self.tls and not local:
            raise InputError("a password is sent with `tls: true` only", "password")
        if self.ca_file and not self.tls:
            raise InputError("is for TLS: set `tls: true` as well", "ca_file")
        if self.ca_file and not self._authorities().is_file():
            raise InputError("there is no such file", "ca_file")
        said = _SAID_ELSEWHERE | (dict.fromkeys(_MECHANISM, "mechanism") if self.username else {})
        for name in self.options:
            if name in said:
                raise InputError(f"is said by `{said[name]}`: leave it out", f"options.{name}")
            if name in fixed:
                raise InputError("is set already: leave it out", f"options.{name}")
        client()

    def check_reach(self) -> None:
        """Asks the name service. librdkafka resolves the names once more, and those of the brokers that these name,
        which cannot be looked at from here. Raises `OutOfReachError`."""
        for host, port in self._hosts():
            reach.check_all(host, port, private=True)

    def properties(self) -> dict[str, Any]:
        """For librdkafka, `options` among them."""
        sasl = self.username is not None or not _MECHANISM.isdisjoint(self.options)
        known: dict[str, Any] = {
            "client.id": "thresher",
            **self.options,
            "bootstrap.servers": self.brokers,
            "security.protocol": ("SASL_" if sasl else "") + ("SSL" if self.tls else "PLAINTEXT"),
        }
        if self.username:
            known |= {"sasl.username": self.username, "sasl.password": self.password}
            known |= {"sasl.mechanism": self.mechanism}
        if self.ca_file:
            known["ssl.ca.location"] = str(self._authorities())
        return known

    def _hosts(self) -> list[tuple[str, int]]:
        """Raises `InputError`."""
        found = [_BROKER.fullmatch(broker.strip()) for broker in self.brokers.split(",")]
        if not all(found):
            raise InputError("should be host:port, several with commas between", "brokers")
        return [(one[1], int(one[2] or 9092)) for one in found if one is not None]

    def _authorities(self) -> Path:
        return Path(os.path.expanduser(self.ca_file))


def client() -> Any:
    """confluent-kafka. Raises `MissingPart`."""
    try:
        import confluent_kafka
    except ImportError:
        raise MissingPart("needs the package confluent-kafka: pip install 'thresher[kafka]'") from None
    return confluent_kafka
