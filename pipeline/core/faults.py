"""When faults happen, for parts that misbehave on purpose: a script of acts, played one after the other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Generic, Self, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from pipeline.core.settings import LONGEST_S, Settings


class Act(Settings):
    """Something that goes wrong, and for how long: so many times, or so many seconds; left out, once."""

    times: int | None = Field(default=None, ge=1, description="how many frames or writes in a row (default: 1)")
    for_s: PositiveFloat | None = Field(default=None, le=LONGEST_S, description="how many seconds, by the clock")
    share: float = Field(default=1.0, gt=0, le=1, description="the share of them that it hits, drawn by the seed")
    each_s: NonNegativeFloat = Field(default=0.1, le=LONGEST_S, description="slow: how long each one takes")

    @model_validator(mode="after")
    def _lasts_one_way(self) -> Self:
        if self.times is not None and self.for_s is not None:
            raise ValueError("say how long it lasts with `times` or with `for_s`, not with both")
        return self


A = TypeVar("A", bound=Act)


class Player(Generic[A]):
    """Asked once for each frame or write, says what happens to it. Behind the last act nothing does, or the script
    begins anew. It goes on where it was when a source or a sink is opened again; a pickled one begins anew.
    Thread-safe: a reader that hung may come back while its successor reads."""

    def __init__(self, script: Sequence[A], repeat: bool, seed: int) -> None:
        self._made_of = tuple(script), repeat, seed
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._index = self._played = 0
        self._began_s: float | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._made_of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Player) and self._made_of == other._made_of

    __hash__ = None  # type: ignore[assignment]  # it changes

    def next(self) -> A | None:
        """What happens to the next frame or write, if anything."""
        script, repeat, _ = self._made_of
        now_s = time.monotonic()
        with self._lock:
            while script and (repeat or self._index < len(script)):
                act = script[self._index % len(script)]
                if self._began_s is None:
                    self._began_s = now_s
                if self._played < (act.times or 1) if act.for_s is None else now_s - self._began_s < act.for_s:
                    self._played += 1
                    return act if act.share == 1 or self._random.random() < act.share else None
                self._index, self._played, self._began_s = self._index + 1, 0, None
            return None

    def skip(self) -> None:
        """The act that is on has had its time."""
        with self._lock:
            self._index, self._played, self._began_s = self._index + 1, 0, None
