"""What the stages said while a cascade was calibrated, kept beside its certificate: so that the page can show what
another threshold of the ladder would have found and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detectors.calibration.calibrate import Unit
from detectors.calibration.certificate import StageIdentity
from detectors.datasets.base import NO_BOXES, NO_CLASSES
from detectors.evaluation.judged import Judged
from detectors.evaluation.ladder import audible
from detectors.evaluation.scores import Header, ScoresInTheMaking
from detectors.replay import Seen
from pipeline.app.calibration.units import Units
from pipeline.app.evaluation.rules import rule_document
from pipeline.app.evaluation.units import size_of
from pipeline.core.contracts import Generation, Rule
from pipeline.core.payloads import tile_of

_CERTIFICATE = ".certificate"


def scores_beside(certificate: Path) -> Path:
    """`pcb.certificate.yaml` → `pcb.scores.jsonl.gz`."""
    return certificate.with_name(f"{certificate.stem.removesuffix(_CERTIFICATE)}.scores.jsonl.gz")


class Said:
    """A file of scores in the making. A unit of several windows (a recording) has no place in one: then there is none.
    Without truth about any unit, its header says so."""

    def __init__(self, header: Header, rule: Rule, path: Path, data: Path, split: str) -> None:
        self.data, self.split = data, split
        self._path = path
        self._file: ScoresInTheMaking | None = None
        self._header, self._rule = header, rule
        self._fits = True

    def add(self, unit: Unit, seen: Sequence[Seen]) -> None:
        if len(seen) != 1:
            self._fits = False
        if not self._fits:
            return
        if self._file is None:
            header = self._header.model_copy(update={"truth": unit.true is not None})
            self._file = ScoresInTheMaking(self._path, header)
        size, heard = size_of(unit.image), audible(self._rule, seen[0])
        self._file.add(Judged(unit.id, "", *size, int(unit.true is True), NO_BOXES, NO_CLASSES, heard))

    def keep(self) -> dict[str, str | None]:
        """The file, by what it is."""
        if self._file is None or not self._fits:
            return {}
        self._file.keep()
        return {"scores": str(self._path)}

    def drop(self) -> None:
        if self._file is not None:
            self._file.drop()


@contextmanager
def said_by(generation: Generation, units: Units, data: Path, split: str, path: Path) -> Iterator[Said]:
    """Kept if `keep` was called, or not there at all."""
    heavy = generation.heavy
    header = Header(
        model=generation.id.rpartition("@")[0],
        model_version=generation.id.rpartition("@")[2],
        data=str(data),
        split=split,
        parts=units.what,
        cheap=generation.cheap.labels,
        heavy=None if heavy is None else heavy.labels,
        labels=(),
        rule=rule_document(generation.rule),
        tile=None if heavy is None else tile_of(heavy.spec),
        ladder_only=True,
        stages=tuple(StageIdentity.of(stage) for stage in generation.stages),
    )
    said = Said(header, generation.rule, path, data, split)
    try:
        yield said
    finally:
        said.drop()
