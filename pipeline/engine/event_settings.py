"""How verdicts become events, as a config says it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pipeline.core.settings import LONGEST_S, Name, Settings

Fraction = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Fraction, Fraction]
"""`[x, y]` in fractions of the picture's width and height, from its top left: it holds for any size of picture."""
Points = tuple[Point, ...]


def area(polygon: Points) -> float:
    """In fractions of the picture, whichever way round it goes."""
    pairs = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


def _has_room(polygon: Points) -> Points:
    if len(polygon) < 3:
        raise ValueError("it needs three corners at least")
    if area(polygon) <= 0:
        raise ValueError("its corners lie on one line, so that there is no room in it")
    return polygon


def _leads_somewhere(points: tuple[Point, Point]) -> tuple[Point, Point]:
    if points[0] == points[1]:
        raise ValueError("both ends are the same point")
    return points


class _Place(Settings):
    stream: Name | None = Field(default=None, description="the stream it belongs to; default: every stream")
    labels: tuple[str, ...] | None = Field(default=None, description="only these labels; default: every label")

    def of(self, stream: str) -> bool:
        return self.stream is None or self.stream == stream

    def wants(self, label: str) -> bool:
        return self.labels is None or label in self.labels


class Zone(_Place):
    """A part of the picture. Where a stream has zones, its events are of what stands in them."""

    polygon: Annotated[Points, AfterValidator(_has_room)] = Field(
        description="its corners, [x, y] in fractions of the picture from the top left"
    )
    min_dwell_s: NonNegativeFloat = Field(
        default=0.0, le=LONGEST_S, description="seconds that something has to be in it before an event opens"
    )


class Line(_Place):
    """A line that tracked objects cross. Whoever goes from the first point to the second sees `in` as from the left to
    the right, by the picture: with a line drawn upwards, `in` is to the right."""

    points: Annotated[tuple[Point, Point], AfterValidator(_leads_somewhere)] = Field(
        description="its two ends, [x, y] in fractions of the picture from the top left"
    )


class EventSettings(Settings):
    """How verdicts become events."""

    labels: tuple[str, ...] | None = Field(
        default=None, description="only these labels make events; default: every label"
    )
    start_after: PositiveInt = Field(default=2, description="windows with the label before an event opens")
    end_after_s: NonNegativeFloat = Field(default=2.0, description="seconds without the label after which it ends")
    update_every_s: PositiveFloat = Field(default=5.0, description="an open event is reported again this often")
    open_at: dict[str, Fraction] = Field(
        default={},
        description="by label, the score from which on an event opens; once open, whatever is reported keeps it open",
    )
    track: bool = Field(
        default=False, description="follow each object from picture to picture: each is an event of its own"
    )
    zones: dict[Name, Zone] = Field(default={}, description="parts of pictures, by name")
    lines: dict[Name, Line] = Field(default={}, description="lines that are crossed, by name; they need `track`")
    anchor: Literal["bottom", "center"] = Field(
        default="bottom",
        description="the point of a box that is in a zone or crosses a line: the middle of its lower edge, where a"
        " person stands, or of the box",
    )
    whole_picture: bool | None = Field(
        default=None, description="events of the whole picture (default: in streams without zones)"
    )
    most_per_minute: PositiveInt | None = Field(
        default=None,
        description="how many events of a label may open in a minute of a stream; the others open once there is room,"
        " and those that were over by then are counted in the next one (`held_back`)",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lines and not self.track:
            raise ValueError("`lines` are crossed by tracked objects: set `track: true`, or take the lines away")
        if both := sorted(self.zones.keys() & self.lines.keys()):
            raise ValueError(f'"{both[0]}" is the name of a zone and of a line: name one of them otherwise')
        return self
