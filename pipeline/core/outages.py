"""When nothing was watched: said plainly, for what arrives while a live stream is down is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.core.records import iso_time

_WHY = {"lost": "the connection was lost", "down": "the program was not running", "paused": "it was paused"}


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch of time, by the clock on the wall, in which nothing of a live stream was received: the connection was
    `lost`, the program was not running (`down`), or somebody had `paused` it. Told once it is over; its id is the
    stream and when it began."""

    stream: str
    reason: Literal["lost", "down", "paused"]
    start_wall_ns: int
    end_wall_ns: int

    @property
    def why(self) -> str:
        return _WHY[self.reason]

    @property
    def id(self) -> str:
        return f"{self.stream}/outage/{self.start_wall_ns}"


def outage_document(outage: Outage) -> dict[str, Any]:
    return {
        "outage": outage.id,
        "stream": outage.stream,
        "reason": outage.reason,
        "start": iso_time(outage.start_wall_ns),
        "end": iso_time(outage.end_wall_ns),
        "seconds": round((outage.end_wall_ns - outage.start_wall_ns) / 1e9, 3),
    }
