"""How far a stream has come for good, and where it goes on after a restart.

From time to time a barrier is put into every sink's backlog, behind what an outcome brought about; with it goes a
checkpoint of how things stood there. Once all sinks are done with what was before, the checkpoint counts. One barrier a
stream is under way at a time, and one more at the end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from pipeline.core.places import Place
from pipeline.core.records import Event, Outcome, Shed, ShedReason
from pipeline.engine.checkpoints import Barrier, Checkpoint, Checkpoints, Noted
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.events import EventTracker

log = logging.getLogger(__name__)

EVERY = 256  # windows
EVERY_NS = 1_000_000_000
_QUIET_NS = 5_000_000_000  # nothing comes of a live stream: so often it is noted that somebody watched


class Progress:
    """Of one stream. `take_up` comes first; `left`, `over` and `watch` are called under the stream's lock."""

    def __init__(
        self,
        stream: str,
        *,
        generation: str,
        tracker: EventTracker,
        tell: Callable[[Iterable[Event]], None],
        sinks: Sequence[SinkRunner],
        checkpoints: Checkpoints,
        resumable: bool,
        endless: bool,
    ) -> None:
        self._stream, self._generation = stream, generation
        self._tracker, self._sinks, self._checkpoints, self._tell = tracker, sinks, checkpoints, tell
        self.resumable = resumable
        self._endless = endless
        self._known: Checkpoint | None = None
        self._place: Place | None = None
        self._watched_ns = 0
        self._windows = 0  # since the last barrier
        self._marked_ns = 0  # by the monotonic clock
        self._under_way: Barrier | None = None
        self._marked: Checkpoint | None = None  # that goes with it
        self._lock = threading.Lock()  # of what is under way: barriers are passed on the sinks' threads
        self._interrupted = self._forgotten = False

    # At the start.

    def take_up(self) -> Checkpoint | None:
        """What the last run left. Events that were open in a stream that cannot go on end now, under their ids."""
        known = self._checkpoints.known(self._stream)
        if known is None:
            return None
        try:
            if known.events:
                self._tracker.restore(known.events)
        except ValueError:
            self._checkpoints.put_aside(self._stream, "what it says of events is damaged")
            return None
        self._known, self._watched_ns = known, known.wall_ns
        if not self.resumable:
            self._tell(self._tracker.end())
        elif known.generation != self._generation and not self._endless:
            self._begin_anew(f"{known.generation} judged then, {self._generation} judges now: it is judged anew")
        return known

    def take_over(self, place: Place | None) -> None:
        """Instead: what ran under this name until a moment ago came so far. What of that counts for good is still on
        its way to the sinks."""
        self._place = place

    def again(self) -> None:
        """It had ended, and is to be read once more from the beginning."""
        self._known, self._interrupted = None, False

    def forget(self) -> None:
        """The stream was removed: nothing of it is kept, and what is on its way to the sinks counts no more."""
        with self._lock:
            self._forgotten = True

    @property
    def place(self) -> Place | None:
        """Behind which its source is to go on."""
        return self._known.place if self.resumable and self._known is not None else None

    def opened(self, start: Place | None, *, goes_on: bool) -> Place | None:
        """Its source was opened, behind the place or anew: where it goes on. `start` is where it begins, if that is not
        the beginning."""
        place = self.place
        if place is not None and goes_on:
            log.warning("%s: goes on with window %d, where an earlier run was", self._stream, place.seq + 1)
            self._place = place
            return place
        if place is not None:
            self._begin_anew("what it reads is not what it was then")
        if start is not None and self.resumable:
            self._place = start
            self._mark()
        return None

    def _begin_anew(self, why: str) -> None:
        self._known = None
        self._checkpoints.put_aside(self._stream, why)
        self._tell(self._tracker.end())

    # While it runs.

    def counts(self, outcome: Outcome) -> bool:
        """Whether an outcome is for good: what the end of the program sheds is judged after a restart, and nothing
        behind it is for good either."""
        if self.resumable and isinstance(outcome, Shed) and outcome.reason is ShedReason.SHUTDOWN:
            self._interrupted = True
        return not self._interrupted

    def began(self) -> Noted | None:
        """An event begins, and is about to be told. Where nothing can be judged again, a restart would know nothing of
        it: that it is open counts at once, whatever the sinks do; told `after` that, its end is sure to be told."""
        if self.resumable:
            return None
        self._watched_ns = time.time_ns()
        with self._lock:
            noted = self._checkpoints.commit(self._checkpoint())
            self._under_way, self._marked_ns = None, 0  # what is under way knows less
        return noted

    def left(self, place: Place | None) -> None:
        """An outcome left, and all that it brought about."""
        if self._interrupted:
            return
        self._place = place or self._place
        self._watched_ns = time.time_ns()
        self._windows += 1
        due = self._windows >= EVERY and self.resumable
        if self._under_way is None and (due or time.monotonic_ns() - self._marked_ns >= EVERY_NS):
            self._mark()

    def over(self) -> None:
        """Nothing more comes, for now or at all."""
        self._mark()

    def watch(self, connected: bool) -> None:
        """Called about once a second, while no window is inside."""
        if self._under_way is not None or self._interrupted:
            return
        quiet = not self._windows and not self.resumable
        if quiet and not connected:
            return
        if time.monotonic_ns() - self._marked_ns >= (_QUIET_NS if quiet else EVERY_NS) and (quiet or self._windows):
            if connected:
                self._watched_ns = time.time_ns()
            self._mark()

    def _mark(self) -> None:
        if not self._watched_ns and self._place is None:
            return  # nothing ever came
        checkpoint = self._checkpoint()
        barrier = Barrier(len(self._sinks), lambda: self._passed(barrier, checkpoint))
        with self._lock:
            if self._under_way is not None and checkpoint == self._marked:
                return  # a source that is away is over at every knock, and a sink that is busy would gather them all
            self._under_way, self._marked = barrier, checkpoint
        self._windows, self._marked_ns = 0, time.monotonic_ns()
        for sink in self._sinks:
            sink.mark(barrier)
        barrier.put()

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._stream, self._generation, self._watched_ns, self._place, self._tracker.state())

    def _passed(self, barrier: Barrier, checkpoint: Checkpoint) -> None:
        with self._lock:
            if (self.resumable or self._under_way is barrier) and not self._forgotten:
                self._checkpoints.commit(checkpoint)
            if self._under_way is barrier:
                self._under_way = None
