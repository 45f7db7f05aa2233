"""Calibrates a cascade: the heavy model judges every whole unit, the deployed path is replayed at every threshold of
the ladder, and the boldest threshold is taken that is still proved to miss no more than was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from detectors.calibration.bounds import Test, evidence, fixed_sequence, missing_positives, positives_needed, provable
from detectors.calibration.certificate import Against
from detectors.calibration.paths import Path
from detectors.replay import Seen, places_of, replay, see
from pipeline.core.contracts import Stage
from pipeline.core.media import Payload
from pipeline.core.records import Array


@dataclass(frozen=True, slots=True)
class Unit:
    """One independent thing to judge. `digest` stands for its content; `true` says whether it is truly a positive,
    where somebody knows."""

    id: str
    digest: str
    image: Payload
    true: bool | None = None
    more: tuple[Payload, ...] = ()

    @property
    def windows(self) -> tuple[Payload, ...]:
        """What is judged of it, one by one: a picture, a message, or the windows of a recording."""
        return (self.image, *self.more)


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be proved: at most `alpha` of the positives are missed (with `each_class`, of those of each class; and
    at most `alpha_false` of the others are reported), except with probability `delta`. Positives are what the heavy
    stage flags, or, `against` the truth, what truly is."""

    alpha: float
    delta: float
    test: Test = "exact"
    alpha_false: float | None = None
    each_class: bool = False
    against: Against = "heavy"


@dataclass
class Group:
    """Some of the units: how many there are, and how many of them each threshold gets wrong `[T]`: misses of positives,
    reports of others."""

    misses: Array
    count: int = 0


@dataclass
class Measured:
    """What calibration saw. The arrays `[T]` have an entry per threshold. Seconds are service times of the stages."""

    thresholds: tuple[float, ...]
    labels: tuple[str, ...] = ()  # that the heavy stage can flag
    units: list[str] = field(default_factory=list)  # "digest id" of each
    positives: int = 0
    misses: Array = field(init=False)
    classes: dict[str, Group] = field(init=False)  # of units in which the heavy stage flags the label
    truth: Group = field(init=False)  # of units that are truly positive, as far as somebody said
    truth_unflagged: int = 0  # how many of those the heavy stage itself does not flag
    truly_good: Group = field(init=False)  # of units that truly are not; what is counted there are reports
    false_alarms: Array = field(init=False)  # reports of units that the heavy stage does not flag
    escalated: Array = field(init=False)  # units that the heavy stage sees
    heavy_s: Array = field(init=False)  # its time for them
    whole_s: float = 0.0  # its time for every whole unit
    cheap_s: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.thresholds)
        self.misses, self.false_alarms, self.escalated = (np.zeros(count, np.int64) for _ in range(3))
        self.heavy_s = np.zeros(count)
        self.classes = {label: Group(np.zeros(count, np.int64)) for label in self.labels}
        self.truth, self.truly_good = (Group(np.zeros(count, np.int64)) for _ in range(2))

    @property
    def negatives(self) -> int:
        return len(self.units) - self.positives

    def of(self, against: Against) -> Group:
        """The positives of a claim."""
        return self.truth if against == "truth" else Group(self.misses, self.positives)

    def rest_of(self, against: Against) -> Group:
        """The others, and how many of them are reported."""
        return self.truly_good if against == "truth" else Group(self.false_alarms, self.negatives)


@dataclass(frozen=True, slots=True)
class Lack:
    """Too few to prove the claim, whatever the misses: nobody looked at them. `provable` is what these many would prove
    without a single miss."""

    what: str  # "positives", "positives of scratch", "negatives"
    alpha: float  # what was to be proved
    there: int
    missing: int
    provable: float


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of the fixed sequence. `chosen` is an index into the thresholds; None: not even the most cautious one
    held. `p` is the evidence for each threshold. `truth` says whether at the chosen one the same α and δ hold against
    the truth as well, by a sequence of its own; None where nobody knows the truth."""

    chosen: int | None
    p: tuple[float, ...]
    truth: bool | None = None


def measure(
    cheap: Stage,
    heavy: Stage,
    path: Path,
    units: Iterable[Unit],
    progress: Callable[[int], None] = lambda done: None,
    *,
    heard: Callable[[Unit, Sequence[Seen]], None] = lambda unit, seen: None,
) -> Measured:
    """Judge every unit by the heavy stage as a whole and by the deployed path at every threshold. `progress` is told
    how many units are done, `heard` what the stages said of each. Raises `StageError`."""
    measured = Measured(tuple(step.threshold for step in path.steps), tuple(path.confirm))
    rest = iter(units)
    while group := list(islice(rest, max(cheap.max_batch, heavy.max_batch))):
        try:
            for unit, seen in _group(cheap, heavy, path, group):
                _add(unit, seen, path, measured)
                heard(unit, seen)
        finally:
            for unit in group:
                for window in unit.windows:
                    window.release()
        progress(len(measured.units))
    return measured


def lacks(measured: Measured, claim: Claim) -> list[Lack]:
    """Why the claim cannot be proved with so few units. It looks at no miss and no false alarm, so it costs no δ."""
    what = "true positives" if claim.against == "truth" else "positives"
    asked = [(what, measured.of(claim.against).count, claim.alpha)]
    if claim.each_class:
        asked += [(f"positives of {label}", group.count, claim.alpha) for label, group in measured.classes.items()]
    if claim.alpha_false is not None:
        asked.append(("negatives", measured.rest_of(claim.against).count, claim.alpha_false))
    return [
        Lack(what, alpha, there, missing, provable(0, there, claim.delta, claim.test))
        for what, there, alpha in asked
        if (missing := missing_positives(there, alpha, claim.delta, claim.test))
    ]


def verify(measured: Measured, claim: Claim) -> Verified:
    """The fixed-sequence test. It looks at the misses: with `exact`, once and for all."""
    group = measured.of(claim.against)
    claims = [_p_values(group.misses, group.count, claim.alpha, claim.test)]
    if claim.each_class:
        claims += [_p_values(kind.misses, kind.count, claim.alpha, claim.test) for kind in measured.classes.values()]
    if claim.alpha_false is not None:
        rest = measured.rest_of(claim.against)
        claims.append(_p_values(rest.misses, rest.count, claim.alpha_false, claim.test))
    p = tuple(max(column) for column in zip(*claims, strict=True))
    chosen, truth = fixed_sequence(p, claim.delta), None
    if measured.truth.count and chosen is not None:
        last = fixed_sequence(
            _p_values(measured.truth.misses, measured.truth.count, claim.alpha, claim.test), claim.delta
        )
        truth = last is not None and last >= chosen
    return Verified(chosen, p, truth)


def _p_values(misses: Array, count: int, alpha: float, test: Test) -> list[float]:
    return [evidence(lost, count, alpha, test) for lost in misses.tolist()]


def curve(measured: Measured, claim: Claim) -> list[dict[str, float | int]]:
    """What each threshold costs and finds. `provable` holds for that threshold had it been the only one looked at."""
    count = max(len(measured.units), 1)
    rows: list[dict[str, float | int]] = []
    for index, threshold in enumerate(measured.thresholds):
        misses = int(measured.misses[index])
        rows.append(
            {
                "threshold": threshold,
                "misses": misses,
                "recall": 1 - misses / measured.positives if measured.positives else 0.0,
                "provable": provable(misses, measured.positives, claim.delta, claim.test),
                "positives_needed": positives_needed(claim.alpha, claim.delta, misses, claim.test),
                "false_alarms": int(measured.false_alarms[index]),
                "heavy_units": float(measured.escalated[index] / count),
                "heavy_time": float(measured.heavy_s[index] / measured.whole_s) if measured.whole_s else 0.0,
                **({"true_misses": int(measured.truth.misses[index])} if measured.truth.count else {}),
            }
        )
    return rows


def _group(cheap: Stage, heavy: Stage, path: Path, group: Sequence[Unit]) -> Iterator[tuple[Unit, Sequence[Seen]]]:
    """Each unit with what was said of its windows."""
    places = places_of([step.rule for step in path.steps])
    judged = iter(see(cheap, heavy, [window for unit in group for window in unit.windows], places))
    for unit in group:
        yield unit, [next(judged) for _ in unit.windows]


def _add(unit: Unit, seen: Sequence[Seen], path: Path, measured: Measured) -> None:
    """A unit of several windows is flagged where any of them is, and reported where the deployed path reports any."""
    measured.units.append(f"{unit.digest} {unit.id}")
    wholes = [one.heavy[None] for one in seen]
    measured.cheap_s += sum(one.cheap.seconds for one in seen)
    measured.whole_s += sum(whole.seconds for whole in wholes)
    flagged = [found for whole in wholes for found in path.flagged(whole.findings)]
    measured.positives += bool(flagged)
    by_label = {label: [one for one in flagged if one.label == label] for label in {one.label for one in flagged}}
    for label in by_label:
        measured.classes[label].count += 1
    measured.truth.count += unit.true is True
    measured.truth_unflagged += unit.true is True and not flagged
    measured.truly_good.count += unit.true is False
    for at, step in enumerate(path.steps):
        played = [replay(step.rule, one) for one in seen]
        measured.escalated[at] += any(one.places for one in played)
        measured.heavy_s[at] += sum(one.heavy_s for one in played)
        if flagged:
            measured.misses[at] += not any(path.reports(flagged, one.verdict) for one in played)
        else:
            measured.false_alarms[at] += any(path.reports_any(one.verdict) for one in played)
        for label, ones in by_label.items():
            measured.classes[label].misses[at] += not any(path.reports(ones, one.verdict) for one in played)
        if unit.true is not None:
            reported = any(path.reports_any(one.verdict) for one in played)
            measured.truth.misses[at] += unit.true and not reported
            measured.truly_good.misses[at] += reported and not unit.true
