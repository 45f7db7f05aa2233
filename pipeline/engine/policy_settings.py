"""What a config says of a show: which labels, in which streams, call for which action.

A rule is a conjunction of conditions on what cascades report. More evidence never takes an action away: a rule that
holds with some windows holds with any others beside them.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from pipeline.core.records import ACTIONS, Action, Detection
from pipeline.core.settings import LONGEST_S, Name, Settings

LONGEST_WINDOW_S = 600.0
MOST_COUNT = 1000
Score = Annotated[float, Field(ge=0.0, le=1.0)]
T = TypeVar("T", bound=Sized)


def _any(given: T) -> T:
    if not given:
        raise ValueError("needs one at least")
    return given


Some = AfterValidator(_any)
"""Not empty. As a bound of the field it would be told of beside whatever is wrong with the one that there is."""


class Condition(Settings):
    """Windows with this label. It begins to hold from `at_least` on, and goes on down to `stays_at`."""

    label: str = Field(min_length=1, description="what a cascade reports")
    stream: Name | None = Field(default=None, description="only in this stream (default: in any of the show)")
    at_least: Score = Field(default=0.0, description="score from which it counts (default: whatever is reported)")
    stays_at: Score | None = Field(
        default=None, description="lower score that keeps an action going which has begun (default: at_least)"
    )
    count: int = Field(default=1, ge=1, le=MOST_COUNT, description="so many windows with it, within the rule's time")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.stays_at is not None and self.stays_at > self.at_least:
            raise ValueError("stays_at must not be above at_least")
        return self

    @property
    def stays(self) -> float:
        return self.at_least if self.stays_at is None else self.stays_at

    def score(self, stream: str, detections: tuple[Detection, ...]) -> float | None:
        """The best score with which a window of `stream` shows it; None where it does not."""
        if self.stream is not None and self.stream != stream:
            return None
        return max((found.score for found in detections if found.label == self.label), default=None)


class PolicyRule(Settings):
    """An action, and all that has to be seen within `within_s` for it."""

    name: Name
    when: Annotated[tuple[Condition, ...], Some] = Field(
        max_length=16, description="what has to be seen, all of it", json_schema_extra={"minItems": 1}
    )
    within_s: PositiveFloat | None = Field(
        default=None, le=LONGEST_WINDOW_S, description="seconds within which it counts together (default: window_s)"
    )
    action: Action = Field(description="what is to be done; the later in this list, the stronger")
    hold_s: NonNegativeFloat = Field(
        default=2.0, le=LONGEST_S, description="the action ends so long after its evidence last held"
    )
    targets: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="the streams that it is done to (default: those of the evidence)"
    )

    @property
    def streams(self) -> tuple[str, ...]:
        """Every stream that it names."""
        named = [one.stream for one in self.when if one.stream is not None]
        return tuple(dict.fromkeys([*named, *(self.targets or ())]))


class ShowStream(Settings):
    """One stream of the show."""

    offset_ms: float = Field(
        default=0.0, ge=-600_000, le=600_000, description="added to this stream's clock to bring it to the show's"
    )


class PolicySettings(Settings):
    """What is to be done about what the streams of one show report."""

    show: Name = Field(default="show", description="the show's name, which begins the ids of what is ruled")
    streams: dict[Name, ShowStream | None] | None = Field(
        default=None, min_length=1, description="the streams of the show (default: all that run)"
    )
    window_s: PositiveFloat = Field(
        default=3.0, le=LONGEST_WINDOW_S, description="evidence of different streams counts together within this time"
    )
    patience_s: PositiveFloat | None = Field(
        default=None,
        le=LONGEST_WINDOW_S,
        description="the show's time waits so long for a stream that is behind (default: window_s); decisions never do",
    )
    rules: Annotated[tuple[PolicyRule, ...], Some] = Field(
        max_length=64, description="what calls for an action", json_schema_extra={"minItems": 1}
    )
    otherwise: Action = Field(default="allow", description="the action for a window that no rule speaks of by itself")
    update_every_s: float = Field(
        default=5.0, ge=0.01, le=LONGEST_S, description="an action that goes on is told of again this often"
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [rule.name for rule in self.rules]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f'two rules have the name "{twice}"')
        return self

    def offset_ns(self, stream: str) -> int:
        here = (self.streams or {}).get(stream)
        return 0 if here is None else round(here.offset_ms * 1e6)


def stronger(one: Action, other: Action) -> bool:
    return ACTIONS.index(one) > ACTIONS.index(other)
