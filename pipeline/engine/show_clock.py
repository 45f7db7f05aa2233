"""One clock for the streams of a show, and how far each of them has come on it.

- Tracks of one reader share its media clock, so that picture and sound stay together to the sample.
- Replayed streams share one zero: their media time *is* the show's, and a replay puts everything in the same place.
- Each connection of a live reader is put in place once, where its first window arrived, and follows its media clock
  from there. Where that and arrivals drift apart by more than a second, it is put in place anew, which is counted.
- `offset_ns` of a stream is added to all that: what else is known of how late it comes.
- Where all is replayed as fast as it goes, time waits for the slowest. Else for none longer than `patience_ns`: streams
  that arrive in real time move the show's time with the clock on the wall, also when they are silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.core.errors import InputError
from pipeline.core.records import Window
from pipeline.core.rulings import Anchor

DRIFT_NS = 1_000_000_000
_NEVER = -(1 << 62)


@dataclass(frozen=True, slots=True)
class ClockedStream:
    """`reader` is the source that it is read from: other than `name` for its further tracks. `paced` streams arrive in
    real time, `live` ones have no media time that a replay would repeat."""

    name: str
    reader: str
    live: bool = False
    paced: bool = False
    offset_ns: int = 0


@dataclass(slots=True)
class _Connection:
    epoch: str
    shift_ns: int  # from its media time to the show's


@dataclass(slots=True)
class _Progress:
    plan: ClockedStream
    mark_ns: int = _NEVER  # nothing before that will come
    ended: bool = False
    absent: bool = False


@dataclass(slots=True)
class ShowClock:
    """Not thread-safe."""

    streams: Iterable[ClockedStream]
    patience_ns: int
    anchored_anew: int = 0
    watermark_ns: int = _NEVER
    """The show's time up to which everything is known, or waited for long enough. Never goes back."""
    zero_wall_ns: int | None = None
    _zero_mono_ns: int = 0
    _head_ns: int = _NEVER
    _replay_ns: int | None = None
    _connections: dict[str, _Connection] = field(default_factory=dict)
    _progress: dict[str, _Progress] = field(default_factory=dict)

    _replay: bool = False  # nothing arrives in real time: one that is behind can be waited for, and will come

    def __post_init__(self) -> None:
        self.join(list(self.streams))

    def join(self, streams: Sequence[ClockedStream]) -> None:
        """They take part from now on, all or none. Raises as `check` does."""
        self.check(streams)
        self._progress |= {plan.name: _Progress(plan) for plan in streams}
        self._replay = not any(one.plan.paced for one in self._progress.values())

    def check(self, streams: Sequence[ClockedStream]) -> None:
        """Raises `InputError` for one whose media time is the show's own, once that has begun: it would be late from
        its first window."""
        if self.zero_wall_ns is not None and not all(plan.live for plan in streams):
            raise InputError(
                "the show has begun, and what is replayed would be late for it from its first window: name the"
                " `streams` of the policy, without this one, or start the program with it",
                f"sources.{streams[0].reader}",
            )

    def leave(self, stream: str) -> None:
        """It takes part no more."""
        left = self._progress.pop(stream, None)
        if left is not None and stream == left.plan.reader:
            self._connections.pop(stream, None)

    def __contains__(self, stream: str) -> bool:
        return stream in self._progress

    def shift(self, window: Window) -> int:
        """What to add to the window's media time to have it on the show's clock. Raises `KeyError` for a stream of
        another show."""
        plan = self._progress[window.stream].plan
        arrived_ns = self._arrived(window, plan)
        if not plan.live:
            if self._replay_ns is None:
                self._replay_ns = arrived_ns - window.arrived_ns
            shift = self._replay_ns
            self._connections[plan.reader] = _Connection(window.epoch, shift)
            return shift + plan.offset_ns
        here = self._connections.get(plan.reader)
        by_arrival = arrived_ns - window.arrived_ns
        if here is None or here.epoch != window.epoch:
            here = self._connections[plan.reader] = _Connection(window.epoch, by_arrival)
        elif plan.name == plan.reader and abs(by_arrival - here.shift_ns) > DRIFT_NS:
            here.shift_ns = by_arrival
            self.anchored_anew += 1
        return here.shift_ns + plan.offset_ns

    def _arrived(self, window: Window, plan: ClockedStream) -> int:
        """When it arrived, on the show's clock. The first window of all says where its zero is."""
        if self.zero_wall_ns is None:
            before_ns = 0 if plan.live else window.arrived_ns
            self.zero_wall_ns = window.wall_ns - before_ns
            self._zero_mono_ns = window.mono_ns - before_ns
        # by the monotonic clock: the one on the wall may be set while a show runs
        return window.mono_ns - self._zero_mono_ns

    def anchors(self, streams: Iterable[str]) -> tuple[Anchor, ...]:
        """Where the show's zero is in those of `streams` that are connected."""
        out = []
        for name in streams:
            here = self._progress.get(name)
            known = None if here is None else self._connections.get(here.plan.reader)
            if here is not None and known is not None:
                out.append(Anchor(name, known.epoch, -known.shift_ns - here.plan.offset_ns))
        return tuple(out)

    def passed(self, stream: str, show_ns: int, now_ns: int) -> None:
        """Nothing of `stream` before `show_ns` will come; `now_ns` by the monotonic clock."""
        here = self._progress[stream]
        if here.plan.live:  # its own clock may have leapt: nothing is promised of what is yet to come
            show_ns = min(show_ns, now_ns - self._zero_mono_ns)
        here.ended = here.absent = False
        here.mark_ns = max(here.mark_ns, show_ns)
        self._head_ns = max(self._head_ns, show_ns)
        self._move()

    def passed_media(self, stream: str, pts_ns: int, now_ns: int) -> None:
        """The same in the stream's media time, as its source promises."""
        here = self._progress[stream]
        known = self._connections.get(here.plan.reader)
        if known is not None:
            self.passed(stream, pts_ns + known.shift_ns + here.plan.offset_ns, now_ns)

    def ended(self, stream: str) -> None:
        """For now nothing more of `stream` will come: nobody waits for it."""
        self._progress[stream].ended = True
        self._move()

    def absent(self, stream: str) -> None:
        """There is no such stream: nobody misses it, until something comes of it after all."""
        self._progress[stream].absent = True
        self.ended(stream)

    @property
    def all_ended(self) -> bool:
        """Whether nothing will come any more, of no stream."""
        return all(one.ended and not one.plan.live for one in self._progress.values())

    def tick(self, now_ns: int) -> None:
        """The time on the wall goes on. `now_ns` by the monotonic clock."""
        moves = any(one.plan.live or (one.plan.paced and not one.ended) for one in self._progress.values())
        if self.zero_wall_ns is not None and moves:
            self._head_ns = max(self._head_ns, now_ns - self._zero_mono_ns)
            self._move()

    def missing(self, since_ns: int) -> tuple[str, ...]:
        """The streams of which nothing is known since then, and ought to be."""
        return tuple(name for name, one in self._progress.items() if one.mark_ns < since_ns and not one.absent)

    def _move(self) -> None:
        waited_for = [one.mark_ns for one in self._progress.values() if not one.ended]
        slowest = min(waited_for, default=self._head_ns)
        if not self._replay:
            slowest = max(slowest, self._head_ns - self.patience_ns)
        self.watermark_ns = max(self.watermark_ns, slowest)
