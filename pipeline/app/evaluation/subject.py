"""What is measured: a cascade, or a model by itself under its own threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectors.evaluation.judged import Subject
from detectors.evaluation.rules import rule_of
from detectors.stage import ModelStage
from pipeline.app.config.subject import cascade_document
from pipeline.app.wiring import planned_cascade
from pipeline.core.contracts import Rule, Stage
from pipeline.core.payloads import tile_of

_SPELLED_OUT = "cascade"  # what a config's own cascade goes by


@dataclass(frozen=True)
class Measured:
    """`threshold_from` says in words where the thresholds come from."""

    name: str
    version: str
    cheap: Stage
    heavy: Stage | None
    rule: Rule
    threshold_from: str

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.cheap,) if self.heavy is None else (self.cheap, self.heavy)

    @property
    def tile(self) -> int | None:
        return None if self.heavy is None else tile_of(self.heavy.spec)

    def against(self, labels: Sequence[str]) -> Subject:
        """Over data with these labels."""
        heavy = None if self.heavy is None else self.heavy.labels
        return Subject(self.rule, self.cheap.labels, heavy, tuple(labels), self.tile)


def measured_subject(words: str, assignments: Sequence[str], cascade: str | None) -> Measured:
    """The models opened, not warmed. A certificate that the config names sets its thresholds, as in a run. Raises
    `InputErrors`."""
    plan, generation = planned_cascade(cascade_document(words, assignments), cascade, certificates=True)
    rule, source = generation.rule, "the rule of the cascade"
    if plan.certificate is not None:
        source = "the certificate of the cascade"
    if plan.rule is None and isinstance(generation.cheap, ModelStage):
        rule, source = rule_of(generation.cheap.model.manifest)
    if generation.heavy is None:
        said = generation.cheap.describe()
        name, version = str(said.get("model", plan.name)), str(said.get("version", ""))
    else:
        name = Path(words).stem if plan.name == _SPELLED_OUT else plan.name
        version = generation.id.rpartition("@")[2]
    return Measured(name, version, generation.cheap, generation.heavy, rule, source)
