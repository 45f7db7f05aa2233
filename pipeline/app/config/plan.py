"""What a checked config says, as objects that can be opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from detectors.calibration.audit import AuditPlan
from detectors.calibration.certificate import Certificate
from detectors.calibration.live import AuditSettings
from detectors.choice import ModelChoice
from pipeline.app.config.document import Key
from pipeline.app.config.settings import MetricsSettings, WebSettings
from pipeline.app.config.trace import TraceSettings
from pipeline.core.contracts import GatePlan, Rule, Sink, Source
from pipeline.core.settings import StreamSettings
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.policy_settings import PolicySettings


class CheckedRule(Rule, Protocol):
    """A rule as a config holds it: it can tell whether it fits the models."""

    def check(self, cheap_labels: Sequence[str], heavy_labels: Sequence[str] | None, /) -> list[str]:
        """Mistakes in words, none where it fits. `heavy_labels` is None without a heavy stage."""

    def reports(self) -> tuple[str, ...]:
        """The labels that can be in a result."""

    def least(self, label: str, *, heavy: bool) -> float | None:
        """From which score on a stage's word on `label` is reported; None where it never is."""


@dataclass(frozen=True)
class CascadePlan:
    """Which models, and what their scores mean. Without a rule, every label is reported from 0.5 on."""

    name: str
    cheap: ModelChoice
    heavy: ModelChoice | None = None
    rule: CheckedRule | None = None
    about: str = ""
    key: tuple[str, ...] = ()  # where it stands in the document
    certificate: Certificate | None = None
    certificate_file: Path | None = None
    audit: AuditSettings | None = None
    cache: int | None = None

    @property
    def promised(self) -> tuple[float, float] | None:
        """The certificate's α and δ."""
        if self.certificate is None or self.certificate.proof.against == "truth":  # which no audit knows
            return None
        return self.certificate.proof.alpha, self.certificate.proof.delta

    @property
    def match_iou(self) -> float:
        """The overlap from which an audit takes two boxes for the same thing: as it was certified, or as it says."""
        certified = None if self.certificate is None else self.certificate.proof.match_iou
        return certified or (None if self.audit is None else self.audit.match_iou) or 0.5

    def audit_plan(self) -> AuditPlan | None:
        """Raises `InputError` where the audit and the certificate disagree, or nobody says what was promised."""
        return None if self.audit is None else self.audit.plan_for(self.promised)


@dataclass(frozen=True)
class Plan:
    """`watches` maps a stream to its cascade, `gates` a stream to the plan of its gate. A stream has the name of its
    source; those of its further tracks are in `tracks`, each with the source and the track's own name."""

    sources: Mapping[str, Source] = field(default_factory=dict)
    gates: Mapping[str, GatePlan] = field(default_factory=dict)
    watches: Mapping[str, str] = field(default_factory=dict)
    tracks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    cascades: Mapping[str, CascadePlan] = field(default_factory=dict)
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    events: EventSettings | None = None
    metrics: MetricsSettings | None = None
    policy: PolicySettings | None = None
    state: Path | None = None
    web: WebSettings | None = None
    trace: TraceSettings | None = None

    def key(self, stream: str) -> Key:
        """Where a stream stands in the document."""
        return ("sources", *self.tracks.get(stream, (stream,)))

    def settings(self, stream: str) -> StreamSettings:
        """What a stream was told."""
        source, *track = self.tracks.get(stream, (stream,))
        return self.sources[source].tracks[track[0]] if track else self.sources[source]
