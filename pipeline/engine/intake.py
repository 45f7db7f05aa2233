"""From what a source hands over to windows that are admitted: sampling, feed states, the gate, the first view.

Runs in the source's own thread, so that only small arrays travel further.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pipeline.core.contracts import Gate
from pipeline.core.media import Payload
from pipeline.core.payloads import Image
from pipeline.core.places import Place
from pipeline.core.records import Array, Chunk, Failed, Gap, Item, Result, SourceState, Watermark, Window
from pipeline.core.secrets import redact
from pipeline.engine.cascade import CascadeRunner
from pipeline.engine.feed import FeedWatch
from pipeline.engine.leaps import WOBBLE_NS, Leaps, TrackTime
from pipeline.engine.stream import Judged, Stream
from pipeline.engine.ticket import Lease

_SUPPRESSING = (SourceState.BLACK, SourceState.FROZEN)


class Sampler:
    """Lets through at most `max_fps` frames a second of media time, evenly spaced."""

    __slots__ = ("_period_ns", "due_ns")

    def __init__(self, max_fps: float | None) -> None:
        self._period_ns = int(1e9 / max_fps) if max_fps else 0
        self.due_ns: int | None = None

    def takes(self, pts_ns: int) -> bool:
        period = self._period_ns
        if not period:
            return True
        due = self.due_ns
        on_time = due is not None and due - 2 * period < pts_ns < due + period
        if due is not None and on_time:
            if pts_ns < due - period // 8:  # time stamps are rounded: 15 of 30 must stay every second frame
                return False
            self.due_ns = due + period
        else:  # the first frame, or a leap in either direction
            self.due_ns = pts_ns + period
        return True


class Intake:
    """One per stream. `take` is called from one thread at a time."""

    def __init__(
        self,
        stream: Stream,
        runner: CascadeRunner,
        gate: Gate | None,
        *,
        max_fps: float | None,
        gate_refresh_s: float,
        feed_refresh_s: float,
        watches_feed: bool,
        picture_sinks: int,
        held: Callable[[], bool],
        leaps: Leaps | None = None,
        passed: Callable[[int], None] | None = None,
        places: bool = False,
    ) -> None:
        """`leaps` is shared by the streams of one reader, where its clock may leap. `passed` is told up to which media
        time everything has left, where nothing comes that would say so. With `places`, each window knows its own."""
        self._stream = stream
        self._runner = runner
        self._gate = gate
        self._max_fps = max_fps
        self._sampler = Sampler(max_fps)
        self._gate_refresh_ns = int(gate_refresh_s * 1e9)
        self._feed_refresh_ns = int(feed_refresh_s * 1e9)
        self._watches_feed = watches_feed
        self._feed: FeedWatch | None = None
        self._leaps = leaps
        self._time: TrackTime | None = None
        self._audit = runner.audit
        self._holders = picture_sinks + 1
        self._keeps = runner.keeps_pictures or picture_sinks > 0
        self._held = held
        self._passed = passed
        self._places = places
        self.place: Place | None = None
        """Behind what was taken in last, where it can be read again."""
        self._gaps = self._known_gaps = 0  # frames that are missing behind it; and those that will be told of again
        self._judged: Judged | None = None

    def connected(self) -> None:
        """A new connection begins: what was known of the old feed is void."""
        self._feed = FeedWatch() if self._watches_feed else None
        if self._leaps is not None:
            self._leaps.shift_ns, self._time = 0, None
        self._sampler = Sampler(self._max_fps)
        self._judged = None
        self._stream.judged.clear()
        if self._gate is not None:
            self._gate.forget()

    def resumed(self, place: Place) -> None:
        """What comes next is behind `place`: what is left out of a stream stays what it was."""
        self._sampler.due_ns = place.due_ns
        self._known_gaps = self._gaps

    def again(self) -> None:
        """It is to be read once more from the beginning."""
        self.place, self._gaps, self._known_gaps = None, 0, 0

    def take(self, item: Item) -> None:
        if isinstance(item, Chunk):
            self._chunk(item)
        elif isinstance(item, Gap):
            known = min(item.count, self._known_gaps)
            self._known_gaps -= known
            if known == item.count:
                return
            item = replace(item, count=item.count - known)
            self._gaps += item.count
            self._stream.gap(item)
            if self._feed is not None and item.reason == "damaged":
                self._feed.damaged(time.monotonic_ns())
                self._stream.state = SourceState.DAMAGED
        elif isinstance(item, Watermark) and self._passed is not None and self._stream.empty():
            # with windows under way, theirs is the word, and the next one comes soon
            self._passed(item.pts_ns + (0 if self._time is None else self._time.shift_ns))

    def _chunk(self, chunk: Chunk) -> None:
        payload, pts_ns = chunk.payload, chunk.pts_ns + self._correction(chunk)
        takes = self._sampler.takes(pts_ns)
        place = None
        if self._places:
            here = chunk.epoch, chunk.seq, chunk.pts_ns, time.time_ns(), chunk.position
            place = Place(*here, self._sampler.due_ns)
            self._gaps = self._known_gaps = 0
        if not takes:
            payload.release()
            self._stream.sampled_out()
            self.place = place
            return
        window = Window(
            chunk.stream,
            chunk.epoch,
            chunk.seq,
            pts_ns,
            pts_ns + chunk.duration_ns,
            chunk.mono_ns,
            chunk.wall_ns,
            chunk.file,
            payload.by_end,
        )
        trace = None if self._stream.tracer is None else self._stream.tracer.begin(window)
        if trace is not None:
            trace.reach("source")
        if self._feed is None:
            self._stream.state = SourceState.LIVE
        toss = None if self._audit is None else self._audit.toss(window.id)  # before anything has a say in it
        if self._stream.block:
            self._wait(toss)
        if trace is not None:
            trace.reach("room")
        cache = None if self._runner.opened_ns else self._runner.cache
        key = None
        try:
            sample = payload.sample() if self._gate is not None or self._feed is not None else None
            carried = None if sample is None else self._carried(window, payload, sample)
            if cache is not None and carried is None and (key := payload.key()) is not None:
                carried = cache.recall(key, window, time.monotonic_ns(), alone=payload.alone)
            if trace is not None:
                trace.reach("gate", "" if self._gate is None else self._gate.name, passed=carried is None)
            view = payload.view(self._runner.generation.cheap.spec) if carried is None else None
        except Exception as error:  # noqa: BLE001 a frame that cannot be looked at fails by itself, not its stream
            payload.release()
            failed = Failed(window, time.monotonic_ns(), f"it could not be looked at: {redact(error)}")
            self._stream.admit(window, outcome=failed, toss=toss, answer=chunk.answer, place=place, trace=trace)
            self.place = place
            return
        keeps = toss is not None or (self._keeps if carried is None else self._holders > 1)
        holders = self._holders + (toss is not None)
        lease = Lease(payload, holders) if keeps else None
        if trace is not None and view is not None:
            trace.reach("view")
        size = (payload.width, payload.height) if isinstance(payload, Image) else None
        ticket = self._stream.admit(
            window,
            lease,
            sample,
            outcome=carried,
            toss=toss,
            answer=chunk.answer,
            place=place,
            size=size,
            trace=trace,
        )
        self.place = place
        if not keeps:
            payload.release()
        if view is not None and ticket.outcome is None:
            ticket.key, ticket.alone = key, payload.alone
            self._runner.submit(ticket, view)

    def _correction(self, chunk: Chunk) -> int:
        """What to add to the media time of `chunk`, so that the leaps of its reader's clock are none."""
        if self._leaps is None:
            return 0
        by_end = chunk.payload.by_end
        if self._time is None:
            self._time = TrackTime(self._leaps, wobble_ns=WOBBLE_NS if by_end else 0)
        at_ns = chunk.pts_ns + chunk.duration_ns if by_end else chunk.pts_ns
        if self._time.leaps(at_ns, chunk.mono_ns, chunk.duration_ns) and self._feed is not None:
            self._feed.leapt(chunk.mono_ns)
        if self._time.shift_ns:
            chunk.payload.move(self._time.shift_ns)
        return self._time.shift_ns

    def _carried(self, window: Window, payload: Payload, sample: Array) -> Result | None:
        """The verdict of the last judged window, where this one shows nothing new, or that there is nothing in it to
        judge. Also sets the feed's state."""
        self._learn(window.epoch)
        state = SourceState.LIVE
        if self._feed is not None and isinstance(payload, Image):
            state = self._feed.see(payload, window.start_ns, window.mono_ns)
        self._stream.state = state
        if self._gate is not None and not self._gate.carries:
            nothing = not self._gate.changed(sample, window.start_ns) and not self._runner.opened_ns
            return self._nothing(window, self._gate.name) if nothing else None
        if self._judged is None or (self._runner.opened_ns and not self._still_good(state, self._judged[1])):
            return None
        judged_at_ns = self._judged[1].window.start_ns
        age_ns = window.start_ns - judged_at_ns
        if self._feed is not None and state in _SUPPRESSING:
            if judged_at_ns >= self._feed.since_ns and age_ns < self._feed_refresh_ns:
                return self._carry(window, state.value, self._judged[1])
            return None
        if self._gate is None or age_ns >= self._gate_refresh_ns or self._gate.changed(sample, window.start_ns):
            return None
        return self._carry(window, self._gate.name, self._judged[1])

    def _wait(self, toss: float | None) -> None:
        """For streams that can: until there is room for a window, and for its audit if there may be one."""
        audit = self._audit
        if audit is None or toss is None:
            self._stream.wait_for_room(self._held)
            return
        claimed: list[bool] = []

        def held() -> bool:
            if self._held() or not audit.claim():
                return True
            claimed.append(True)
            return False

        self._stream.wait_for_room(held)
        if not claimed:  # the stream was closed meanwhile
            audit.claim(at_once=True)

    def _still_good(self, state: SourceState, judged: Result) -> bool:
        """Once the cascade is not trusted, only what the heavy stage saw since then is carried, and only to the very
        same picture."""
        return state is SourceState.FROZEN and judged.trusted and judged.done_ns > self._runner.opened_ns

    def _learn(self, epoch: str) -> None:
        """What stages judged since the last frame. Verdicts come in the order in which they were settled, which need
        not be the stream's, and may be of a connection that is no more."""
        inbox = self._stream.judged
        while inbox:
            sample, result = inbox.popleft()
            at_ns = result.window.start_ns
            if result.window.epoch != epoch or (self._judged and at_ns < self._judged[1].window.start_ns):
                continue
            self._judged = sample, result
            if self._gate is not None:
                self._gate.judged(sample, at_ns)

    def _nothing(self, window: Window, by: str) -> Result:
        return Result(window, time.monotonic_ns(), decided_by=by, generation=self._runner.generation.id)

    def _carry(self, window: Window, by: str, judged: Result) -> Result:
        return Result(
            window=window,
            done_ns=time.monotonic_ns(),
            decided_by=by,
            generation=judged.generation,
            detections=judged.detections,
            flagged=judged.flagged,
            # a frozen feed shows the very picture that was judged; what a gate holds back, nobody has certified
            certified=judged.certified and by == SourceState.FROZEN.value,
            carried_from=judged.window.id,
            trusted=judged.trusted,
        )
