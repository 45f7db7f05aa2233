"""What every threshold of the ladder would have found and cost over stored scores: one row a step, so that a person
sees what a change brings before anybody changes anything. Counted as calibration counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from detectors.calibration.bounds import provable
from detectors.calibration.paths import Path, path_of
from detectors.evaluation.classes import share
from detectors.evaluation.figures import cost_figures, play
from detectors.evaluation.judged import Judged, Subject
from detectors.replay import Heard, Played, Seen
from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.core.contracts import Rule
from pipeline.core.errors import InputError
from pipeline.core.records import Array, Detection, Findings


@dataclass(frozen=True, slots=True)
class Rung:
    """One threshold. Shares are of 1, None where there was nothing to count. `cost` is the time of both stages as a
    share of what the heavy one takes for every whole unit; `missed` counts against the heavy stage, `truly_missed`
    against the truth; `false` are reports of units that are good, or, where nobody knows, that the heavy stage does not
    flag. What is `at_most` is the rate that the count would prove had this threshold been the only one looked at."""

    threshold: float | None
    settings: dict[str, Any]
    escalated: float | None
    cost: float | None
    heavy_time: float | None
    heavy_looks: float | None
    positives: int
    missed_units: int
    missed: float | None
    missed_at_most: float
    true_positives: int | None
    truly_missed_units: int | None
    truly_missed: float | None
    truly_missed_at_most: float | None
    others: int
    false_units: int
    false: float | None


def path_for(rule: Rule, match_iou: float | None) -> Path:
    """The ladder of `rule`. Raises `InputError` where it has none."""
    return path_of(rule, decides_alone=True, **({} if match_iou is None else {"match_iou": match_iou}))


def ladder(
    subject: Subject,
    units: Sequence[Judged],
    *,
    truth: bool,
    delta: float,
    match_iou: float | None = None,
    breathe: Callable[[], None] = lambda: None,
) -> tuple[Rung, list[Rung]]:
    """What the subject's own rule made of the units, and each step of its ladder. `truth`: whether somebody said which
    units are bad. `breathe` is called between units. Raises `InputError`, also where the rule asks for places that were
    not kept."""
    path = path_for(subject.rule, match_iou)
    steps = [step.rule for step in path.steps]
    flagged = [path.flagged(_whole(unit).findings) for unit in units]  # no step changes what the heavy stage flags
    counted = partial(_counted, path, units=units, flagged=flagged, truth=truth, delta=delta)
    own = counted(subject, played=play(subject, units))
    columns: list[list[Played]] = []
    for unit in units:
        columns.append(list(_each(subject, unit, [(step.threshold, step.rule) for step in path.steps])))
        breathe()
    rungs = []
    for index, step in enumerate(path.steps):
        played = [column[index] for column in columns]
        rung = counted(replace(subject, rule=steps[index]), played=played)
        rungs.append(replace(rung, threshold=step.threshold))
        breathe()
    return own, rungs


def _each(subject: Subject, unit: Judged, steps: Sequence[tuple[float, Rule]]) -> Iterator[Played]:
    """The unit under each step. Where no score lies between two thresholds, both decide alike, and it is asked once."""
    scores = _weighed(subject.rule, unit.seen.cheap.findings)
    known: dict[int, Played] = {}
    for threshold, rule in steps:
        reached = int((scores >= threshold).sum())
        if reached not in known:
            known[reached] = play(replace(subject, rule=rule), [unit])[0]
        yield known[reached]


def _weighed(rule: Rule, cheap: Findings) -> Array:
    """The scores that the ladder's threshold is held against."""
    if isinstance(rule, Scores):
        return np.array([min(cheap.score([cheap.labels.index(label) for label in rule.watch]), 1.0)])
    assert isinstance(rule, (Boxes, Regions))
    escalates = [index for index, label in enumerate(cheap.labels) if label in rule.escalate]
    return cheap.scores[np.isin(cheap.classes, escalates)].astype(np.float64)  # as rules compare them


def _counted(
    path: Path,
    subject: Subject,
    *,
    units: Sequence[Judged],
    flagged: Sequence[Sequence[Detection]],
    played: Sequence[Played],
    truth: bool,
    delta: float,
) -> Rung:
    positives = sum(map(bool, flagged))
    missed = sum(
        bool(found) and not path.reports(found, one.verdict) for found, one in zip(flagged, played, strict=True)
    )
    reported = [path.reports_any(one.verdict) for one in played]
    good = [not unit.bad for unit in units] if truth else [not found for found in flagged]
    false = sum(said for said, one in zip(reported, good, strict=True) if one)
    bad = sum(unit.bad for unit in units) if truth else None
    lost = sum(unit.bad and not said for unit, said in zip(units, reported, strict=True)) if truth else None
    cost = cost_figures(units, played, subject.tile)
    return Rung(
        threshold=None,
        settings={path.key: getattr(subject.rule, path.key)},
        escalated=cost["escalated"],
        cost=cost["cascade_time"],
        heavy_time=cost["heavy_time"],
        heavy_looks=cost["heavy_looks"],
        positives=positives,
        missed_units=missed,
        missed=share(missed, positives),
        missed_at_most=provable(missed, positives, delta),
        true_positives=bad,
        truly_missed_units=lost,
        truly_missed=None if bad is None or lost is None else share(lost, bad),
        truly_missed_at_most=None if bad is None or lost is None else provable(lost, bad, delta),
        others=sum(good),
        false_units=false,
        false=share(false, sum(good)),
    )


def _whole(unit: Judged) -> Heard:
    if unit.seen.whole is None:
        raise InputError("there is no heavy stage in these scores, so nothing is escalated at any threshold")
    return unit.seen.whole


def audible(rule: Rule, seen: Seen) -> Seen:
    """`seen` without what `rule` cannot hear of the heavy stage, at whichever step of its ladder: things with a place
    that it does not confirm. Most of what a detector says is such."""
    if not isinstance(rule, (Boxes, Regions)):
        return seen
    slack = rule.slack if isinstance(rule, Regions) else 0.0
    least = {label: score - slack for label, score in rule.confirm.items()}
    heavy = {place: Heard(_from(one.findings, least), one.seconds) for place, one in seen.heavy.items()}
    return Seen(seen.cheap, heavy)


def _from(findings: Findings, least: dict[str, float]) -> Findings:
    if findings.boxes is None:
        return findings
    floor = np.array([least.get(label, np.inf) for label in findings.labels])
    kept = findings.scores >= floor[findings.classes] - 1e-6  # a rounding more, rather than one less
    spans = None if findings.spans is None else findings.spans[kept]
    return Findings(findings.labels, findings.scores[kept], findings.classes[kept], findings.boxes[kept], spans)


__all__ = ["Rung", "audible", "ladder", "path_for"]
