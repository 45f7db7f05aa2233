"""A live table on the terminal: what each stream is doing, who decides how much, what was lost, what happened last."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import ClassVar, Final, Literal, TextIO

from pydantic import Field, PositiveFloat
from rich.console import Console as Terminal
from rich.live import Live

from pipeline.core.contracts import Delivery, Sink, Writer
from pipeline.core.errors import SinkRefused
from pipeline.core.outages import Outage
from pipeline.core.records import Event
from pipeline.core.rulings import Ruling
from pipeline.core.snapshot import Snapshot
from sinks.console_view import render, status_line
from sinks.wording import Happening, told

_SHARE: Final = 0.03  # of a processor is what the table may cost: fifty streams are drawn less often than one


class Console(Sink):
    """On a terminal a table that is drawn anew in place. Elsewhere lines: events on `stream`, and every `every_s`
    seconds the state of things on standard error, so that the output of a pipe is events alone."""

    takes: ClassVar[frozenset[str]] = frozenset({"events", "rulings", "outages"})

    mode: Literal["auto", "table", "lines"] = Field(
        default="auto", description="table or lines; auto: a table where the stream is a terminal"
    )
    stream: Literal["stdout", "stderr"] = Field(default="stdout", description="where the table and the events go")
    events: int = Field(default=5, ge=0, le=100, description="how many of the last events the table shows")
    every_s: PositiveFloat = Field(default=5.0, description="seconds between lines on the state of things")

    def open(self) -> Writer:
        file = sys.stderr if self.stream == "stderr" else sys.stdout
        terminal = Terminal(file=file, force_terminal=True, highlight=False)
        drawable = file.isatty() and not terminal.is_dumb_terminal
        if self.mode == "table" or (self.mode == "auto" and drawable):
            return _Table(self, terminal)
        return _Lines(self, file)


class _Table:
    def __init__(self, plan: Console, terminal: Terminal) -> None:
        self._keep = plan.events
        self._events: dict[str, Happening] = {}  # by id, the latest last
        self._terminal = terminal
        # drawn when there is something new, by the one thread that knows; a table too high for the terminal is cut
        self._live = Live(console=terminal, auto_refresh=False, vertical_overflow="crop")
        self._waiting: Snapshot | None = None
        self._next_draw = 0.0
        self._closed = False

    def write(self, items: Sequence[Delivery]) -> None:
        for event in _events(items):
            self._events.pop(event.id, None)
            self._events[event.id] = event
        for old in list(self._events)[: max(0, len(self._events) - self._keep)]:
            del self._events[old]

    def observe(self, snapshot: Snapshot) -> None:
        self._waiting = snapshot
        if time.monotonic() >= self._next_draw:
            self._draw()

    def _draw(self) -> None:
        if self._waiting is None or self._closed:
            return
        began = time.monotonic()
        width, height = self._terminal.size
        self._live.update(render(self._waiting, list(self._events.values()), width, height))
        self._waiting = None
        self._live.start()  # nothing, when it has started
        self._live.refresh()
        took = time.monotonic() - began
        self._next_draw = began + took / _SHARE

    def close(self) -> None:
        """The last picture stays."""
        self._draw()
        self._closed = True
        self._live.stop()  # nothing, when it has not started


class _Lines:
    def __init__(self, plan: Console, file: TextIO) -> None:
        self._file = file
        self._every_s = plan.every_s
        self._said = time.monotonic()
        self._last: Snapshot | None = None

    def write(self, items: Sequence[Delivery]) -> None:
        try:
            for event in _events(items):
                if not _passing(event):
                    print(": ".join(told(event)), file=self._file)
            self._file.flush()
        except (OSError, ValueError) as error:  # nobody reads it any more, or it was closed
            raise SinkRefused(f"the console cannot be written: {error}") from error

    def observe(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        if time.monotonic() - self._said >= self._every_s:
            self._say()

    def _say(self) -> None:
        if self._last is not None:
            self._said = time.monotonic()
            print(status_line(self._last), file=sys.stderr, flush=True)
            self._last = None

    def close(self) -> None:
        """The last word: how it stood in the end."""
        self._say()


def _passing(what: Happening) -> bool:
    """Whether a line about it says nothing that another one does not: a crossing begins and ends at once."""
    if isinstance(what, Outage):
        return False
    return what.kind == "update" or (isinstance(what, Event) and what.kind == "new" and what.direction is not None)


def _events(items: Sequence[Delivery]) -> list[Happening]:
    return [item for item in items if isinstance(item, (Event, Ruling, Outage))]
