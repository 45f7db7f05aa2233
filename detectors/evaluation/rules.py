"""The rule of a model by itself: what it says is bad is reported from its own threshold on."""

from __future__ import annotations

from typing import TypeGuard

from detectors.datasets.base import says_good
from detectors.manifest import Manifest
from detectors.rules.boxes import Boxes
from detectors.rules.picking import Thresholds
from detectors.rules.scores import Scores

USUAL = 0.5


def rule_of(manifest: Manifest) -> tuple[Boxes | Scores, str]:
    """The rule, and where its threshold comes from, in words: `measured.threshold` of the manifest, one for all labels
    or one for each, where it says one that is a share of 1."""
    faults = tuple(label for label in manifest.labels if not says_good(label)) or manifest.labels
    said = manifest.measured.get("threshold")
    if manifest.output.kind == "classification":
        threshold, source = (float(said), _MANIFEST) if _is_share(said) else (USUAL, _USUAL)
        return Scores(watch=faults, flag_at=threshold), source
    least: Thresholds = dict.fromkeys(faults, USUAL)
    if _is_share(said):
        return Boxes(report=dict.fromkeys(faults, float(said))), _MANIFEST
    if isinstance(said, dict) and said.keys() >= least.keys() and all(_is_share(said[label]) for label in faults):
        return Boxes(report={label: float(said[label]) for label in faults}), _MANIFEST
    return Boxes(report=least), _USUAL


_MANIFEST = "the manifest's measured.threshold"
_USUAL = f"none in the manifest: the usual {USUAL}"


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
