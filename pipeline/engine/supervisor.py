"""Keeps sources running: opens them, opens live ones again for as long as it takes, notices those that hang.

One thread an attempt. A reader that is stuck in native code cannot be interrupted, so its attempt is abandoned (what it
may still say is ignored) and another begins; a few of those at once at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.core.backoff import backoff
from pipeline.core.contracts import Reader, Source, Taped, Tracked
from pipeline.core.errors import InputError, SourceAway, SourceLost, let_go
from pipeline.core.places import Place, Placed
from pipeline.core.records import Chunk, Gap, Item, SourceState
from pipeline.core.secrets import redact
from pipeline.core.tapes import Recording
from pipeline.engine.attendance import Attendance
from pipeline.engine.intake import Intake
from pipeline.engine.progress import Progress
from pipeline.engine.stream import Stream

log = logging.getLogger(__name__)

_MOST_STUCK = 3
_LETTING_GO_S = 2.0
_GIVEN_UP_S = 10.0
_POLL_S = 0.02
_STEADY_NS = 5_000_000_000  # a connection that held this long starts the waits anew


@dataclass(frozen=True, slots=True)
class Line:
    """One stream of a source. `broke` is called when it ended or broke off, `rests` when it is paused, `absent` when it
    turns out that there is no such track in it. `progress` is kept where there is a folder for it, `attendance` of live
    streams."""

    stream: Stream
    intake: Intake
    broke: Callable[[], None]
    rests: Callable[[], None]
    absent: Callable[[], None]
    progress: Progress | None = None
    attendance: Attendance | None = None


class SourceRunner:
    """Runs one source into its lines: its own, and those of its further tracks."""

    def __init__(
        self,
        source: Source,
        lines: Sequence[Line],
        ready: threading.Event,
        record: Callable[[Recording], None] | None = None,
        *,
        takes_over: bool = False,
    ) -> None:
        """`record` is given the tape of each connection, where somebody wants it. With `takes_over`, a runner of the
        same name ran until now, and the lines know where theirs go on."""
        self.source = source
        self.stream = lines[0].stream
        self.problem: InputError | None = None
        self.finished = threading.Event()
        self.paused = False
        """Closed, until `resume`; also from the start."""
        self._lines = lines
        self._by_name = {line.stream.name: line for line in lines}
        self._absent: set[str] = set()
        self._record = record
        self._takes_over = takes_over
        self._goes_on = False  # it was opened behind what was taken in before
        self._ready = ready  # set once windows can be judged: connecting need not wait for that
        self._stop = threading.Event()
        self._attempt: _Attempt | None = None
        self._latest: _Attempt | None = None  # also once it was paused
        self._stuck: list[_Attempt] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        for line in self._lines:
            if self._takes_over and line.progress is not None:
                line.progress.take_over(line.intake.place)
                continue
            known = None if line.progress is None else line.progress.take_up()
            if known is not None and line.attendance is not None and known.wall_ns:
                line.attendance.was_down(known.wall_ns)
        with self._lock:
            if self.paused:
                self._states(SourceState.PAUSED)
            else:
                self._begin()

    def pause(self) -> None:
        """Let go of the source; what was taken in goes on its way. Waits for a moment until its reader is closed: one
        that hangs is left to itself. Raises `InputError` where there is nothing to pause."""
        with self._lock:
            if self.paused:
                return
            if self.finished.is_set():
                raise InputError("it has ended; resume starts it again", f"sources.{self.stream.name}")
            attempt, self._attempt = self._attempt, None
            self.paused = True
            self._states(SourceState.PAUSED)
            if attempt is not None:
                attempt.rests = True
        if attempt is not None:
            attempt.thread.join(_LETTING_GO_S)
            if not attempt.taking:  # else it says so itself, once there is room for what it has in hand
                self._left(attempt)

    def resume(self) -> None:
        """Open it again: behind what was taken in, where it can be read again. One that had ended begins anew."""
        with self._lock:
            if self._stop.is_set() or not (self.paused or self.finished.is_set()):
                return
            if not self.paused and self.problem is None:
                for line in self._lines:
                    line.intake.again()
                    if line.progress is not None:
                        line.progress.again()
            self.paused, self.problem = False, None
            self.finished.clear()
            self._states(SourceState.CONNECTING)
            self._begin()

    def _states(self, state: SourceState) -> None:
        for line in self._lines:
            line.stream.state, line.stream.detail = state, ""

    def _left(self, attempt: _Attempt) -> None:
        """Nothing of `attempt` comes any more. Does all that follows, once."""
        with self._lock:
            if attempt.left:
                return
            attempt.left = True
            over = attempt is self._attempt
        if attempt.rests:
            for line in self._lines:
                if line.attendance is not None:
                    line.attendance.lost(paused=True)
                line.rests()
            if self.paused:
                self._states(SourceState.PAUSED)  # what it had in hand may have said otherwise
        else:
            self._broke()
        if over:
            self.finished.set()

    def _broke(self) -> None:
        for line in self._lines:
            if line.attendance is not None:
                line.attendance.lost()
            line.broke()

    def _begin(self) -> None:
        before, self._latest = self._latest, _Attempt(self)
        self._attempt = self._latest
        self._attempt.before = before
        self._attempt.thread.start()

    def stop(self) -> None:
        """Take no further item; returns at once."""
        self._stop.set()

    def join(self, end_s: float) -> None:
        """Wait for its thread until `end_s` by the monotonic clock; not for one that is still connecting, which has
        nothing to hand over and may take its time."""
        attempt = self._latest
        while attempt is not None and attempt.open and time.monotonic() < end_s:
            attempt.thread.join(0.01)
            if not attempt.thread.is_alive():
                return

    def end(self) -> None:
        """Whatever the thread still does, this source is done."""
        if not self.finished.is_set():
            if self._latest is not None:
                self._left(self._latest)
            if self.paused or self._latest is None:  # what was to go on does not
                self._broke()
            self.finished.set()

    def watch(self, now_ns: int, paused_ns: int = 0) -> None:
        """Called about once a second: is anything coming? `paused_ns` is for how long the whole process has stood still
        meanwhile, which is no silence of the source's."""
        with self._lock:
            attempt = self._attempt
            if attempt is not None and not self.finished.is_set():
                for line in self._lines:
                    if line.progress is not None:
                        here = attempt.open and (line.attendance is None or line.attendance.here)
                        line.stream.if_empty(partial(line.progress.watch, here))
            if attempt is None or self.finished.is_set() or not self.source.live:
                return
            attempt.sign_ns = min(now_ns, attempt.sign_ns + paused_ns)
            attempt.frame_ns = min(now_ns, attempt.frame_ns + paused_ns)
            silence_ns = int(self.source.silence_s * 1e9)
            if not attempt.open or attempt.taking:
                return  # opening has time-outs of its own; and what waits for room in the pipeline does not hang
            if now_ns - attempt.frame_ns > silence_ns // 2:
                self.set_state(attempt, SourceState.SILENT, "nothing has come for a while")
            if now_ns - attempt.sign_ns > silence_ns:
                self._stuck = [a for a in self._stuck if a.thread.is_alive()]
                if len(self._stuck) < _MOST_STUCK:
                    name = self.stream.name
                    log.warning("%s: the source hangs; opening it again", name, extra={"stream": name})
                    self._stuck.append(attempt)
                    attempt.left = True
                    self._broke()
                    self._latest = None  # nobody waits for it
                    self._begin()

    def current(self, attempt: _Attempt) -> bool:
        return self._attempt is attempt and not self._stop.is_set()

    def set_state(self, attempt: _Attempt, state: SourceState, detail: str = "") -> None:
        if self._attempt is attempt:
            for line in self._lines:
                if line.stream.name not in self._absent:
                    line.stream.state, line.stream.detail = state, detail

    def run(self, attempt: _Attempt) -> None:
        waits = backoff()
        try:
            self._wait_for(attempt)
            while self.current(attempt):
                self.set_state(attempt, SourceState.CONNECTING, self.stream.detail)
                began = time.monotonic_ns()
                try:
                    self._read(attempt)
                    if self.current(attempt):
                        self.set_state(attempt, SourceState.ENDED)
                    return
                except InputError as error:
                    self.problem = InputError(redact(error.message), error.place or f"sources.{self.stream.name}")
                    self.set_state(attempt, SourceState.FAILED, str(self.problem))
                    log.error("%s", self.problem)
                    let_go(error)
                    return
                except Exception as error:  # noqa: BLE001 whatever a third party's reader raises, the stream goes on
                    goes_on = self._lost(attempt, error)
                    let_go(error)
                    if not goes_on:
                        return
                    if isinstance(error, SourceAway):
                        continue
                if time.monotonic_ns() - began > _STEADY_NS:
                    waits = backoff()
                self._stop.wait(next(waits))
        finally:
            self._left(attempt)

    def _wait_for(self, attempt: _Attempt) -> None:
        """The attempt before has to be through with what it had in hand, and is given some time to let go of the
        source: a camera cannot be opened twice."""
        before, attempt.before = attempt.before, None
        end_s = time.monotonic() + _GIVEN_UP_S
        while before is not None and before.thread.is_alive() and self.current(attempt):
            if time.monotonic() > end_s and not before.taking:
                return
            before.thread.join(_POLL_S)

    def _lost(self, attempt: _Attempt, error: Exception) -> bool:
        """It broke off; whether it is to be opened again."""
        if not self.current(attempt):
            return False
        known = isinstance(error, SourceLost)
        detail = redact(error) if known else f"{type(error).__name__}: {redact(error)}"
        if not self.source.live:
            self.problem = InputError(f"it broke off: {detail}", f"sources.{self.stream.name}")
            self.set_state(attempt, SourceState.FAILED, detail)
            log.error("%s", self.problem)
            return False
        if detail != self.stream.detail:  # once, not at every knock
            log.warning("%s: %s; trying again until it is back", self.stream.name, detail, exc_info=not known)
        self.set_state(attempt, SourceState.CONNECTING, detail)
        self._broke()
        return True

    def _read(self, attempt: _Attempt) -> None:
        attempt.open = False
        reader = self._open()
        try:
            self._find_tracks(attempt, reader)
            self._offer_tape(reader)
            for line in self._lines:
                line.stream.connects += line.stream.name not in self._absent
                if self._goes_on and line.intake.place is not None:
                    if self.source.paced:
                        line.intake.connected()
                    line.intake.resumed(line.intake.place)  # else it is as if it had never been away
                    continue
                line.intake.connected()
                if line.progress is not None:
                    start = reader.start if isinstance(reader, Placed) and line is self._lines[0] else None
                    place = line.progress.opened(start, goes_on=self._goes_on)
                    if place is not None:
                        line.intake.resumed(place)
            attempt.sign_ns = attempt.frame_ns = time.monotonic_ns()
            attempt.open = True
            while not self._ready.wait(0.1) and self.current(attempt):
                attempt.sign_ns = attempt.frame_ns = time.monotonic_ns()
            for item in reader:
                if not self._take(attempt, item):
                    return
            if self.source.live:
                raise SourceLost("the stream ended")
        finally:
            reader.close()  # watched, too: it may hang
            attempt.open = False

    def _open(self) -> Reader:
        """Behind what was taken in before it was paused, or what an earlier run has delivered for good, if that is what
        the source still reads."""
        name = self.stream.name
        here = {line.stream.name: _place(line) for line in self._lines}
        self._goes_on = False
        places = {full.removeprefix(name).removeprefix("."): place for full, place in here.items() if place is not None}
        resumed = self.source.resumed(places) if places else None
        if resumed is not None:
            reader = resumed.open(name)
            self._goes_on = all(place.epoch == reader.epoch for place in places.values())
            if self._goes_on:
                return reader
            reader.close()
        for line in self._lines:
            line.intake.again()
        return self.source.open(name)

    def _find_tracks(self, attempt: _Attempt, reader: Reader) -> None:
        """Of tracks that are not there, nothing is to be expected."""
        self._absent.clear()
        if not isinstance(reader, Tracked):
            return
        there = {f"{self.stream.name}.{track}" for track in reader.tracks}
        for line in self._lines[1:]:
            if line.stream.name not in there and self._attempt is attempt:
                line.stream.state, line.stream.detail = SourceState.ENDED, "there is no such track in it"
                line.absent()
                self._absent.add(line.stream.name)

    def _offer_tape(self, reader: Reader) -> None:
        if not isinstance(reader, Taped):
            return
        if self._record is None:
            reader.tape.stop()
        else:
            self._record(Recording(tuple(line.stream.name for line in self._lines), reader.epoch, reader.tape))

    def _take(self, attempt: _Attempt, item: Item) -> bool:
        """Pass `item` on, unless the attempt was abandoned or is to stop. Only one attempt is ever in here."""
        with self._lock:
            if not self.current(attempt):
                return False
            attempt.taking = True
        try:
            line = self._by_name.get(item.stream)
            if isinstance(item, (Chunk, Gap)):
                attempt.frame_ns = time.monotonic_ns()
                if line is not None:
                    line.stream.detail = ""
            if line is not None:
                if line.attendance is not None:
                    line.attendance.received(item)
                line.intake.take(item)
        finally:
            attempt.sign_ns = time.monotonic_ns()
            attempt.taking = False
        return True


def _place(line: Line) -> Place | None:
    """Behind which it is to go on."""
    return line.intake.place or (None if line.progress is None else line.progress.place)


class _Attempt:
    """One thread's go at reading a source."""

    def __init__(self, runner: SourceRunner) -> None:
        self.open = False
        self.sign_ns = 0  # the last sign of life
        self.frame_ns = 0  # the last frame, or the connection
        self.taking = False  # an item of it is on its way into the pipeline
        self.rests = False  # it was paused
        self.left = False  # all that follows from its end was done
        self.before: _Attempt | None = None
        self.thread = threading.Thread(
            target=lambda: runner.run(self), name=f"source-{runner.stream.name}", daemon=True
        )
