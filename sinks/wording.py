"""Figures and events in the words that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from pipeline.core.outages import Outage
from pipeline.core.records import Event
from pipeline.core.rulings import Ruling

Happening: TypeAlias = Event | Ruling | Outage
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def printable(text: object) -> str:
    """`text` without control characters: what comes from outside must not steer the terminal."""
    return _CONTROL.sub(" ", str(text)).strip()


def clock(wall_ns: int) -> str:
    """`12:00:04`, where the reader is."""
    return f"{datetime.fromtimestamp(wall_ns // 1_000_000_000):%H:%M:%S}"


def sentence(event: Event) -> str:
    """`person, 12:00:04 to 12:00:31 (up to 4 at once)`; by the film's own time, `0:04 to 0:31`, where a film was read
    faster or slower than it plays. `person in gate`, `person crossed door (in) at 12:00:04` where there are places."""
    label, (start, end) = printable(event.label), _span(event)
    more = f" (up to {event.count} at once)" if event.count > 1 else ""
    more += f" ({event.held_back} more before it held back)" if event.held_back else ""
    if event.direction:
        return f"{label} crossed {printable(event.zone)} ({event.direction}) at {start}{more}"
    what = f"{label} in {printable(event.zone)}" if event.zone else label
    if event.kind != "end":
        return f"{what} since {start}{more}"
    return f"{what} at {start}{more}" if start == end else f"{what}, {start} to {end}{more}"


def ruled(ruling: Ruling) -> str:
    """`block chat since 12:00:04 (hate: hate 0.93 in chat)`; in the end `block chat, 12:00:04 to 12:00:09 (hate)`."""
    what = f"{ruling.action} {printable(', '.join(ruling.targets))}"
    start, end = _times(ruling.start_ns, ruling.end_ns, ruling.start_wall_ns, ruling.end_wall_ns)
    if ruling.kind == "end":
        return f"{what}, {start} to {end} ({printable(ruling.rule)})"
    seen = ", ".join(f"{printable(one.label)} {one.score:.2f} in {one.stream}" for one in ruling.evidence[:3])
    more = len(ruling.evidence) - 3
    return f"{what} since {start} ({printable(ruling.rule)}: {seen}{f' and {more} more' if more > 0 else ''})"


def told(what: Happening) -> tuple[str, str]:
    """Of whom it tells, and the sentence."""
    if isinstance(what, Ruling):
        return printable(what.show), ruled(what)
    return printable(what.stream), missed(what) if isinstance(what, Outage) else sentence(what)


def missed(outage: Outage) -> str:
    """`nothing received, 12:00:04 to 12:00:31 (0:27): the connection was lost`."""
    start, end = clock(outage.start_wall_ns), clock(outage.end_wall_ns)
    for_long = duration((outage.end_wall_ns - outage.start_wall_ns) / 1e9)
    return f"nothing received, {start} to {end} ({for_long}): {outage.why}"


_REAL_TIME_NS = 2_000_000_000  # by so much may a stream's clock and the one on the wall differ over an event


def _span(event: Event) -> tuple[str, str]:
    return _times(event.start_ns, event.end_ns, event.start_wall_ns, event.end_wall_ns)


def _times(start_ns: int, end_ns: int, start_wall_ns: int, end_wall_ns: int) -> tuple[str, str]:
    if abs(end_wall_ns - start_wall_ns - (end_ns - start_ns)) <= _REAL_TIME_NS:
        return clock(start_wall_ns), clock(end_wall_ns)
    return duration(start_ns / 1e9), duration(end_ns / 1e9)


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
