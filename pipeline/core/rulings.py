"""What a policy rules over the streams of a show, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.core.records import Action, iso_time


@dataclass(frozen=True, slots=True)
class Evidence:
    """One window that a ruling rests on: what it showed, who said so, and the threshold of the rule that it reached."""

    window: str  # its id
    stream: str
    label: str
    score: float
    threshold: float
    decided_by: str
    model: str
    """Of the stage that decided. Where a gate, the feed's state or the cache carried a verdict over, the models of its
    generation, any of which may have been the one; empty where the generation is not known here."""
    generation: str
    certified: bool


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where the show's zero lies on the media clock of one connection to a stream."""

    stream: str
    epoch: str
    zero_ns: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is to be done to some streams of a show, and why. `new`, any number of `update`, `end`, under one stable id:
    `show/rule/` and the id of the window that completed the evidence.

    `start_ns` and `end_ns` are on the show's clock, on which the media time of replayed streams stands as it is; until
    its `end`, an action lasts until `end_ns` at least. `evidence` holds what began it, in an `update` what came last.
    `missing` are the streams of which nothing was known for the time of the evidence: nobody waited for them.
    """

    id: str
    kind: Literal["new", "update", "end"]
    show: str
    action: Action
    rule: str
    targets: tuple[str, ...]
    start_ns: int
    end_ns: int
    start_wall_ns: int
    end_wall_ns: int
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...]
    newest_ns: int  # time.monotonic_ns() when the newest window of the evidence arrived
    done_ns: int  # time.monotonic_ns()
    anchors: tuple[Anchor, ...] = ()  # of the targets

    @property
    def latency_ns(self) -> int:
        """From the newest arrival that contributed to the ruling."""
        return self.done_ns - self.newest_ns


def ruling_document(ruling: Ruling) -> dict[str, Any]:
    """`ruling` as every sink writes it, under its id. The latency is that of a decision, which an `end` is not."""
    document: dict[str, Any] = {
        "ruling": ruling.id,
        "type": ruling.kind,
        "show": ruling.show,
        "action": ruling.action,
        "rule": ruling.rule,
        "targets": list(ruling.targets),
        "start": iso_time(ruling.start_wall_ns),
        "end": iso_time(ruling.end_wall_ns),
        "start_ns": ruling.start_ns,
        "end_ns": ruling.end_ns,
        "evidence": [evidence_document(one) for one in ruling.evidence],
        "missing": list(ruling.missing),
    }
    if ruling.kind != "end":
        document["latency_ms"] = round(ruling.latency_ns / 1e6, 3)
    return document


def evidence_document(evidence: Evidence) -> dict[str, Any]:
    return {
        "window": evidence.window,
        "stream": evidence.stream,
        "label": evidence.label,
        "score": round(evidence.score, 4),
        "threshold": evidence.threshold,
        "decided_by": evidence.decided_by,
        "model": evidence.model,
        "generation": evidence.generation,
        "certified": evidence.certified,
    }
