"""Figures and events in the words that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from pipeline.core.records import Event

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def printable(text: object) -> str:
    """`text` without control characters: what comes from outside must not steer the terminal."""
    return _CONTROL.sub(" ", str(text)).strip()


def clock(wall_ns: int) -> str:
    """`12:00:04`, where the reader is."""
    return f"{datetime.fromtimestamp(wall_ns // 1_000_000_000):%H:%M:%S}"


def sentence(event: Event) -> str:
    """`person, 12:00:04 to 12:00:31 (up to 4 at once)`; by the film's own time, `0:04 to 0:31`, where a film was read
    faster or slower than it plays."""
    label, (start, end) = printable(event.label), _span(event)
    at_once = f" (up to {event.count} at once)" if event.count > 1 else ""
    if event.kind != "end":
        return f"{label} since {start}{at_once}"
    return f"{label} at {start}{at_once}" if start == end else f"{label}, {start} to {end}{at_once}"


_REAL_TIME_NS = 2_000_000_000  # by so much may a stream's clock and the one on the wall differ over an event


def _span(event: Event) -> tuple[str, str]:
    passed_ns = event.end_wall_ns - event.start_wall_ns
    if abs(passed_ns - (event.end_ns - event.start_ns)) <= _REAL_TIME_NS:
        return clock(event.start_wall_ns), clock(event.end_wall_ns)
    return duration(event.start_ns / 1e9), duration(event.end_ns / 1e9)


def milliseconds(value: float) -> str:
    """Two to three digits are enough to judge a latency by."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def duration(seconds: float) -> str:
    """`1:23`, `2:00:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shares(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Who settled how much, the most first: `[("mobilenet", "91 %"), ("resnet", "9 %")]`."""
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(printable(name), _percent(count / total)) for name, count in ranked if count]


def _percent(share: float) -> str:
    """Never `0 %` of something nor `100 %` of not quite all."""
    if share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{share:.0%}".replace("%", " %")


def counted(counts: Mapping[str, int]) -> str:
    """`12 overload, 3 damaged`, or nothing."""
    return ", ".join(f"{count:,} {printable(what)}" for what, count in counts.items() if count)
