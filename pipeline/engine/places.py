"""Where in the picture a thing is: zones that it stands in, lines that it crosses. All in fractions of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias

from pipeline.core.records import Box
from pipeline.engine.event_settings import EventSettings, Line, Point, Points, Zone

Direction: TypeAlias = Literal["in", "out"]
Size: TypeAlias = tuple[int, int]
"""A picture's width and height in pixels."""

_BAND = 0.01  # so near a line nobody is on either side: a box that trembles on it does not cross it again and again


class Places:
    """The zones and lines of one stream."""

    def __init__(self, settings: EventSettings, stream: str) -> None:
        self._bottom = settings.anchor == "bottom"
        self.zones = {name: zone for name, zone in settings.zones.items() if zone.of(stream)}
        self.lines = {name: line for name, line in settings.lines.items() if line.of(stream)}
        self.whole = not self.zones if settings.whole_picture is None else settings.whole_picture

    def __bool__(self) -> bool:
        return bool(self.zones or self.lines)

    def anchor(self, box: Box, size: Size) -> Point:
        left, top, right, bottom = box
        y = bottom if self._bottom else (top + bottom) / 2
        return (left + right) / 2 / size[0], y / size[1]

    def around(self, label: str, anchor: Point) -> Iterator[tuple[str, Zone]]:
        """The zones in which something with this label stands."""
        for name, zone in self.zones.items():
            if zone.wants(label) and inside(anchor, zone.polygon):
                yield name, zone

    def crossed(self, label: str, anchor: Point, stood: dict[str, Point]) -> Iterator[tuple[str, Direction]]:
        """The lines that something crossed on its way to `anchor`. `stood` says where it last stood clear of each line,
        and is brought up to date."""
        for name, line in self.lines.items():
            if line.wants(label) and abs(distance(anchor, line)) >= _BAND:
                before = stood.get(name)
                stood[name] = anchor
                if before is not None and (way := crosses(before, anchor, line)) is not None:
                    yield name, way


def inside(point: Point, polygon: Points) -> bool:
    """By the rule of odd crossings: of a ray to the right."""
    x, y = point
    odd = False
    for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            odd = not odd
    return odd


def distance(point: Point, line: Line) -> float:
    """From the line, endless both ways: positive to the right of it."""
    (x1, y1), (x2, y2) = line.points
    return _turn((x1, y1), (x2, y2), point) / math.hypot(x2 - x1, y2 - y1)


def crosses(before: Point, after: Point, line: Line) -> Direction | None:
    """Which way the step from `before` to `after` crosses the line between its ends, if it does."""
    was, now = distance(before, line), distance(after, line)
    if (was > 0) == (now > 0):
        return None
    first, last = (_turn(before, after, end) for end in line.points)
    if first * last > 0:
        return None  # past one of its ends
    return "in" if now > 0 else "out"


def _turn(a: Point, b: Point, c: Point) -> float:
    """Positive where `c` is to the right of the way from `a` to `b`, on a picture, whose y points down."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
