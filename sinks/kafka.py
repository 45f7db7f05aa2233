"""Results, events and rulings as records in Kafka."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from pydantic import Field

from pipeline.core.contracts import Courier, Remote
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.kafka import Cluster, client
from pipeline.core.letters import Letter
from pipeline.core.reach import OutOfReachError
from pipeline.core.secrets import redact
from sinks.sending import ANSWER_S, BEGIN_S, Arrivals, filled, raw

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_OURS: Final = {
    "enable.idempotence": True,
    "acks": "all",
    "enable.gapless.guarantee": True,  # nothing may overtake what did not arrive
    "message.timeout.ms": int(ANSWER_S * 1000),  # then it is given up, here, and comes again
    "linger.ms": 5,
}
_FIXED: Final = frozenset({"delivery.timeout.ms", *_OURS} - {"linger.ms"})
_REPORTS_S: Final = 1.0  # until a producer that broke has said what became of what it had
_UNHEARD: Final = logging.Logger("librdkafka", logging.CRITICAL + 1)  # what goes wrong is said by the sink


class Kafka(Cluster, Remote):
    """One record a document, keyed by the stream, so that a stream's are in one partition and in order; headers `id`,
    `kind` and `about`. Acknowledged by all in-sync replicas, by an idempotent producer: what that sends again by itself
    is stored once. What comes again from the outbox has the same `id`."""

    topic: str = Field(
        "thresher.{kind}", min_length=1, description="where to; {kind} is results, events …, {stream} the stream"
    )

    def check(self) -> None:
        self.check_cluster(_FIXED)
        topic = filled(self.topic, "topic", Letter("", "outcome", "", "x", b""))
        if not _TOPIC.fullmatch(topic):
            raise InputError("a topic is made of letters, digits, and . _ -", "topic")

    def connect(self, name: str) -> Courier:
        self.remember()  # again: this may be another process
        self.check()
        return _Courier(self)


class _Courier:
    most = 1000

    def __init__(self, plan: Kafka) -> None:
        self._library = client()
        self._plan = plan
        self._where = f"kafka {plan.brokers}"
        self._arrivals = Arrivals()
        self._why = ""
        self._closed = False
        self._producer: Any = None
        self._open()

    def _open(self) -> Any:
        try:
            self._plan.check_reach()
        except OutOfReachError as error:
            raise SinkBusy(redact(error)) from None
        config = {**_OURS, **self._plan.properties(), "error_cb": self._heard}
        try:
            self._producer = self._library.Producer(config, logger=_UNHEARD)
        except (self._library.KafkaException, TypeError, ValueError) as error:
            raise InputError(f"the library does not take them: {_said(error)}", "options") from None
        return self._producer

    def _heard(self, error: Any) -> None:
        self._why = redact(error.str())

    def send(self, letters: Sequence[Letter]) -> int:
        if self._closed:
            raise SinkBusy(f"{self._where}: closed")
        deadline = time.monotonic() + ANSWER_S + BEGIN_S
        missing = self._arrivals.missing(letters)
        troubles = self._produce(missing, deadline)
        too_large = [n for n, trouble in troubles.items() if isinstance(trouble, SinkRefused)]
        if too_large and len(missing) > 1:
            # a broker refuses what was sent together: which of them it was shows where each goes by itself
            first = too_large[0]
            troubles.pop(first)
            troubles |= self._produce(missing[first : first + 1], deadline, first)
        arrived = {letter.id for n, letter in enumerate(missing) if n not in troubles}
        count = self._arrivals.settle(letters, arrived)
        if not count:
            raise troubles[0]
        self._why = ""
        return count

    def _produce(self, letters: Sequence[Letter], deadline: float, first: int = 0) -> dict[int, SinkBusy | SinkRefused]:
        """What became of those that have not been delivered, by their places (counted from `first`)."""
        producer = self._producer or self._open()
        waiting = set(range(first, first + len(letters)))
        troubles: dict[int, SinkBusy | SinkRefused] = {}
        codes = self._library.KafkaError
        fatal = False

        def settle(n: int, error: Any) -> None:
            nonlocal fatal
            waiting.discard(n)
            if error is None:
                return
            fatal = fatal or error.fatal() or error.code() in {codes._FATAL, codes.OUT_OF_ORDER_SEQUENCE_NUMBER}
            kind = SinkRefused if error.code() in {codes.MSG_SIZE_TOO_LARGE, codes.INVALID_RECORD} else SinkBusy
            why = f"; {self._why}" if self._why and error.code() == codes._MSG_TIMED_OUT else ""
            troubles[n] = kind(f"{self._where}: {redact(error.str())}{why}")

        for n, letter in enumerate(letters, first):
            try:
                producer.produce(
                    _topic(self._plan.topic, letter),
                    letter.body,
                    key=raw(letter.stream),
                    headers=[("id", raw(letter.id)), ("kind", letter.kind.encode()), ("about", raw(letter.about))],
                    on_delivery=lambda error, _record, n=n: settle(n, error),
                )
            except self._library.KafkaException as error:
                settle(n, error.args[0])
            except BufferError:
                settle(n, codes(codes._QUEUE_FULL))
        while waiting and (left := deadline - time.monotonic()) > 0:
            try:
                producer.poll(min(left, 0.1))
            except self._library.KafkaException as error:  # it will never send anything again
                self._why, fatal = _said(error), True
                producer.purge(in_queue=True, in_flight=True, blocking=False)
                deadline = min(deadline, time.monotonic() + _REPORTS_S)
        if waiting or fatal:
            self._drop()  # with all that it still has in hand: it comes again, from here
        late = SinkBusy(f"{self._where}: no answer in time" + (f"; {self._why}" if self._why else ""))
        return troubles | dict.fromkeys(waiting, late)

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge(in_queue=True, in_flight=True, blocking=False)
            with suppress(self._library.KafkaException):
                producer.poll(0)

    def close(self) -> None:
        self._closed = True
        self._drop()


def _topic(template: str, letter: Letter) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", filled(template, "topic", letter))[:249]


def _said(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return redact(first.str() if hasattr(first, "str") else first)
