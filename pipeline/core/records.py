"""What flows: Source → Chunk → Window → View → Findings → Outcome → Event, Ruling → Sink.

Records are frozen and slotted. Times are integer nanoseconds: `pts_ns` is media time, `mono_ns` is
`time.monotonic_ns()` when the first packet arrived (for latency), `wall_ns` is `time.time_ns()` then. A window of sound
slides: there it is the packet that brought its newest sample, its end (`Payload.by_end`).
Boxes are `(x1, y1, x2, y2)` in source pixels, half-open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervision import Detections

    from pipeline.core.media import Payload

Box: TypeAlias = tuple[float, float, float, float]
Span: TypeAlias = tuple[int, int]
Verdict: TypeAlias = Literal["accept", "reject", "unknown"]
Array: TypeAlias = npt.NDArray[Any]
_FEW = 16
Action: TypeAlias = Literal["allow", "flag", "blur", "mute", "block"]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""What a policy may call for, the weakest first."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a source hands over: one frame, one stretch of sound or one message, received whole.

    `answer` is told the outcome once that leaves, by whoever is about to deliver it: at once, and without raising.
    `seq` counts the received frames of the epoch, damaged ones included, so that a replay gives the same ids.
    `position` is for the source itself, should it go on behind this chunk one day and need more than `seq` for that.
    """

    stream: str
    epoch: str
    seq: int
    pts_ns: int
    duration_ns: int
    mono_ns: int
    wall_ns: int
    payload: Payload
    file: str = ""  # the name of the picture, where each has one of its own
    answer: Callable[[Outcome], None] | None = None
    position: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames that were received and are not to be judged, and why: no guess is made on them."""

    stream: str
    reason: Literal["damaged", "undecoded"]
    count: int


@dataclass(frozen=True, slots=True)
class Watermark:
    """A promise that nothing before `pts_ns` will come. Sources with nothing to hand over send one at least every
    half second, so that silence stalls neither a window nor a stop."""

    stream: str
    pts_ns: int


Item: TypeAlias = Chunk | Gap | Watermark


@dataclass(frozen=True, slots=True)
class Window:
    """What is judged: `[start_ns, end_ns)` of one stream. One frame is a window of one. `mono_ns` and `wall_ns` are
    when its start arrived, or `by_end` its end."""

    stream: str
    epoch: str
    seq: int
    start_ns: int
    end_ns: int
    mono_ns: int
    wall_ns: int
    file: str = ""
    by_end: bool = False

    @property
    def id(self) -> str:
        return f"{self.stream}/{self.epoch}/{self.seq}"

    @property
    def arrived_ns(self) -> int:
        """The media time that `mono_ns` and `wall_ns` belong to."""
        return self.end_ns if self.by_end else self.start_ns

    @property
    def start_wall_ns(self) -> int:
        """When it began by the clock on the wall."""
        return self.wall_ns + self.start_ns - self.arrived_ns

    @property
    def end_wall_ns(self) -> int:
        return self.wall_ns + self.end_ns - self.arrived_ns


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a window that a rule wants judged by itself, and the label that called for it."""

    box: Box
    label: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a stage saw in one view: raw scores, no threshold applied.

    `scores` float32 `[N]`; `classes` int `[N]`, indices into `labels`; `boxes` float32 `[N, 4]` in *source* pixels,
    `spans` int64 `[N, 2]` (nanoseconds of media time, half-open), or neither where a score speaks of the whole view.
    `chars` tells, for the score with an index, the characters of a message that speak most for it, or None. It is asked
    only of what is reported: looking costs more than judging.
    """

    labels: tuple[str, ...]
    scores: Array
    classes: Array
    boxes: Array | None = None
    spans: Array | None = None
    chars: Callable[[int], Span | None] | None = None

    @property
    def placed(self) -> bool:
        """Whether each score is of one thing somewhere, and not of the whole."""
        return self.boxes is not None or self.spans is not None

    def score(self, watch: Sequence[int]) -> float:
        """Of the classes with these indices the highest score of a thing, or the summed scores of the whole; 0 where
        there is none."""
        if len(self.scores) <= _FEW:  # numpy's own cost is more than what there is to do
            pairs = list(zip(self.scores.tolist(), self.classes.tolist(), strict=True))
            picked = [score for index in watch for score, kind in pairs if kind == index]
        else:
            picked = [score for index in watch for score in self.scores[self.classes == index].tolist()]
        return max(picked, default=0.0) if self.placed else float(sum(picked))


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing found: label, score, and where (nowhere = the whole window): a box in a picture, a span of media time
    in nanoseconds, or a span of characters of a message."""

    label: str
    score: float
    box: Box | None = None
    span_ns: Span | None = None
    chars: Span | None = None


class ShedReason(StrEnum):
    OVERLOAD = "overload"  # no room: a newer window took its place
    DEADLINE = "deadline"  # too late to matter
    SHUTDOWN = "shutdown"  # the program was told to stop before it was judged


@dataclass(frozen=True, slots=True)
class Outcome:
    """The pipeline's word on a window. Each window gets exactly one: a `Result`, a `Shed` or a `Failed`."""

    window: Window
    done_ns: int  # time.monotonic_ns() when it was settled

    @property
    def kind(self) -> Literal["result", "shed", "failed"]:
        raise TypeError("an Outcome is a Result, a Shed or a Failed")

    @property
    def verdict(self) -> Verdict:
        """What is to become of the part that the window shows. What was not judged is never let through."""
        return "unknown"

    @property
    def latency_ns(self) -> int:
        """From the window's packet (see `Window`) to its verdict."""
        return self.done_ns - self.window.mono_ns


@dataclass(frozen=True, slots=True)
class Result(Outcome):
    """A verdict.

    `decided_by` names the stage that settled it, or the gate (or feed state) that found nothing new, in which case
    the detections are those of the window `carried_from`. `flagged` says whether there is something to act on. What
    is not `trusted` is not let through: nobody vouches that the cascade still keeps its promise.

    Under a policy, `action` is what this window alone calls for, and `rule` the one that says so (none where no rule
    speaks of it). What it brings about together with others, a `Ruling` says (`pipeline.core.rulings`).
    """

    decided_by: str
    generation: str
    detections: tuple[Detection, ...] = ()
    flagged: bool = False
    certified: bool = False
    carried_from: str | None = None
    trusted: bool = True
    action: Action | None = None
    rule: str = ""

    @property
    def kind(self) -> Literal["result", "shed", "failed"]:
        return "result"

    @property
    def verdict(self) -> Verdict:
        if self.flagged:
            return "reject"
        return "accept" if self.trusted else "unknown"

    def to_supervision(self, labels: Sequence[str] = ()) -> Detections:
        """What has a box, as the package `supervision` wants it (see `pipeline.core.supervision`)."""
        from pipeline.core.supervision import to_supervision

        return to_supervision(self.detections, labels)

    def with_supervision(self, kept: Detections, labels: Sequence[str] = ()) -> Result:
        """The same with those boxes instead: what a filter or a zone of `supervision` left. Nobody has certified that,
        and with nothing left it is not flagged."""
        from pipeline.core.supervision import from_supervision

        nowhere = tuple(one for one in self.detections if one.box is None)
        detections = (*nowhere, *from_supervision(kept, labels))
        return replace(self, detections=detections, flagged=self.flagged and bool(detections), certified=False)


@dataclass(frozen=True, slots=True)
class Shed(Outcome):
    """Not judged, on purpose."""

    reason: ShedReason

    @property
    def kind(self) -> Literal["result", "shed", "failed"]:
        return "shed"


@dataclass(frozen=True, slots=True)
class Failed(Outcome):
    """Not judged, by a fault."""

    reason: str

    @property
    def kind(self) -> Literal["result", "shed", "failed"]:
        return "failed"


@dataclass(frozen=True, slots=True)
class Event:
    """What people act on. `new`, any number of `update`, `end`, under one stable id. `start_ns`/`end_ns` are media
    time, `start_wall_ns`/`end_wall_ns` the same on the wall's clock. `count` is the most of them seen at once, `zone`
    where it was or the line it crossed, `track` the same in all events of one object. `held_back` counts the label's
    events before it that a rate limit left untold."""

    id: str
    kind: Literal["new", "update", "end"]
    stream: str
    label: str
    start_ns: int
    end_ns: int
    start_wall_ns: int
    end_wall_ns: int
    windows: int
    count: int
    best: Detection
    zone: str = ""
    direction: Literal["in", "out"] | None = None
    track: str = ""
    held_back: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """What the heavy stage says of a whole window that a coin picked, after its outcome was emitted; that stands.

    The coin picked it with the probability `p`. `reported` says whether the outcome told of what the heavy stage
    flags (or of anything, where that flags nothing), `detections` what it flags.
    """

    window: Window
    done_ns: int  # time.monotonic_ns()
    generation: str
    outcome: Literal["result", "shed", "failed"]
    p: float
    reported: bool
    detections: tuple[Detection, ...] = ()

    @property
    def heavy_flagged(self) -> bool:
        return bool(self.detections)

    @property
    def missed(self) -> bool:
        return self.heavy_flagged and not self.reported


class SourceState(StrEnum):
    """What a stream's source is doing. Only `ended` and `failed` are final, until somebody starts it again."""

    CONNECTING = "connecting"
    LIVE = "live"
    SILENT = "silent"  # connected, but nothing has come for a while
    FROZEN = "frozen"  # the same picture again and again, bit for bit
    BLACK = "black"
    DAMAGED = "damaged"  # frames come, not whole
    JUMPING = "jumping"  # its clock leapt
    PAUSED = "paused"  # somebody said so; it is closed
    ENDED = "ended"
    FAILED = "failed"


def iso_time(wall_ns: int) -> str:
    """`2026-01-31T12:00:00.123456Z`."""
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return f"{_iso_second(seconds)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=256)
def _iso_second(seconds: int) -> str:
    """Thousands of messages share one."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """`outcome` as the document that every sink writes: the schema of the JSONL sink (fields may be added, never
    renamed). `pts_ns` is the media time of the window's start; `time` is when its first packet arrived, of sound the
    one with its newest sample, which is the window's end."""
    window = outcome.window
    document: dict[str, Any] = {
        "id": window.id,
        "stream": window.stream,
        "epoch": window.epoch,
        "seq": window.seq,
        "pts_ns": window.start_ns,
        "time": iso_time(window.wall_ns),
        "outcome": outcome.kind,
        "verdict": outcome.verdict,
        "latency_ms": round(outcome.latency_ns / 1e6, 3),
    }
    if window.file:
        document["file"] = window.file
    if isinstance(outcome, Result):
        document |= {
            "decided_by": outcome.decided_by,
            "generation": outcome.generation,
            "certified": outcome.certified,
            "flagged": outcome.flagged,
            "detections": [detection_document(d) for d in outcome.detections],
        }
        if outcome.carried_from is not None:
            document["carried_from"] = outcome.carried_from
        if not outcome.trusted:
            document["trusted"] = False
        if outcome.action is not None:
            document |= {"action": outcome.action} | ({"rule": outcome.rule} if outcome.rule else {})
    elif isinstance(outcome, (Shed, Failed)):
        document["reason"] = str(outcome.reason)
    return document


def audit_document(audit: Audit) -> dict[str, Any]:
    """`audit` is the id of the window; it has no `id`, for it is no outcome of it."""
    return {
        "audit": audit.window.id,
        "stream": audit.window.stream,
        "time": iso_time(audit.window.wall_ns),
        "generation": audit.generation,
        "outcome": audit.outcome,
        "p": audit.p,
        "reported": audit.reported,
        "heavy_flagged": audit.heavy_flagged,
        "missed": audit.missed,
        "detections": [detection_document(d) for d in audit.detections],
    }


def detection_document(detection: Detection) -> dict[str, Any]:
    document: dict[str, Any] = {"label": detection.label, "score": round(detection.score, 4)}
    if detection.box is not None:
        document["box"] = [round(side, 1) for side in detection.box]
    if detection.span_ns is not None:
        document["span_ns"] = list(detection.span_ns)
    if detection.chars is not None:
        document["chars"] = list(detection.chars)
    return document


def event_document(event: Event) -> dict[str, Any]:
    document = {
        "event": event.id,
        "type": event.kind,
        "stream": event.stream,
        "label": event.label,
        "start": iso_time(event.start_wall_ns),
        "end": iso_time(event.end_wall_ns),
        "start_ns": event.start_ns,
        "end_ns": event.end_ns,
        "windows": event.windows,
        "count": event.count,
        "best": detection_document(event.best),
    }
    places = ("zone", "direction", "track", "held_back")
    return document | {name: value for name in places if (value := getattr(event, name))}
