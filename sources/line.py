"""A camera over a production line: one picture a part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from pipeline.core.contracts import Reader
from pipeline.core.errors import InputError
from pipeline.core.pictures import MAX_PIXELS
from pipeline.core.places import Place
from pipeline.core.settings import LONGEST_S, Listen
from sources.parts import ANY, STEM, Bench
from sources.resuming import Resumable

MARGIN_MS = 30.0
"""How long before a part's deadline its window is given up, so that `unknown` is said in time and not just decided.

Of 11,667 parts that were given up, at 200 a second with budgets of 75 to 475 ms and models that only waited, half
reached the sink within 0.3 ms of their budget, 99 % within 5.3, 99.9 % within 13.5; the worst took 31. That was on two
cores that a training was given before this program. Where real models computed in it as well, it did not run at all for
0.6 s at times, which no margin makes good: a line needs a machine that has time for it.
"""

_LEAST_IN_FLIGHT, _MOST_IN_FLIGHT = 32, 128
_BELONGS = {
    "fps": "pace",
    "repeat": "pace",
    "preload": "pace",
    "ahead": "pace",
    "threads": "pace",
    "settle_s": "folder",
    "listen": "http",
    "max_mb": "http",
    "waiting": "http",
    "connections": "http",
}
"""Settings that only one way to get parts knows."""


class Line(Resumable):
    """Parts as they pass a camera. Each gets a verdict by its deadline: one that is late is `unknown`, and counted.

    They come from the pictures of a folder at a pace (`fps`); as files that arrive in it (`trigger: folder`; those that
    lie there already have passed); or by HTTP (`trigger: http`): `POST /part` with the picture as the body and, if you
    like, its name in `?name=` or the header `Part-Name`. 202 means that it was taken, and names its window; 413 that it
    is too large (`max_mb`, `max_pixels`), 415 that it is no picture, 422 that it does not fit its reference, 503 that
    there is no room now.

    The line never waits: where the program falls behind, parts are shed, and those that could not even be decoded in
    half of their time (of files that arrive: all of it) are passed over, counted as undecoded. With a `reference`, part
    and reference are judged as one picture: the part in red, the reference in green and blue.
    """

    path: Path | None = Field(None, description="the folder of pictures; with `trigger: http` there is none")
    fps: PositiveFloat | None = Field(None, le=1000, description="parts a second, where nothing triggers")
    trigger: Literal["folder", "http"] | None = Field(
        None, description="a part is a file that arrives in the folder, or a picture that is posted"
    )
    names: str = Field(
        ANY, description="which pictures are parts, by their name without its ending: * stands for the part's stem"
    )
    reference: Path | None = Field(
        None,
        description="the picture that parts are laid beside: one for all, or one a part: {stem} in it becomes what"
        " the * in `names` stands for (`names: '*_test'`, `reference: 'parts/{stem}_temp.jpg'`)",
    )
    deadline_ms: PositiveFloat | None = Field(
        None, le=LONGEST_S * 1e3, description="a part has its verdict this long after it arrived, `unknown` at worst"
    )
    margin_ms: PositiveFloat = Field(
        MARGIN_MS, description="a part is given up this long before its deadline, so that the word is out in time"
    )
    repeat: int = Field(1, ge=0, description="go through the folder this many times; 0: for ever")
    preload: bool = Field(False, description="decode all parts before the first one is due")
    ahead: int = Field(32, ge=1, le=1024, description="else decode this many parts ahead")
    threads: int = Field(2, ge=1, le=64, description="decode this many parts at once")
    settle_s: PositiveFloat = Field(0.03, description="a new file is complete once it was left alone for this long")
    listen: Listen = Field(
        "127.0.0.1:8701", description="host:port; whoever can reach it can post parts, so stay local"
    )
    max_mb: PositiveFloat = Field(16, le=256, description="the largest picture that may be posted")
    waiting: int = Field(32, ge=1, le=1024, description="posted parts that may wait to be taken in")
    connections: int = Field(64, ge=1, le=1024, description="who may be connected at once")
    max_pixels: int = Field(MAX_PIXELS, gt=0, description="refuse pictures with more pixels")

    @property
    def paced(self) -> bool:
        return True

    @property
    def parts(self) -> bool:
        return True

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        way = self.trigger or "pace"
        for name in sorted(self.model_fields_set & _BELONGS.keys()):
            if _BELONGS[name] != way and getattr(self, name) is not None:
                here = "without a `trigger`" if _BELONGS[name] == "pace" else f"with `trigger: {_BELONGS[name]}`"
                raise ValueError(f"`{name}` is for lines {here}")
        if way == "pace" and self.fps is None:
            raise ValueError("say how parts come: `fps: 10` for so many a second, or a `trigger`")
        if (self.path is None) != (way == "http"):
            raise ValueError("`path`, the folder of pictures, is needed, unless parts are posted (`trigger: http`)")
        if self.overflow == "block":
            raise ValueError("a line waits for nobody: it cannot `block`")
        if self.names.count(ANY) != 1 or "/" in self.names:
            raise ValueError('`names` is a name with one * in it, like "*_test"')
        self._set_budget()
        return self

    def _set_budget(self) -> None:
        """What the engine is told, from what the line was promised."""
        if self.deadline_ms is not None:
            if "latency_budget_ms" in self.model_fields_set and self.latency_budget_ms is not None:
                raise ValueError("give a `deadline_ms` or a `latency_budget_ms`, not both")
            if self.deadline_ms <= self.margin_ms:
                raise ValueError(f"the deadline leaves nothing behind the margin of {self.margin_ms:g} ms")
            object.__setattr__(self, "latency_budget_ms", self.deadline_ms - self.margin_ms)
        if self.in_flight is None:  # no part goes for want of room that could have had its verdict in time
            due = 1.5 * (self.fps or 0) * (self.latency_budget_ms or 0) / 1e3
            object.__setattr__(self, "in_flight", min(max(math.ceil(due), _LEAST_IN_FLIGHT), _MOST_IN_FLIGHT))

    def check(self) -> None:
        if self.path is not None:
            place = str(self.path)
            if not self.path.exists():
                raise InputError("there is no such folder", place)
            if not self.path.is_dir():
                raise InputError("is not a folder", place)
        if self.reference is not None and STEM in str(self.reference):
            folder = self.reference.parent
            if STEM not in str(folder) and not folder.is_dir():
                raise InputError("there is no such folder for references", str(folder))
        bench = self.bench()
        if self.trigger is None and not self.pictures(bench):
            raise InputError(f"holds no parts (pictures whose name fits {self.names})", str(self.path))

    def bench(self) -> Bench:
        """Raises `InputError` where its one reference cannot be read."""
        return Bench(self.names, self.reference, self.max_pixels)

    def pictures(self, bench: Bench) -> list[Path]:
        """The parts that lie in the folder, in the order of their names. Raises `InputError`."""
        assert self.path is not None
        try:
            return sorted(p for p in self.path.iterdir() if bench.is_part(p) and p.is_file())
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", str(self.path)) from None

    @property
    def answers_at(self) -> str | None:
        return self.listen if self.trigger == "http" else None

    def resumed(self, places: Mapping[str, Place]) -> Self | None:
        return super().resumed(places) if self.trigger is None else None  # what was triggered while down has passed

    def open(self, stream: str) -> Reader:
        self.check()
        if self.trigger == "http":
            from sources.line_posted import PostedReader

            return PostedReader(self, stream)
        if self.trigger == "folder":
            from sources.line_arriving import ArrivingReader

            return ArrivingReader(self, stream)
        from sources.line_paced import PacedReader

        return PacedReader(self, stream)
