"""Where the time of one window went: noted on its way for a sampled share of them, and told once it is complete.

The engine notes; who asked for it (`Tracer`) makes of it what it likes. A window that nobody asked for costs nothing.
Times are `time.monotonic_ns()`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pipeline.core.records import Outcome, Window

Fact: TypeAlias = str | int | float | bool
MOST_STEPS = 64
"""Of one trace: a rule may ask for many looks at one window."""


@dataclass(frozen=True, slots=True)
class Step:
    """`of` names the part that did it: a gate, a stage, a sink."""

    name: str
    began_ns: int
    ended_ns: int
    of: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


class Trace:
    """One window's. Whoever has more to note holds it; `done` gets it when the last one lets go. Thread-safe."""

    __slots__ = (
        "_done",
        "_handed",
        "_here_ns",
        "_holders",
        "_lock",
        "left_ns",
        "omitted",
        "outcome",
        "steps",
        "window",
    )

    def __init__(self, window: Window, done: Callable[[Trace], None]) -> None:
        self.window = window
        self.steps: list[Step] = []
        self.omitted = 0  # steps for which there was no room
        self.outcome: Outcome | None = None
        self.left_ns = 0  # when it left its stream
        self._done = done
        self._here_ns = window.mono_ns
        self._holders = 1
        self._handed: dict[str, int] = {}
        self._lock = threading.Lock()

    def note(self, name: str, began_ns: int, ended_ns: int, of: str = "", **facts: Fact) -> None:
        with self._lock:
            if len(self.steps) < MOST_STEPS:
                self.steps.append(Step(name, began_ns, ended_ns, of, facts))
            else:
                self.omitted += 1

    def reach(self, name: str, of: str = "", **facts: Fact) -> None:
        """A step that began where the one before ended, the first when the window arrived, and is over now. For the
        thread that takes the window in."""
        now = time.monotonic_ns()
        self.note(name, self._here_ns, now, of, **facts)
        self._here_ns = now

    def handed(self, sink: str) -> None:
        """A sink has it in its backlog, and will say `written`."""
        with self._lock:
            self._holders += 1
            self._handed[sink] = time.monotonic_ns()

    def written(self, sink: str, began_ns: int, fate: str) -> None:
        """What became of it there (`written`, `dropped`, `refused`), and when the write began."""
        now = time.monotonic_ns()
        handed_ns = self._handed[sink]
        self.note("sink", handed_ns, now, sink, fate=fate, waited_ms=(min(began_ns or now, now) - handed_ns) / 1e6)
        self._let_go()

    def left(self, outcome: Outcome, now_ns: int) -> None:
        """It left its stream, and went to all sinks that want it."""
        self.outcome, self.left_ns = outcome, now_ns
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self._done(self)


class Tracer(Protocol):
    """Who wants traces. Called on the engine's threads, some of them under locks: at once, and without raising."""

    def begin(self, window: Window) -> Trace | None:
        """A trace for this window, where it is among those to be looked at. It has just been made."""

    def failed(self, window: Window) -> Trace | None:
        """The same for one that was not among them and could not be judged."""
