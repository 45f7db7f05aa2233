"""Evidence: the seconds before and after each event, as they came from the camera, nothing encoded anew."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pipeline.core.contracts import Delivery, Picture, Sink, Writer
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.records import Event, Outcome, event_document
from pipeline.core.snapshot import Snapshot
from pipeline.core.tapes import FORMS, MiB, Recording, Tape
from sinks.clip_cut import Cut, cannot
from sinks.clip_folder import ClipFolder
from sinks.clip_upload import S3, Uploader
from sinks.paths import check_folder, expanded

log = logging.getLogger(__name__)

_REACH_S = 10.0  # an event is told some time after it began: by so much more does the tape reach back


class Clip(Sink):
    """A film of each event: `clips/door/20260131T120004Z_person_5f3a….mp4`, and beside it a `.json` with the event and
    where in the stream's media time the film lies. It begins at the last key frame before `before_s`, and is there
    under its name once it is whole: what was being cut when the program was killed is swept at the next start.

    Packets come from a tape in memory, `memory_mb` a stream at most, that files, network cameras and webcams keep while
    there is a sink of this kind. Clips of events at the same time share it. Sources that read no film have none.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "tapes"})
    backlog: ClassVar[int] = 256  # outcomes say how far judging has come: a film that is read ahead has to wait for it

    path: str = Field(default="clips", min_length=1, description="the folder; each stream has one of its own in it")
    labels: tuple[str, ...] | None = Field(default=None, description="only events with these labels; default: all")
    before_s: NonNegativeFloat = Field(default=5.0, le=600, description="seconds before the event")
    after_s: NonNegativeFloat = Field(default=5.0, le=600, description="seconds after it")
    longest_s: PositiveFloat = Field(
        default=300.0, le=86400, description="a longer clip ends here; the file beside it says `whole: false`"
    )
    memory_mb: PositiveFloat = Field(
        default=64.0, le=65536, description="how much of each stream is kept in memory at most, in MiB"
    )
    keep_gb: PositiveFloat | None = Field(default=None, description="delete the oldest clips beyond this much")
    keep_days: PositiveFloat | None = Field(default=None, description="delete clips that are older")

    s3: S3 | None = Field(default=None, description="put a copy into an S3-compatible store as well")

    def check(self) -> None:
        check_folder(expanded(self.path))
        if self.s3 is not None:
            self.s3.check()

    def open(self) -> Writer:
        return _Writer(self)


@dataclass(slots=True)
class _Stream:
    """One connection, and how far judging has come in it."""

    tape: Tape
    name: str  # of its pictures: sound beside them shows in the same film
    shift_ns: int | None = None  # see `Tape.shift_ns`
    now_ns: int = 0
    waiting: list[Event] = field(default_factory=list)  # before anybody knew where on the tape they are


class _Writer:
    def __init__(self, plan: Clip) -> None:
        self._plan = plan
        root = expanded(plan.path)
        try:
            self._folder = ClipFolder(root, plan.keep_gb, plan.keep_days)
        except OSError as error:
            raise InputError(f"cannot be used: {error.strerror}", str(root)) from error
        self._uploader = None if plan.s3 is None else Uploader(plan.s3, self._folder)
        self._streams: dict[str, _Stream] = {}
        self._cuts: dict[str, Cut] = {}  # by event
        self._without: set[str] = set()  # streams that have no tape, and were said to have none
        self._refused = 0

    def write(self, items: Sequence[Delivery]) -> None:
        last: dict[str, Outcome] = {}
        for item in items:
            if isinstance(item, Recording):
                self._connected(item)
                last.clear()
            elif isinstance(item, Event):
                self._locate(last)
                self._event(item)
            elif isinstance(item, (Outcome, Picture)):
                outcome = item.outcome if isinstance(item, Picture) else item
                last[outcome.window.stream] = outcome
        self._locate(last)
        self._go_on()

    def observe(self, snapshot: Snapshot) -> None:  # packets and the end of a tape come without anything to write
        try:
            self._go_on()
        except SinkBusy as error:
            log.debug("to be tried again: %s", error)

    def forget(self, stream: str) -> None:
        """What is being cut has its tape; nothing else will be."""
        self._streams.pop(stream, None)
        self._without.discard(stream)

    def _connected(self, recording: Recording) -> None:
        for stream in recording.streams:
            if (old := self._streams.get(stream)) is not None and old.tape is recording.tape:
                return  # told again
        recording.tape.record(int(self._plan.memory_mb * MiB))
        recording.tape.hold(self, 0)
        fresh = _Stream(recording.tape, recording.streams[0])
        self._streams |= dict.fromkeys(recording.streams, fresh)

    def _locate(self, last: dict[str, Outcome]) -> None:
        """Learn from the latest outcomes how far judging has come, and where on the tape that is."""
        for name, outcome in last.items():
            stream = self._streams.get(name)
            if stream is None or name != stream.name:
                continue
            window = outcome.window
            stream.now_ns = max(stream.now_ns, window.end_ns)
            shift_ns = stream.tape.shift_ns(window.mono_ns, window.start_ns)
            if shift_ns is not None:
                stream.shift_ns = shift_ns
            waiting, stream.waiting = stream.waiting, []
            for event in waiting:
                self._event(event)
        last.clear()

    def _event(self, event: Event) -> None:
        if self._plan.labels is not None and event.label not in self._plan.labels:
            return
        cut = self._cuts.get(event.id)
        if cut is not None:
            cut.event = event
            return
        stream = self._streams.get(event.stream)
        if stream is None or not stream.tape.running:
            if event.stream not in self._without:
                self._without.add(event.stream)
                log.warning("%s has no packets to cut clips from", event.stream)
        elif stream.shift_ns is None:
            stream.waiting.append(event)
        elif not self._folder.has(event):
            path = self._folder.path(event, FORMS[stream.tape.form])
            plan = self._plan
            margins = (int(plan.before_s * 1e9), int(plan.after_s * 1e9), int(plan.longest_s * 1e9))
            self._cuts[event.id] = Cut(event, stream.tape, stream.shift_ns, path, margins)

    def _go_on(self) -> None:
        """Cut what can be cut by now, and let go of the packets that nobody will need. Raises `SinkBusy`."""
        for cut in list(self._cuts.values()):
            self._advance(cut)
        reach_ns = int((self._plan.before_s + _REACH_S) * 1e9)
        for stream in self._streams.values():
            if stream.shift_ns is None:
                continue
            first = stream.tape.begin(stream.now_ns - reach_ns - stream.shift_ns)
            of_cuts = [cut.next for cut in self._cuts.values() if cut.tape is stream.tape and cut.next is not None]
            if first is not None:
                stream.tape.hold(self, min([first, *of_cuts]))

    def _advance(self, cut: Cut, *, everything: bool = False) -> None:
        try:
            if not cut.go_on(everything=everything):
                return
            if cut.finish():
                self._folder.keep(cut.unfinished, cut.path, self._document(cut))
                if self._uploader is not None:
                    self._uploader.wake()
        except OSError as error:
            cut.abandon()
            problem = cannot(error, cut.path)
            if isinstance(problem, SinkBusy):
                raise problem from error
            self._give_up(cut, problem)
        except SinkRefused as error:
            self._give_up(cut, error)
            return
        self._cuts.pop(cut.event.id, None)

    def _give_up(self, cut: Cut, why: Exception) -> None:
        log.warning("there is no clip of %s: %s", cut.event.id, why)
        self._cuts.pop(cut.event.id, None)
        self._refused += 1

    def _document(self, cut: Cut) -> dict[str, Any]:
        return {"clip": cut.path.name, "event": event_document(cut.event), **cut.says()}

    def close(self) -> None:
        """What is open ends with what there is."""
        for cut in list(self._cuts.values()):
            try:
                self._advance(cut, everything=True)
            except SinkBusy as error:
                log.warning("there is no clip of %s: %s", cut.event.id, error)
                cut.abandon()
        self._cuts.clear()
        for stream in self._streams.values():
            stream.tape.stop()
        dropped = sum(tape.dropped for tape in {id(one.tape): one.tape for one in self._streams.values()}.values())
        if dropped or self._refused:
            log.warning("%d packets found no room in memory_mb, %d clips failed", dropped, self._refused)
        self._streams.clear()
        if self._uploader is not None:
            self._uploader.close()
            self._uploader = None
