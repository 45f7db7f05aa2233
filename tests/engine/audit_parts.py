"""A cascade of which it is known what its cheap stage lets slip, and its audit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from parts import Brightness

from detectors.calibration.live import AuditSettings, LiveAudit
from detectors.rules.scores import Scores
from pipeline.core.contracts import Gate, Generation
from pipeline.core.payloads import View
from pipeline.core.records import Findings, Outcome, Result
from pipeline.core.snapshot import Snapshot
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Collector
from sinks.memory import Memory as MemorySink
from sources.memory import Memory

NOTHING, SLIPS, ASKED, ALONE, FALSE = 20, 60, 120, 220, 240
CHEAP = {NOTHING: 0.1, SLIPS: 0.1, ASKED: 0.5, ALONE: 0.9, FALSE: 0.9}
HEAVY = {NOTHING: 0.1, SLIPS: 0.9, ASKED: 0.9, ALONE: 0.9, FALSE: 0.1}
"""What each stage makes of a grey picture. The heavy one flags three of the levels. Of these the cascade misses one,
and one is flagged by the cheap stage alone."""

RULE = Scores(watch=("bright",), clear_below=0.3, flag_at=0.8, confirm={"bright": 0.5})
_numbers = itertools.count(1)


@dataclass
class Known(Brightness):
    """Scores a level as the table says."""

    table: dict[int, float] = field(default_factory=lambda: dict(CHEAP))

    def score(self, views: Sequence[View]) -> Sequence[Findings]:
        found = super().score(views)
        levels = [round(float(one.scores[0]) * 255) for one in found]
        return [
            replace(one, scores=np.array([self.table[n]], np.float32)) for one, n in zip(found, levels, strict=True)
        ]


class AuditSink(MemorySink):
    """Also takes audits."""

    takes = frozenset({"outcomes", "events", "audits"})


class Pictures(MemorySink):
    takes = frozenset({"pictures", "audits"})


def audited(
    state: Path,
    *,
    cheap: Brightness | None = None,
    heavy: Brightness | None = None,
    again: Brightness | None = None,
    name: str = "",
    certified: bool = False,
    **settings: Any,
) -> Generation:
    """`again` is the stage that audits."""
    chosen = {"share": 1.0, "alpha": 0.05, "key": "a key for tests", "patience": 1e9, "state": str(state)} | settings
    plan = AuditSettings.model_validate(chosen)
    name = name or f"known@{next(_numbers)}"
    again = again or Known("audit", table=HEAVY, max_batch=1)
    auditor = LiveAudit(plan, name, RULE, again, plan.plan_for(None))
    heavy = heavy or Known("heavy", table=HEAVY)
    return Generation(name, cheap or Known(), heavy, RULE, certified, auditor=auditor)


def run(
    source: Memory, generation: Generation, *, stop_after_s: float | None = None, gate: Gate | None = None
) -> tuple[Snapshot, Collector]:
    sink = AuditSink()
    pipeline = Pipeline([StreamPlan("s", source, "known", generation, gate)], {"sink": sink})
    pipeline.start()
    if stop_after_s is None:
        assert pipeline.wait(30), "it did not finish"
    else:
        pipeline.wait(stop_after_s)
    pipeline.stop(drain_s=3.0)
    return pipeline.snapshot(), sink.collector


def emitted(outcome: Outcome) -> tuple[object, ...]:
    """What was said of a window, whenever it was said."""
    if isinstance(outcome, Result):
        return outcome.window.id, outcome.decided_by, outcome.flagged, outcome.detections, outcome.trusted
    return outcome.window.id, outcome.kind
