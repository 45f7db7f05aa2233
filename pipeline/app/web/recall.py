"""What share of what was there got reported, all that was lost on the way counted in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.core.snapshot import AuditReport, StreamSnapshot

Basis: TypeAlias = Literal["audit", "certificate"]


@dataclass(frozen=True, slots=True)
class Recall:
    """Of what the heavy model flags (under a certificate against the truth: of what truly is) the share that was
    reported. `estimate` is None where only a bound is known."""

    basis: Basis
    estimate: float | None
    lower: float
    upper: float
    formula: str

    @property
    def shown(self) -> float:
        """The estimate, or what it is at least."""
        return self.lower if self.estimate is None else self.estimate


def effective_recall(
    streams: Sequence[StreamSnapshot], audit: AuditReport | None, promised: float | None
) -> Recall | None:
    """None where nothing is known: neither an audit that found a positive nor a promise; and since an alarm, for the
    path that was audited is no more.

    An audit tosses its coin for every window before anything is shed, and one that was shed or failed reports nothing:
    its miss rate has them in it. A certificate speaks of windows that were judged. Frames that never became a window
    are in neither; they, and without an audit what was not judged, are taken to have held positives as often as the
    rest did.
    """
    if audit is not None and audit.alarm:
        return None
    windows = sum(one.windows for one in streams)
    lost = sum(one.undecoded + one.damaged for one in streams)
    if not windows:
        return None
    if audit is not None and audit.estimate is not None:
        seen = windows / (windows + lost)
        return Recall(
            "audit",
            (1 - audit.estimate) * seen,
            (1 - audit.upper) * seen,
            (1 - audit.lower) * seen,
            "(1 − miss rate of the audit, shed and failed windows in it) × windows / (windows + undecoded + damaged)",
        )
    if promised is None:
        return None
    settled = windows - sum(one.in_flight for one in streams)
    if not settled:
        return None
    judged = sum(one.results for one in streams) / (settled + lost)
    return Recall(
        "certificate",
        None,
        (1 - promised) * judged,
        judged,
        "at least (1 − α of the certificate) × results / (results + shed + failed + undecoded + damaged)",
    )
