"""Messages of a Kafka topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from pipeline.core.contracts import Reader
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import remember
from sources.conversation import Conversation
from sources.resuming import Resumable

_HERE = ("localhost", "127.0.0.1", "[::1]")


class Kafka(Conversation, Resumable):
    """A Kafka topic, one message a record: as it is, or a JSON object.

    It is no live source: what is produced waits in the topic, and none is ever dropped. There is no consumer group:
    where a run goes on is in the folder for `state`, and nobody else is disturbed. Windows are named after the cluster
    and the topic, and numbered by what Kafka numbers them by: offset, partition (three digits), and the piece of a long
    message (three digits), so that another reading gives the same ids. What the topic has deleted before it was read is
    logged, and counted as undecoded. Behind a restart, the 64 messages before are read once more for context.
    """

    brokers: str = Field(min_length=1, description="where to ask first: host:port, several with commas between")
    topic: str = Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")
    partitions: tuple[NonNegativeInt, ...] | None = Field(None, description="only these; default: all that there are")
    from_start: bool = Field(False, description="take the messages that are there already, too")
    tls: bool = Field(False, description="encrypted, with the brokers' certificates checked")
    ca: Path | None = Field(None, description="file with the certificates to check by (default: the system's)")
    user: str | None = Field(None, min_length=1)
    password: str | None = Field(None, min_length=1, repr=False, description="give it as ${VARIABLE}")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how the password is shown"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` belong together")
        local = all(broker.strip().rpartition(":")[0] in _HERE for broker in self.brokers.split(","))
        if self.password is not None and not self.tls and not local:
            raise ValueError("a password is sent with `tls: true` only")
        if self.ca is not None and not self.tls:
            raise ValueError("`ca` is for `tls: true`")
        return self

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        self._remember()

    def _remember(self) -> None:
        if self.password:
            remember(self.password)

    def check(self) -> None:
        needed()
        if self.ca is not None and not self.ca.is_file():
            raise InputError("there is no such file", str(self.ca))

    @property
    def endless(self) -> bool:
        return True

    def options(self) -> dict[str, Any]:
        """For librdkafka."""
        security = ("SASL_" if self.user else "") + ("SSL" if self.tls else "PLAINTEXT")
        options: dict[str, Any] = {
            "bootstrap.servers": self.brokers,
            "client.id": "thresher",
            "group.id": "thresher",  # it wants one; nothing is ever committed to it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 16_384,
            "security.protocol": security,
        }
        if self.user:
            options |= {"sasl.mechanism": self.mechanism, "sasl.username": self.user, "sasl.password": self.password}
        if self.ca is not None:
            options["ssl.ca.location"] = str(self.ca)
        return options

    def open(self, stream: str) -> Reader:
        self._remember()  # again: this may be another process
        self.check()
        from sources.kafka_reading import KafkaReader

        return KafkaReader(self, stream)


def needed() -> None:
    """Raises `MissingPart`."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise MissingPart("needs the package confluent-kafka: pip install 'thresher[kafka]'") from None
