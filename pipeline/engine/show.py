"""A policy among the threads: every stream of the show tells it of its outcomes, and sinks get what it rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.core.contracts import Generation, Source
from pipeline.core.records import Outcome, Result
from pipeline.core.rulings import Ruling
from pipeline.core.snapshot import PolicySnapshot
from pipeline.engine.policy import Policy
from pipeline.engine.policy_settings import PolicySettings
from pipeline.engine.show_clock import ClockedStream

TICK_S = 0.1  # by so much may a silent show's action overstay


class Show:
    """Thread-safe. Rulings are delivered under the lock, so that sinks get them in the order in which they were made:
    `deliver` must be quick and must not call back."""

    def __init__(self, policy: Policy, deliver: Callable[[Ruling], None]) -> None:
        self._policy = policy
        self._deliver = deliver
        self._lock = threading.Lock()

    def check(self, streams: Sequence[ClockedStream]) -> None:
        """Raises `InputError` where one cannot take part any more."""
        with self._lock:
            self._policy.clock.check(streams)

    def join(self, streams: Sequence[ClockedStream]) -> None:
        """They take part from now on, all or none. Raises `InputError` where one cannot any more."""
        with self._lock:
            self._policy.clock.join(streams)

    def leave(self, streams: Sequence[str]) -> None:
        """Nothing more comes of them, ever: nobody waits for them or misses them. What they showed still counts."""
        with self._lock:
            for stream in streams:
                self._tell(self._policy.ended(stream, time.monotonic_ns()))
                self._policy.clock.leave(stream)

    def mark(self, outcome: Outcome) -> Outcome:
        """The outcome with what it calls for by itself."""
        said = self._policy.action_of(outcome)
        if said is None or not isinstance(outcome, Result):
            return outcome
        return replace(outcome, action=said[0], rule=said[1])

    def see(self, outcome: Outcome) -> None:
        with self._lock:
            self._tell(self._policy.see(outcome, time.monotonic_ns()))

    def watermark(self, stream: str, pts_ns: int) -> None:
        with self._lock:
            self._tell(self._policy.watermark(stream, pts_ns, time.monotonic_ns()))

    def ended(self, stream: str) -> None:
        with self._lock:
            self._tell(self._policy.ended(stream, time.monotonic_ns()))

    def absent(self, stream: str) -> None:
        with self._lock:
            self._tell(self._policy.absent(stream, time.monotonic_ns()))

    def keep_time(self, stopping: threading.Event) -> None:
        """Until it stops."""
        while not stopping.wait(TICK_S):
            with self._lock:
                self._tell(self._policy.tick(time.monotonic_ns()))

    def finish(self) -> None:
        """Nothing more comes: every action ends."""
        with self._lock:
            self._tell(self._policy.finish(time.monotonic_ns()))

    def snapshot(self) -> PolicySnapshot:
        with self._lock:
            return self._policy.snapshot()

    def _tell(self, rulings: Sequence[Ruling]) -> None:
        for ruling in rulings:
            self._deliver(ruling)


def model_of(generation: Generation, decided_by: str) -> str:
    """What model the stage `decided_by` is, as it says itself; of what is no stage, all that may have judged."""
    models = {stage.name: str(stage.describe().get("model", stage.name)) for stage in generation.stages}
    return models.get(decided_by) or " or ".join(dict.fromkeys(models.values()))


def clocked(name: str, reader: str, source: Source, settings: PolicySettings) -> ClockedStream:
    return ClockedStream(name, reader, source.live, source.paced, settings.offset_ns(name))
