"""Messages of a Kafka topic."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field, NonNegativeInt

from pipeline.core.contracts import Reader
from pipeline.core.kafka import Cluster
from sources.conversation import Conversation
from sources.resuming import Resumable

_OURS: Final = {
    "group.id": "thresher",  # it wants one; nothing is ever committed to it
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "allow.auto.create.topics": False,
}


class Kafka(Cluster, Conversation, Resumable):
    """A Kafka topic, one message a record: as it is, or a JSON object.

    It is no live source: what is produced waits in the topic, and none is ever dropped. There is no consumer group:
    where a run goes on is in the folder for `state`, and nobody else is disturbed. Windows are named after the cluster
    and the topic, and numbered by what Kafka numbers them by: offset, partition (three digits), and the piece of a long
    message (three digits), so that another reading gives the same ids. What the topic has deleted before it was read is
    logged, and counted as undecoded. Behind a restart, the 64 messages before are read once more for context.
    """

    topic: str = Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")
    partitions: tuple[NonNegativeInt, ...] | None = Field(None, description="only these; default: all that there are")
    from_start: bool = Field(False, description="take the messages that are there already, too")

    def check(self) -> None:
        self.check_cluster(frozenset(_OURS))

    @property
    def endless(self) -> bool:
        return True

    def properties(self) -> dict[str, Any]:
        return {"fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 16_384, **super().properties(), **_OURS}

    def open(self, stream: str) -> Reader:
        self.remember()  # again: this may be another process
        self.check()
        from sources.kafka_reading import KafkaReader

        return KafkaReader(self, stream)
