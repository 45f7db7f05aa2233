"""The seams. Everything that can be added is one of these; threads, queues and retries are the engine's alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias, runtime_checkable

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.letters import Letter
from pipeline.core.media import Medium, Payload, Spec
from pipeline.core.outages import Outage
from pipeline.core.payloads import Image
from pipeline.core.places import Place
from pipeline.core.records import Array, Audit, Detection, Event, Findings, Item, Outcome, Region, Result
from pipeline.core.rulings import Ruling
from pipeline.core.settings import Settings, StreamSettings
from pipeline.core.snapshot import AuditReport, Snapshot
from pipeline.core.tapes import Recording, Tape


class Reader(Protocol):
    """The running part of a source. One thread iterates it and closes it.

    Iteration yields chunks, gaps and watermarks; it ends at the end of a file. A live source never ends in
    peace: it raises `SourceLost`, and the engine opens the source again. No retry loop belongs in here.
    What cannot work however often it is tried (a corrupt file) raises `InputError`. Live readers wake at least
    every two seconds, with a `Watermark` or an error, so that a stop is never waited for longer.
    """

    epoch: str

    def __iter__(self) -> Iterator[Item]: ...
    def close(self) -> None:
        """Let go of everything. Safe without iteration and safe twice."""


@runtime_checkable
class Tracked(Protocol):
    """A reader that may not find every track that its source has settings for: a camera without a microphone."""

    tracks: Collection[str]
    """What it found, by the names of `Source.tracks`."""


@runtime_checkable
class Taped(Protocol):
    """A reader that keeps the packets it reads for a while: evidence can be cut from them."""

    tape: Tape
    """Running from the start; the engine stops it where nobody records."""


class Source(StreamSettings, ABC):
    """A picklable plan of where a stream comes from."""

    live: ClassVar[bool] = False
    """Live: it arrives when it likes, an end is a disconnect, frames are dropped under load. Otherwise it is
    replayable: it can wait, its end is the end, and a second reading gives the same ids."""
    medium: ClassVar[Medium] = "picture"
    published: ClassVar[bool] = False
    """Others publish into it, by way of this program's own server, which has to run then."""

    @abstractmethod
    def open(self, stream: str) -> Reader:
        """Open it as the stream of that name. Raises `SourceLost` (try again) or `InputError` (don't)."""

    def resumed(self, places: Mapping[str, Place]) -> Self | None:
        """The same source, to be opened behind `places`: its own stream's is under the empty name, those of its tracks
        under theirs; what has none begins at the beginning. It hands over what an uninterrupted reading would have, to
        the id. A reader of another epoch says that this is not what was read before. None: it always begins anew."""
        return None

    @property
    def endless(self) -> bool:
        """A log without end: another cascade goes on where the one before stood, and judges nothing old anew."""
        return False

    def check(self) -> None:
        """Find mistakes that need no connection: a missing file, a malformed URL. Raises `InputError`."""

    @property
    def paced(self) -> bool:
        """Whether it arrives in real time: by its nature, or because it was asked to."""
        return self.live

    @property
    def parts(self) -> bool:
        """Whether each picture shows a thing of its own, as on a production line: one that looks like the one before
        is then no frozen feed, and is judged like any other."""
        return False

    @property
    def answers_at(self) -> str | None:
        """The `host:port` at which it listens, if it does: no two may share one."""
        return None

    @property
    def tracks(self) -> Mapping[str, StreamSettings]:
        """Further streams of the same reader, by what stands behind the stream's name and a dot: what is read as
        `door` gives chunks of `door.sound`, too, unless its reader says otherwise (`Tracked`). What judges them, and
        how, their settings say."""
        return {}

    def fitted(self, spec: Spec, track: str = "") -> Self:
        """The same source, handing over what a model of `spec` takes of it, or of its track; as a rule that is what it
        hands over anyway. Raises `InputError` where it cannot."""
        medium = "sound" if track else self.medium
        if spec.medium != medium:
            raise InputError(f"its cascade judges {spec.medium}, and this is {medium}: name another one", "cascade")
        return self


class Gate(Protocol):
    """Judges without a model whether a frame differs from the last one that was *judged*. One per stream, called on
    the decode side before any queue, from one thread at a time."""

    name: str
    carries: bool
    """Whether what it holds back looks like what was judged last, so that the verdict on that holds. Otherwise there is
    nothing in it to judge (no voice in the sound), and it is clear by itself."""

    def changed(self, sample: Array, pts_ns: int) -> bool:
        """Whether a window of which this is the sample (see `Payload.sample`: luma of a picture, what is new of a
        sound) is worth judging. One that `carries` passes everything until something was judged."""

    def judged(self, sample: Array, pts_ns: int) -> None:
        """The window with this sample got a result of a stage; a shed or failed one never comes here."""

    def forget(self) -> None:
        """A new connection begins: as when it was started."""


class GatePlan(Settings, ABC):
    """A picklable plan of a gate."""

    name: ClassVar[str]
    medium: ClassVar[Medium] = "picture"

    @abstractmethod
    def start(self) -> Gate:
        """A gate for one stream."""

    def fitted(self, spec: Spec) -> Self:
        """The same for a stream whose cascade takes `spec`. Raises `InputError` where it cannot judge such."""
        if spec.medium != self.medium:
            raise InputError(f"the gate {self.name} is for {self.medium}, and this stream is {spec.medium}")
        return self


class Stage(Protocol):
    """A model that judges views. Stateless, knows no threshold, safe to call from several threads."""

    name: str
    spec: Spec
    labels: tuple[str, ...]
    max_batch: int
    workers: int
    """How many threads may usefully call `score` at once."""

    def score(self, views: Sequence[Any]) -> Sequence[Findings]:
        """One `Findings` per view, in order. Never more than `max_batch` views. Raises `StageError`."""

    def warm(self) -> None:
        """Run every batch size once, so that no live window pays for it."""

    def describe(self) -> dict[str, object]:
        """Model, version, runtime, the precision that really runs: for `doctor`, `bench` and the start-up line."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Settled: nothing to act on. `detections` are reported all the same."""

    detections: tuple[Detection, ...] = ()


@dataclass(frozen=True, slots=True)
class Flag:
    """Settled: something to act on."""

    detections: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class Escalate:
    """The heavy stage has to look: at the regions, or at the whole window where there are none."""

    regions: tuple[Region, ...] = ()


Decision: TypeAlias = Clear | Flag | Escalate


class Rule(Protocol):
    """The thresholds, as pure functions: what calibration chooses, replay re-plays and the audit checks."""

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        """The mistakes that show once the stages' labels are known (None: there is no heavy stage), one line each."""

    def decide(self, cheap: Findings) -> Decision:
        """What the cheap stage's findings mean. Without a heavy stage, `Escalate` is not among the answers."""

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Decision:
        """The verdict once the heavy stage judged what `decide` asked for (one `Findings` per region). `Escalate`
        asks for more: it is called again with that behind what `heavy` had."""


@dataclass(frozen=True, slots=True)
class Word:
    """What the heavy stage flags in a whole unit (nothing: it does not flag it), and whether the deployed path had
    reported that; where nothing is flagged, whether it had reported anything."""

    detections: tuple[Detection, ...]
    reported: bool


class Auditor(Protocol):
    """Holds a generation that runs against its heavy stage: which units are looked at again, and what follows.

    `toss`, `share`, `word` and `whole` are pure functions, called from any thread. Whatever counts or writes is called
    by one thread at a time.
    """

    stage: Stage
    """The heavy model once more, for audits alone, so that nothing live ever waits for one."""
    reserve: int
    """How many pictures may be kept waiting."""
    effort: float
    """Share of a thread's time that audits get while live work waits."""
    alarm: str
    """`broken`, `drift`, or empty. It goes off once, and stays."""

    def open(self) -> None:
        """Take up what was known when the program last ran. Raises `InputError`."""

    def toss(self, unit: str) -> float | None:
        """The unit's own number in [0, 1), or None where it is too high for any `share`."""

    def share(self, cheap: Findings | None) -> float:
        """The probability with which a unit is audited of which the cheap stage says this: where its toss is below."""

    def word(self, whole: Findings, outcome: Outcome) -> Word:
        """What the heavy stage's findings in the whole unit mean beside the outcome that was emitted."""

    def whole(self, cheap: Findings, heavy: Findings) -> Clear | Flag:
        """The verdict where the heavy stage judged the whole unit, whatever the rule would have asked of it."""

    def left(self, units: int, reported: int) -> None:
        """So many units got their outcome, and so many of them are flagged."""

    def heard(self, word: Word, p: float, *, audited: bool) -> None:
        """The word on a unit that was to be had with the probability `p`; `audited` if it was asked for that alone."""

    def unseen(self, p: float, count: int) -> None:
        """Units that ought to have been looked at, and could not be: they may be anything."""

    def waiting(self, due: Mapping[float, int]) -> None:
        """How many words are still due, by the probability with which each was to be had. Until then those units may be
        anything, too; said anew whenever it may have changed."""

    def report(self, units_per_s: float) -> AuditReport:
        """What all that proves by now."""

    def save(self) -> None:
        """Raises `OSError`."""

    def close(self) -> None:
        """Let go of what `open` took. Safe twice."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Stages and rule under one id: what a window is pinned to when it is admitted, and the unit that is swapped.
    `promise` is what its certificate says, in a line; empty without one. `auditor` watches it, if anybody does."""

    id: str
    cheap: Stage
    heavy: Stage | None
    rule: Rule
    certified: bool = False
    promise: str = ""
    auditor: Auditor | None = None
    remembers: int = 0
    """How many verdicts are kept for what says the same again (see `Payload.key`)."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.cheap,) if self.heavy is None else (self.cheap, self.heavy)


@dataclass(frozen=True, slots=True)
class Picture:
    """An outcome together with what it is about, for sinks that draw, and the events that it brings about, which
    follow by themselves as well. With an `audit`, it is a window that was delivered before and has been looked at
    again."""

    outcome: Outcome
    payload: Payload | None
    audit: Audit | None = None
    events: tuple[Event, ...] = ()

    @property
    def image(self) -> Image | None:
        """The payload, if it is a picture that was held."""
        return self.payload if isinstance(self.payload, Image) else None


Delivery: TypeAlias = Outcome | Event | Picture | Audit | Ruling | Outage | Recording


class Sink(Settings, ABC):
    """A picklable plan of where results go."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events"})
    """Any of `outcomes`, `events`, `pictures` (an outcome with its picture, instead of the bare outcome), `audits`
    (to those that take pictures, too, an audit comes as a picture with its `audit`), `rulings`, `outages`, `tapes` (a
    `Recording` at the beginning of each connection)."""
    backlog: ClassVar[int] = 4096
    """How many items may wait for this sink."""
    fleeting: ClassVar[bool] = False
    """It shows the moment: for want of room the oldest goes, which is no loss, and no stream is ever held for it."""

    @abstractmethod
    def open(self) -> Writer:
        """Raises `InputError` when it can never work (an unwritable path), `SinkBusy` when it may later."""

    def check(self) -> None:
        """Find mistakes before anything starts. Raises `InputError`."""


class Writer(Protocol):
    """The running part of a sink, used by one thread."""

    def write(self, items: Sequence[Delivery]) -> None:
        """Returning acknowledges all of `items`. Raises `SinkBusy` (they come again, ids unchanged: be idempotent)
        or `SinkRefused` (they never come again)."""

    def close(self) -> None:
        """Flush and let go. Safe twice."""


@runtime_checkable
class Observer(Protocol):
    """A writer that also wants to see how the engine is doing (a live table): called about four times a second, in
    the writer's own thread."""

    def observe(self, snapshot: Snapshot) -> None: ...


@runtime_checkable
class Forgetting(Protocol):
    """A writer that keeps something of each stream (an open file, pictures): called in the writer's own thread once a
    stream was removed, behind all that was to be written of it."""

    def forget(self, stream: str) -> None: ...


class OutboxSettings(Settings):
    """What waits for a receiver elsewhere, on this machine's disk. Whatever is accepted is there before it counts as
    accepted; it goes once the receiver has it."""

    path: str = Field(default="", description="its folder (default: outbox/NAME, by the sink's name)")
    max_mb: float = Field(default=1024.0, ge=1, le=1e6, description="how much may wait")
    max_age_h: float = Field(default=168.0, gt=0, le=1e5, description="what has waited longer is dropped, and counted")
    when_full: Literal["wait", "drop_oldest"] = Field(
        default="wait",
        description="wait: what was accepted stays; streams that can wait are held, those that cannot lose their"
        " oldest, counted. drop_oldest: what has waited longest goes, counted",
    )
    sync: bool = Field(
        default=True,
        description="wait for the disk before accepting: survives a loss of power; else the death of the program only",
    )


class Remote(Sink, ABC):
    """A sink on the network. What it takes is written to an outbox first, by the engine, and sent from there, in order,
    by a `Courier`: for as long as it takes, across restarts."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "events", "audits", "rulings", "outages"})

    outcomes: Literal["all", "flagged", "none"] = Field(
        default="all", description="which outcomes are sent: every one, only results with something to act on, or none"
    )
    events: bool = Field(default=True, description="send events as well")
    rulings: bool = Field(default=True, description="send what the policy rules as well")
    outbox: OutboxSettings = OutboxSettings()

    @abstractmethod
    def connect(self, name: str) -> Courier:
        """The running part, for the sink of that name. It need not be connected yet. Raises `InputError` where it can
        never work, `SinkBusy` where it may later."""

    def wants(self, item: Delivery) -> bool:
        """Whether this item is to be sent."""
        if isinstance(item, Event):
            return self.events
        if isinstance(item, Ruling):
            return self.rulings
        if isinstance(item, Outcome):
            flagged = isinstance(item, Result) and item.flagged
            return self.outcomes == "all" or (self.outcomes == "flagged" and flagged)
        return True

    def open(self) -> Writer:
        raise TypeError("a Remote is opened by the engine, behind its outbox: call connect")


class Courier(Protocol):
    """The running part of a `Remote`, used by one thread. It may be an `Observer`, too."""

    most: int
    """How many letters it likes to be given at once."""

    def send(self, letters: Sequence[Letter]) -> int:
        """How many of them, from the first, have arrived for good: one at least. The others come again, and any may
        come twice. Raises `SinkBusy` where none did (all come again, after a pause that grows), `SinkRefused` where the
        first never will (it is put aside, with the reason). A receiver that does not answer within ten seconds is
        `SinkBusy`."""

    def close(self) -> None:
        """Let go. Safe twice."""
