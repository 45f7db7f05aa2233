"""The running part of `Kafka`: one consumer without a group, read by whoever iterates."""

from __future__ import annotations

import json
import logging
import time
from base64 import b32hexencode
from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.core.errors import InputError
from pipeline.core.places import Place
from pipeline.core.reach import OutOfReachError
from pipeline.core.records import Chunk, Gap, Item, Watermark
from pipeline.core.secrets import redact
from sources.conversation import Talk

if TYPE_CHECKING:
    from sources.kafka import Kafka

log = logging.getLogger(__name__)

_ASK_S = 5.0
_TICK_S = 0.5
_AT_ONCE = 500
_RECALLED = 64  # messages of each partition before the place, as context
_PARTS = 1000  # pieces that a message may come in, and partitions that a topic may have
_HOPELESS = frozenset({
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.TOPIC_EXCEPTION,
})  # fmt: skip


class KafkaReader:
    """Waits for brokers that are away, for as long as it takes; librdkafka comes back by itself. `start` is where it
    began, for a restart before the first message. Raises `InputError` where it cannot ever work."""

    def __init__(self, plan: Kafka, stream: str) -> None:
        self._plan, self._stream = plan, stream
        self._closed = False
        self._troubled = ""
        try:
            plan.check_reach()
            self._consumer = Consumer({**plan.properties(), "error_cb": self._trouble}, logger=log)
        except OutOfReachError as error:
            raise InputError(redact(error), plan.brokers) from None
        except (KafkaException, TypeError, ValueError) as error:
            first = error.args[0] if error.args else error
            said = first.str() if isinstance(first, KafkaError) else str(first)
            raise InputError(f"the library does not take them: {redact(said)}", "options") from None
        try:
            partitions = self._find()
            place = plan._behind.get("")
            self._behind_seq = -1 if place is None else place.seq
            self._talk = Talk(plan, stream, self.epoch)
            self._start_ns = time.monotonic_ns()
            if place is not None:  # media time goes on as if it had been read all the while
                self._start_ns -= place.pts_ns + max(1, time.time_ns() - place.wall_ns)
            self._next = self._begin(partitions, place)
        except BaseException:
            self.close()
            raise
        self._wanted = dict(self._next)  # from here on they are judged; what is before is context
        self.start = Place(self.epoch, -1, 0, time.time_ns(), self._position())
        self._next = {partition: max(0, offset - _RECALLED) for partition, offset in self._next.items()}
        self._assign()

    def _assign(self) -> None:
        topic = self._plan.topic
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in self._next.items()])

    def _find(self) -> list[int]:
        """The partitions to read. Waits for the brokers."""
        plan = self._plan
        while True:
            try:
                known = self._consumer.list_topics(plan.topic, timeout=_ASK_S)
                break
            except KafkaException as error:
                self._hopeless(error.args[0])
                self._trouble(error.args[0])
                self._consumer.poll(0)  # hears of the reason
        topic = known.topics[plan.topic]
        if topic.error is not None:
            self._hopeless(topic.error)
            raise InputError(f"there is no topic {plan.topic}, or it has no leader: {topic.error.str()}", plan.brokers)
        there = sorted(topic.partitions)
        if there and there[-1] >= _PARTS:
            raise InputError(f"topic {plan.topic} has more than {_PARTS} partitions", plan.brokers)
        if absent := [one for one in plan.partitions or () if one not in topic.partitions]:
            raise InputError(
                f"topic {plan.topic} has partitions {there[0]} to {there[-1]}, and no {absent[0]}", "partitions"
            )
        name = f"{known.cluster_id}/{plan.topic}".encode()
        self.epoch = b32hexencode(blake2b(name, digest_size=16).digest()).decode().rstrip("=")
        return there if plan.partitions is None else sorted(set(plan.partitions))

    def _begin(self, partitions: list[int], place: Place | None) -> dict[int, int]:
        """The first offset of each that is to be judged. A partition that the place knows nothing of is a new one."""
        known: dict[int, int] = {}
        if place is not None:
            try:
                known = {int(partition): int(offset) for partition, offset in json.loads(place.position).items()}
            except (ValueError, AttributeError, TypeError):
                log.warning("%s: the state does not say where it was; it begins as without", self._stream)
        begin = {}
        for partition in partitions:
            if partition in known:
                begin[partition] = known[partition]
            else:
                low, high = self._bounds(partition)
                begin[partition] = low if self._plan.from_start or known else high
        return begin

    def _bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that is there, and the one behind the last."""
        while True:
            try:
                return self._consumer.get_watermark_offsets(TopicPartition(self._plan.topic, partition), timeout=_ASK_S)
            except KafkaException as error:
                self._hopeless(error.args[0])
                self._trouble(error.args[0])

    def _position(self) -> str:
        return json.dumps(self._next, separators=(",", ":"))

    def __iter__(self) -> Iterator[Item]:
        told_s = time.monotonic()
        while not self._closed:
            first = self._consumer.poll(_TICK_S)
            for message in () if first is None else (first, *self._consumer.consume(_AT_ONCE, 0)):
                yield from self._items(message)
                told_s = time.monotonic()
            if time.monotonic() - told_s >= _TICK_S:
                yield Watermark(self._stream, time.monotonic_ns() - self._start_ns)
                told_s = time.monotonic()

    def _items(self, message: Message) -> Iterator[Item]:
        partition, offset = message.partition(), message.offset()
        if (error := message.error()) is not None:
            if error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
                yield from self._out_of_range(partition)
            else:
                self._hopeless(error)
                self._trouble(error)
            return
        if partition is None or offset is None:
            return
        self._troubled = ""
        self._next[partition] = offset
        talk, data = self._talk, message.value()
        talk.seq = first = (offset * _PARTS + partition) * _PARTS
        judged = offset >= self._wanted[partition]
        if judged:
            talk.position = self._wanted_position(partition, offset)
        items = [] if data is None else talk.data(data, self._moment(message))
        self._next[partition] = offset + 1
        if not judged:
            return
        if talk.seq - first > _PARTS:
            log.warning("%s: a message comes in more than %d pieces and is not judged", self._stream, _PARTS)
            items = [Gap(self._stream, "damaged", 1)]
        for item in items:
            if isinstance(item, Chunk) and first <= self._behind_seq and item.seq <= self._behind_seq < first + _PARTS:
                continue  # this piece was judged before the restart
            yield item

    def _wanted_position(self, partition: int, offset: int) -> str:
        """Of each partition the first message that is not judged for good once this one is on its way: itself, for it
        may have more pieces."""
        return json.dumps(
            {one: max(at, self._wanted[one]) for one, at in {**self._next, partition: offset}.items()},
            separators=(",", ":"),
        )

    def _moment(self, message: Message) -> tuple[int, int, int]:
        """When it came; by the clock on the wall, when it was produced."""
        now_ns = time.monotonic_ns()
        kind, stamp_ms = message.timestamp()
        wall_ns = stamp_ms * 1_000_000 if kind and stamp_ms > 0 else time.time_ns()
        return now_ns, wall_ns, now_ns - self._start_ns

    def _out_of_range(self, partition: int) -> Iterator[Gap]:
        """The topic deleted what was to come next, or was made anew."""
        at, (low, high) = self._next[partition], self._bounds(partition)
        if at < low:
            lost = low - max(at, self._wanted[partition])
            if lost > 0:
                log.warning(
                    "%s: %d messages of partition %d (from %d on) were deleted before they were read",
                    self._stream, lost, partition, low - lost,
                )  # fmt: skip
                yield Gap(self._stream, "undecoded", lost)
        else:
            log.warning(
                "%s: partition %d ends at %d, before %d, where this was: the topic was made anew, and is read from its"
                " beginning",
                self._stream, partition, high, at,
            )  # fmt: skip
            self._wanted[partition], self._behind_seq = low, -1
        self._next[partition] = low
        self._assign()

    def _trouble(self, error: KafkaError) -> None:
        """Said once; it is tried again by whoever asked."""
        what = redact(error.str())
        if what != self._troubled:
            self._troubled = what
            log.warning("%s: %s; it goes on once the brokers answer", self._stream, what)

    def _hopeless(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _HOPELESS:
            raise InputError(redact(error.str()), self._plan.brokers)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._consumer.close()
