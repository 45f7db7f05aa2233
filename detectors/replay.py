"""What two stages say of a unit, kept so that any rule can be asked afterwards what it would have decided.

Rules are pure functions, so a replay over kept findings *is* the deployed path: calibration asks every threshold of a
ladder this way, evaluation the rule at hand, and `thresher replay` whichever rule somebody thinks of later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from pipeline.core.contracts import Clear, Escalate, Flag, Rule, Stage
from pipeline.core.errors import InputError
from pipeline.core.media import Payload
from pipeline.core.records import Box, Findings

Place: TypeAlias = Box | None
"""What the heavy stage looks at: a box in source pixels, or the whole unit."""
Verdict: TypeAlias = Clear | Flag


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer of a stage, and its service time in seconds: a batch's time is shared evenly."""

    findings: Findings
    seconds: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one unit: what the cheap stage said of the whole, and the heavy one of every place it was asked about; of the
    whole unit always, where there is a heavy stage."""

    cheap: Heard
    heavy: Mapping[Place, Heard]

    @property
    def whole(self) -> Heard | None:
        return self.heavy.get(None)


@dataclass(frozen=True, slots=True)
class Played:
    """What a rule made of a unit: its verdict, where it had the heavy stage look (nowhere: the cheap stage settled it),
    and the heavy stage's seconds there."""

    verdict: Verdict
    places: tuple[Place, ...] = ()
    heavy_s: float = 0.0


class Unheard(InputError):
    """A rule asks the heavy stage about a place that it was never asked about."""

    def __init__(self, place: Place) -> None:
        where = "the whole unit" if place is None else f"({', '.join(f'{side:.1f}' for side in place)})"
        super().__init__(f"nobody asked the heavy stage about {where}")


def asked(rule: Rule, cheap: Findings, heavy: Sequence[Findings] = ()) -> Verdict | tuple[Place, ...]:
    """What the rule decides of what was found so far, or where the heavy stage has to look next."""
    decision = rule.merge(cheap, heavy) if heavy else rule.decide(cheap)
    if isinstance(decision, Escalate):
        return tuple(region.box for region in decision.regions) or (None,)
    return decision


def replay(rule: Rule, seen: Seen) -> Played:
    """The deployed path over what was kept. Raises `Unheard` rather than guess."""
    places: list[Place] = []
    answers: list[Heard] = []
    while isinstance(decided := asked(rule, seen.cheap.findings, [one.findings for one in answers]), tuple):
        for place in decided:
            if (heard := seen.heavy.get(place)) is None:
                raise Unheard(place)
            places.append(place)
            answers.append(heard)
    return Played(decided, tuple(places), sum(one.seconds for one in answers))


def places_of(rules: Sequence[Rule]) -> Callable[[Findings], Iterable[Place]]:
    """Where any of `rules` has the heavy stage look, given what the cheap stage found: a rule that looks in rounds goes
    furthest where nothing is found."""

    def places(cheap: Findings) -> Iterable[Place]:
        nothing = Findings(cheap.labels, np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 4), np.float32))
        for rule in rules:
            looks = 0
            while isinstance(decided := asked(rule, cheap, [nothing] * looks), tuple):
                yield from decided
                looks += len(decided)

    return places


def places_at_any_threshold(rule: Rule) -> Callable[[Findings], Iterable[Place]]:
    """Where `rule` could have the heavy stage look whatever the thresholds of the labels that it escalates: of each of
    them the best `max_regions`, since the best of all are among these."""
    if not isinstance(rule, (Boxes, Regions)) or (isinstance(rule, Boxes) and rule.region == "whole"):
        return lambda cheap: ()
    each = [
        type(rule).model_validate(rule.model_dump() | {"escalate": {label: 0.0}}) for label in rule.escalate
    ]  # one label at a time, so that none takes another's place among the best
    return places_of([rule, *each])


def see(
    cheap: Stage, heavy: Stage | None, images: Sequence[Payload], places: Callable[[Findings], Iterable[Place]]
) -> list[Seen]:
    """Have every image judged by the cheap stage, and by the heavy one whole and at its `places`. No more views are
    held than a few images need. Raises `StageError`."""
    first = heard(cheap, images, [None] * len(images))
    if heavy is None:
        return [Seen(one, {}) for one in first]
    jobs: list[tuple[int, Place]] = []
    for index, one in enumerate(first):
        wanted: dict[Place, None] = {None: None, **dict.fromkeys(places(one.findings))}  # the whole first
        jobs += [(index, place) for place in wanted]
    answers = heard(heavy, [images[index] for index, _ in jobs], [place for _, place in jobs])
    kept: list[dict[Place, Heard]] = [{} for _ in images]
    for (index, place), answer in zip(jobs, answers, strict=True):
        kept[index][place] = answer
    return [Seen(one, by_place) for one, by_place in zip(first, kept, strict=True)]


def heard(stage: Stage, images: Sequence[Payload], places: Sequence[Place]) -> list[Heard]:
    """What `stage` says of each image at its place, in batches of the stage's size."""
    answers: dict[int, Heard] = {}
    whole = [index for index, place in enumerate(places) if place is None]
    parts = [index for index, place in enumerate(places) if place is not None]
    for indices in (whole, parts):  # apart, since a region may cost a fraction of a whole
        for start in range(0, len(indices), stage.max_batch):
            some = indices[start : start + stage.max_batch]
            views = [images[index].view(stage.spec, places[index]) for index in some]
            began = time.perf_counter()
            findings = stage.score(views)
            seconds = (time.perf_counter() - began) / len(views)
            answers.update(zip(some, (Heard(one, seconds) for one in findings), strict=True))
    return [answers[index] for index in range(len(places))]
