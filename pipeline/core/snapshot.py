"""What the engine says of itself, as plain numbers: for the live table, the summary and the metrics endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.records import SourceState


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution of times. `buckets` are cumulative: `(upper bound in seconds, how many were at most that)`."""

    count: int = 0
    sum_s: float = 0.0
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    buckets: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StreamSnapshot:
    """One stream. Both ledgers of conservation hold in every snapshot:

    received = windows + sampled_out + damaged + undecoded
    windows  = results + sum(shed) + failed + in_flight

    `verdicts` counts what was said of each frame (accept, reject, unknown). What could not be decoded is unknown, too,
    so that sum(verdicts) = received - sampled_out - in_flight.
    """

    stream: str
    cascade: str
    state: SourceState
    detail: str  # why it is in that state; redacted
    received_per_s: float
    outcomes_per_s: float
    received: int
    sampled_out: int
    damaged: int
    undecoded: int
    windows: int
    results: int
    failed: int
    in_flight: int
    flagged: int
    connects: int  # how often the source was opened with success
    shed: Mapping[str, int] = field(default_factory=dict)
    decided_by: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    latency: Latency = field(default_factory=Latency)
    outages: int = 0  # how often nothing was received for a while: connection lost, program down, or paused
    outage_s: float = 0.0  # for how long, all in all


def together(streams: Iterable[StreamSnapshot]) -> StreamSnapshot | None:
    """What they counted, all in all: without names, rates or a distribution. None of none."""
    several = list(streams)
    if not several:
        return None
    counted: dict[str, Any] = {name: sum(getattr(one, name) for one in several) for name in _COUNTED}
    for name in ("shed", "decided_by", "verdicts"):
        total: Counter[str] = Counter()
        for one in several:
            total.update(getattr(one, name))
        counted[name] = dict(total)
    return StreamSnapshot("", "", SourceState.ENDED, "", 0.0, 0.0, **counted)


_COUNTED = (
    *("received", "sampled_out", "damaged", "undecoded", "windows", "results", "failed", "in_flight", "flagged"),
    *("connects", "outages", "outage_s"),
)


@dataclass(frozen=True, slots=True)
class StageSnapshot:
    """One stage of one cascade. `service` is the time of a batch, `waiting` views are queued."""

    cascade: str
    stage: str
    generation: str
    waiting: int
    batches: int
    views: int
    errors: int
    busy_share: float  # of the time of its workers
    service: Latency = field(default_factory=Latency)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    state: str = "ok"  # or "hangs": it has been at one batch for ten seconds


@dataclass(frozen=True, slots=True)
class OutboxSnapshot:
    """What waits for a receiver elsewhere. Counts are over all runs, and add up in every snapshot:

    accepted = delivered + refused + expired + dropped + damaged + waiting
    """

    path: str
    accepted: int  # on the disk, before anybody was told so
    delivered: int
    refused: int  # by the receiver, for good: with the dead letters
    expired: int  # waited for longer than `max_age_h`
    dropped: int  # no room: `when_full: drop_oldest`
    damaged: int  # on the disk
    waiting: int
    bytes: int
    oldest_s: float  # how long the next one has waited


@dataclass(frozen=True, slots=True)
class SinkSnapshot:
    sink: str
    state: str  # "ok", "busy" (it is being retried), "closed"
    detail: str
    waiting: int
    written: int
    dropped: int  # no room: the oldest went
    refused: int  # the sink will never take them
    retries: int
    passed_over: int = 0  # no room, of one that shows the moment: no loss
    outbox: OutboxSnapshot | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit proves by now, over all its runs. Rates are shares of the units that the heavy stage flags.

    `missed` misses were found, which stand for about `misses` among about `positives`; `unseen` looks were due and
    could not be had. `lower` and `upper` hold at all times, whatever the unseen units were, and those whose look is due
    yet; `worst` is the estimate if those were all missed.
    """

    alpha: float
    delta: float
    state: str  # "confirmed", "unproven", "broken"
    alarm: str  # "broken", "drift" or empty: since then the heavy stage sees every window, or it is not trusted
    units: int
    reported: int
    audited: int
    unseen: int
    missed: int
    misses: float
    positives: float
    estimate: float | None
    lower: float
    upper: float
    worst: float | None
    outlook: str  # how long a proof takes


@dataclass(frozen=True, slots=True)
class AuditSnapshot:
    """The audit of one generation in this run. A ledger of its own holds in every snapshot:

    picked = audited + sum(skipped) + waiting
    """

    cascade: str
    generation: str
    picked: int
    audited: int
    waiting: int
    report: AuditReport
    skipped: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""  # why what it knows could not be saved


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """The policy of a show. `latency` is that of its decisions, from the newest arrival that contributed."""

    show: str
    open: Mapping[str, str]  # what is going on: rule → action
    ruled: Mapping[str, int]  # how often an action began
    late: int  # windows with evidence that came behind the show's watermark
    dropped: int  # evidence for which there was no room: the oldest went
    anchored_anew: int  # how often a live stream's clock had to be put in place again
    latency: Latency = field(default_factory=Latency)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`streams` are those that there are now. What others counted until they were removed is in `removed`, so that
    sums over all of a run need not go back; `latency` is of all of them, too."""

    elapsed_s: float
    ready: bool
    streams: tuple[StreamSnapshot, ...]
    stages: tuple[StageSnapshot, ...]
    sinks: tuple[SinkSnapshot, ...]
    latency: Latency  # all streams, first packet to outcome
    cpu_percent: float  # of one processor
    rss_bytes: int
    audits: tuple[AuditSnapshot, ...] = ()
    policy: PolicySnapshot | None = None
    healthy: bool = True  # its threads turn, and no stage hangs
    removed: StreamSnapshot | None = None

    @property
    def all_streams(self) -> tuple[StreamSnapshot, ...]:
        """What there is and what there was, to sum over."""
        return self.streams if self.removed is None else (*self.streams, self.removed)
