"""One stream as it is planned, and how much of it may be inside at once."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.contracts import Gate, Generation, Source
from pipeline.core.media import Medium
from pipeline.core.settings import StreamSettings
from pipeline.engine.stream import LIVE_BUDGET_NS

WAITING_LINGER_NS = 20_000_000  # a stream that nobody waits for lets a batch fill
LIVE_LINGER_NS = 1_000_000
WAITING_IN_FLIGHT: dict[Medium, int] = {"picture": 32, "sound": 64, "text": 1024}
PROMPT_IN_FLIGHT: dict[Medium, int] = {"picture": 32, "sound": 64, "text": 64}
"""Where somebody waits for each verdict: a crowd in one stream is not to hold up a question in another for long."""
SHORT_IN_FLIGHT: dict[Medium, int] = {"picture": 8, "sound": 16, "text": 256}
"""For live streams: half a second at 15 frames a second, what waits longer is better judged anew. And behind a gate,
which learns from verdicts: the sooner they come back, the more it can hold back. Messages are small, and come in
crowds."""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream: where it comes from, what judges it. `gate` is this stream's own (it holds state). `tracks` are the
    further streams of its reader that anybody judges, by their full names (`door.sound`)."""

    name: str
    source: Source
    cascade: str
    generation: Generation
    gate: Gate | None = None
    tracks: tuple[StreamPlan, ...] = ()

    @property
    def all(self) -> tuple[StreamPlan, ...]:
        """The stream, and those of its tracks."""
        return (self, *self.tracks)


def can_wait(source: Source) -> bool:
    return source.overflow == "block" if source.overflow else not source.paced


def in_flight(settings: StreamSettings, medium: Medium, *, waits: bool, gated: bool) -> int:
    """How many windows may be without a verdict."""
    roomy = PROMPT_IN_FLIGHT if settings.latency_budget_ms else WAITING_IN_FLIGHT
    return settings.in_flight or (roomy if waits and not gated else SHORT_IN_FLIGHT)[medium]


def budget_ns(settings: StreamSettings, *, waits: bool) -> int | None:
    """From a window's first packet to where it is given up."""
    if settings.latency_budget_ms:
        return int(settings.latency_budget_ms * 1e6)
    return None if waits else LIVE_BUDGET_NS
