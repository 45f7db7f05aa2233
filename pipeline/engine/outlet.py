"""Where a stream's outcomes leave: to the sinks, with the events and rulings that they bring about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from pipeline.core.contracts import Picture
from pipeline.core.outages import Outage
from pipeline.core.records import Event, Outcome
from pipeline.core.secrets import redact
from pipeline.engine.checkpoints import Noted
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.events import EventTracker
from pipeline.engine.progress import Progress
from pipeline.engine.show import Show
from pipeline.engine.ticket import Ticket

log = logging.getLogger(__name__)


class Outlet:
    """Of one stream. `emit` and `over` are called under its lock. With `can_wait`, the stream is held while a sink is
    behind; `ending` says whether the program was told to stop."""

    progress: Progress | None = None

    def __init__(
        self,
        name: str,
        sinks: Sequence[SinkRunner],
        tracker: EventTracker,
        show: Show | None,
        *,
        can_wait: bool,
        ending: Callable[[], bool],
    ) -> None:
        self.name = name
        self.tracker = tracker
        self._sinks, self._show = sinks, show
        self._can_wait, self._ending = can_wait, ending
        self._stumbled = False

    def emit(self, ticket: Ticket, outcome: Outcome) -> None:
        counts = self.progress is None or self.progress.counts(outcome)
        events = self._seen(outcome, ticket.size) if counts else []
        lease, picture = ticket.lease, None
        for sink in self._sinks:
            if "pictures" in sink.takes:
                if picture is None:
                    picture = Picture(outcome, None if lease is None else lease.payload, events=tuple(events))
                sink.put(picture, lease, self._can_wait, trace=ticket.trace)
            elif "outcomes" in sink.takes:
                sink.put(outcome, None, self._can_wait, trace=ticket.trace)
        if counts:
            begins = self.progress is not None and any(event.kind == "new" for event in events)
            self.tell(events, self.progress.began() if self.progress is not None and begins else None)
        if self._show is not None:
            self._show.see(outcome)
        if self.progress is not None:
            self.progress.left(ticket.place)

    def _seen(self, outcome: Outcome, size: tuple[int, int] | None) -> list[Event]:
        """The events that an outcome brings about. What tracks may be a third party's: its fault costs events, and
        neither the outcome nor the stream."""
        try:
            return list(self.tracker.see(outcome, size))
        except Exception as error:
            if not self._stumbled:
                about = {"stream": self.name}
                log.error("%s: events could not be told: %s", self.name, redact(error), exc_info=True, extra=about)
            self._stumbled = True
            return []

    def over(self) -> None:
        """Nothing more comes for now: what is open ends with what was seen last. Where it can go on after a restart, it
        stays open."""
        if not (self._ending() and self.progress is not None and self.progress.resumable):
            self.tell(self.tracker.end())
        if self._show is not None:
            self._show.ended(self.name)
        if self.progress is not None:
            self.progress.over()

    def rest(self, *, goes_on: bool) -> None:
        """It is paused. Where it `goes_on` with what comes next, so does what is open; else that ends."""
        if not goes_on:
            self.tell(self.tracker.end())
        if self._show is not None:
            self._show.ended(self.name)
        if self.progress is not None:
            self.progress.over()

    def tell(self, events: Iterable[Event], after: Noted | None = None) -> None:
        for event in events:
            for sink in self._sinks:
                if "events" in sink.takes:
                    sink.put(event, None, self._can_wait, after)

    def missed(self, outage: Outage) -> None:
        for sink in self._sinks:
            if "outages" in sink.takes:
                sink.put(outage, None, self._can_wait)
