"""All figures of a subject over judged units: the one function that `thresher eval` and `thresher replay` share, so
that a replay says what an evaluation would. None stands for what there was nothing to count for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detectors.calibration.paths import path_of
from detectors.datasets.base import says_good
from detectors.evaluation.boxes import IOU, Ranked, ranked
from detectors.evaluation.boxes import Boxes as BoxesOfOne
from detectors.evaluation.classes import accuracy, auroc, confusion, f1_weighted, share
from detectors.evaluation.judged import (
    Judged,
    Subject,
    found_boxes,
    likeliest,
    reported_boxes,
    suspicions,
    true_boxes,
)
from detectors.evaluation.labels import Matching, matched
from detectors.replay import Heard, Played, Unheard, replay
from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from detectors.rules.scores import Scores
from pipeline.core.contracts import Flag
from pipeline.core.errors import InputError
from pipeline.core.records import Array

BY_DEFECTS = (("1", 1, 1), ("2", 2, 2), ("3", 3, 3), ("4-6", 4, 6), ("7+", 7, None))
Figures = dict[str, Any]


def figures(subject: Subject, units: Sequence[Judged]) -> tuple[Figures, list[str]]:
    """The figures, and remarks on what they leave out. Raises `InputError` where the labels do not fit, or where the
    rule asks about places that were not kept."""
    check_labels(subject)
    played = play(subject, units)
    flagged = np.array([isinstance(one.verdict, Flag) for one in played], bool)
    if subject.heavy is None:
        return _of_a_model(subject, units, flagged)
    return _of_a_cascade(subject, units, played, flagged)


def check_labels(subject: Subject) -> None:
    """Raises `InputError` where the labels do not fit: of a model by itself all have to, of a cascade those of one
    stage, by which its parts can be told good or bad."""
    if subject.heavy is None:
        matched(subject.cheap, subject.data)
        return
    try:
        matched(subject.confirmed, subject.data)
    except InputError as error:
        try:
            matched(subject.watched, subject.data)
        except InputError:
            raise error from None


def play(subject: Subject, units: Sequence[Judged]) -> list[Played]:
    """The rule over every unit. Raises `InputError` with how many of them ask for what was not kept."""
    played: list[Played] = []
    unknown: list[str] = []
    for unit in units:
        try:
            played.append(replay(subject.rule, unit.seen))
        except Unheard as error:
            unknown.append(f"{unit.name}, where {error.message}")
    if unknown:
        raise InputError(
            f"{len(unknown)} of {len(units)} units are unknown under this rule: it has the heavy stage look where it"
            f" was never asked (the first is {unknown[0]}), and nothing is guessed. Evaluate with this rule to know",
            "rule",
        )
    return played


def located(units: Sequence[Judged], answers: Iterable[Heard]) -> bool:
    """Whether there are true boxes, and findings with boxes to hold against them."""
    return any(len(unit.boxes) for unit in units) and all(one.findings.boxes is not None for one in answers)


def ranked_boxes(units: Sequence[Judged], answers: Sequence[Heard], matching: Matching) -> Ranked:
    return ranked(found_boxes(answers, matching), true_boxes(units, matching), len(matching.labels))


def _of_a_model(subject: Subject, units: Sequence[Judged], flagged: Array) -> tuple[Figures, list[str]]:
    answers = [unit.seen.cheap for unit in units]
    scores = suspicions(answers, subject.watched)
    parts = part_figures(units, flagged, scores)
    both_kinds = parts["auroc"] is not None
    if located(units, answers):
        matching = matched(subject.cheap, subject.data)
        out = box_figures(ranked_boxes(units, answers, matching), matching, _least(subject, matching))
        if not both_kinds:
            return out, [*_unknown_truth(units, matching), *_no_good_part(units)]
        out |= {key: parts[key] for key in ("auroc", "accuracy", "f1_weighted")}
        return out | {"parts": parts}, _unknown_truth(units, matching)
    one_class = answers[0].findings.boxes is None and _of_one_class(units)
    if one_class and (index := _indices(subject)) is not None:
        table = _class_table(subject, units, answers, index)
        out = parts if both_kinds else {}
        out |= {
            "accuracy": accuracy(table),
            "f1_weighted": f1_weighted(table),
            "confusion": {"labels": list(subject.data), "table": table.tolist()},
        }
        return (out | {"parts": parts}, []) if both_kinds else (out, _no_good_part(units))
    if answers[0].findings.boxes is None and len(subject.watched) == len(subject.cheap):
        raise InputError(
            f"none of its labels ({', '.join(subject.cheap)}) says that a part is good, so their sum tells nothing:"
            " write a config whose rule of the kind scores says which to `watch`",
            "MODEL",
        )
    return parts, [] if both_kinds else _no_good_part(units)


def _of_a_cascade(
    subject: Subject, units: Sequence[Judged], played: Sequence[Played], flagged: Array
) -> tuple[Figures, list[str]]:
    assert subject.heavy is not None
    cheap = [unit.seen.cheap for unit in units]
    whole = [unit.seen.heavy[None] for unit in units]
    out = part_figures(units, flagged, None)
    out["auroc_cheap"] = auroc(suspicions(cheap, subject.watched), _bad(units))
    out["auroc_heavy"] = auroc(suspicions(whole, subject.confirmed), _bad(units))
    out |= cost_figures(units, played, subject.tile)
    out["heavy_on_the_whole"] = part_figures(units, _heavy_flags(subject, units), None)
    out["against_heavy"] = _against_heavy(subject, units, played)
    if len(subject.data) > 2 and _of_one_class(units):
        out |= {"classes": _classes_of_a_cascade(subject, units, played)}
    boxes, remarks = _boxes_of_a_cascade(subject, units, played)
    out |= boxes
    if out["false_reject"] is None:
        remarks += _no_good_part(units)
    return out, remarks


def part_figures(units: Sequence[Judged], flagged: Array, scores: Array | None) -> Figures:
    """Units as good or bad, flagged or not: bool `[n]`, and the scores by which they were, where it is one. `confusion`
    has truth in its rows, good first."""
    bad = _bad(units)
    table = confusion(bad.astype(np.int64), flagged.astype(np.int64), 2)
    (passed, rejected), (missed, caught) = table.tolist()
    out: Figures = {"found": caught, "missed": missed, "falsely_rejected": rejected}
    out |= {"recall": share(caught, caught + missed), "precision": share(caught, caught + rejected)}
    out["f"] = share(2 * caught, 2 * caught + missed + rejected)
    out |= {"false_reject": share(rejected, passed + rejected), "accuracy": accuracy(table)}
    out |= {"f1_weighted": f1_weighted(table), "confusion": {"labels": ["good", "bad"], "table": table.tolist()}}
    if scores is not None:
        out["auroc"] = auroc(scores, bad)
    if any(len(unit.boxes) for unit in units):
        out["recall_by_defects"] = recall_by_defects(units, flagged)
        out["recall_single"] = out["recall_by_defects"]["1"]["recall"]
    return out


def recall_by_defects(units: Sequence[Judged], flagged: Array) -> dict[str, Figures]:
    """Parts with many defects are found nearly always, so that recall says little unless it says of what."""
    defects = np.array([unit.defects for unit in units], np.int64)
    out: dict[str, Figures] = {}
    for name, low, high in BY_DEFECTS:
        mine = (defects >= low) & (defects <= (high or defects.max(initial=low)))
        found = int(flagged[mine].sum())
        out[name] = {"parts": int(mine.sum()), "found": found, "recall": share(found, int(mine.sum()))}
    return out


def cost_figures(units: Sequence[Judged], played: Sequence[Played], tile: int | None = None) -> Figures:
    """What the heavy stage (which looks at such tiles, if any) had to do, as shares of what it would have without a
    cascade: of the units, of their pixels and of its time; `heavy_looks` counts its views a unit."""
    count = len(units)
    escalated = sum(bool(one.places) for one in played)
    pixels = sum(unit.share_of_pixels(one.places, tile) for unit, one in zip(units, played, strict=True))
    whole_s = sum(unit.seen.heavy[None].seconds for unit in units)
    cheap_s = sum(unit.seen.cheap.seconds for unit in units)
    heavy_s = sum(one.heavy_s for one in played)
    return {
        "escalated": share(escalated, count),
        "settled_cheap": share(count - escalated, count),
        "heavy_looks": share(sum(len(one.places) for one in played), count),
        "heavy_pixels": share(pixels, count),
        "heavy_time": share(heavy_s, whole_s),
        "cascade_time": share(cheap_s + heavy_s, whole_s),
    }


def box_figures(rank: Ranked, matching: Matching, least: Array) -> Figures:
    """The protocol of DeepPCB. `least` `[C]` is the threshold of each class. `f_best` is tuned on what it is measured
    on: it tells what a better threshold could bring, and is no result."""
    precision, recall, f = rank.at(least)
    best = rank.best_threshold()
    average = rank.average_precision()
    there = np.isfinite(average)
    classes: dict[str, Figures] = {}
    for kind, label in enumerate(matching.labels):
        p, r, one = rank.only(kind).at(least)
        true = int(rank.true[kind])
        ap = float(average[kind]) if there[kind] else None
        classes[label] = {
            "true": true,
            "ap": ap,
            "precision": p,
            "recall": r if true else None,
            "f": one if true else None,
            "threshold": float(least[kind]) if np.isfinite(least[kind]) else None,
        }
    known = least[np.isfinite(least)]
    return {
        "map": float(average[there].mean()) if there.any() else None,
        "f": f,
        "precision": precision,
        "recall": recall,
        "iou": IOU,
        "threshold": float(known[0]) if len(known) and (known == known[0]).all() else None,
        "f_best": rank.at(best)[2],
        "f_best_threshold": best,
        "classes": classes,
    }


def curve_thresholds(subject: Subject) -> list[tuple[float, Subject]]:
    """A cascade at every fourth threshold of the ladder that calibration tries, from the most cautious on; none for a
    rule that has no such ladder."""
    if subject.heavy is None or not isinstance(subject.rule, (Scores, Boxes, Regions)):
        return []
    steps = path_of(subject.rule, decides_alone=True).steps
    some = [*steps[:-1:4], steps[-1]]
    return [(step.threshold, replace(subject, rule=step.rule)) for step in some]


def cost_curve(
    subject: Subject, units: Sequence[Judged], progress: Callable[[int], None] = lambda done: None
) -> list[dict[str, float | None]]:
    """What a cascade costs and finds at each threshold of `curve_thresholds`, a row each. `progress` is told how many
    there are."""
    rows: list[dict[str, float | None]] = []
    heavy_flags = _heavy_flags(subject, units) if subject.heavy is not None else np.zeros(len(units), bool)
    for number, (threshold, other) in enumerate(curve_thresholds(subject), 1):
        played = play(other, units)
        flagged = np.array([isinstance(one.verdict, Flag) for one in played], bool)
        parts, cost = part_figures(units, flagged, None), cost_figures(units, played, subject.tile)
        row = {"threshold": threshold, "recall": parts["recall"], "recall_single": parts.get("recall_single")}
        row |= {"recall_of_heavy": share(int((flagged & heavy_flags).sum()), int(heavy_flags.sum()))}
        row |= {"false_reject": parts["false_reject"], "escalated": cost["escalated"]}
        rows.append(row | {key: cost[key] for key in ("heavy_pixels", "heavy_time")})
        progress(number)
    return rows


def _bad(units: Sequence[Judged]) -> Array:
    return np.array([unit.bad for unit in units], bool)


def _heavy_flags(subject: Subject, units: Sequence[Judged]) -> Array:
    """Which units the heavy stage flags, given the whole of them."""
    if isinstance(subject.rule, (Scores, Boxes, Regions)):
        path = path_of(subject.rule, decides_alone=True)
        return np.array([bool(path.flagged(unit.seen.heavy[None].findings)) for unit in units], bool)
    return suspicions([unit.seen.heavy[None] for unit in units], subject.confirmed) >= 0.5


def _against_heavy(subject: Subject, units: Sequence[Judged], played: Sequence[Played]) -> Figures:
    """As calibration counts it: a unit that the heavy stage flags is missed where the cascade does not report all that
    it flags in the whole of it."""
    flags = _heavy_flags(subject, units)
    positives = int(flags.sum())
    if isinstance(subject.rule, (Scores, Boxes, Regions)):
        path = path_of(subject.rule, decides_alone=True)
        found = sum(
            path.reports(path.flagged(unit.seen.heavy[None].findings), one.verdict)
            for unit, one, flag in zip(units, played, flags, strict=True)
            if flag
        )
    else:
        found = sum(isinstance(one.verdict, Flag) for one, flag in zip(played, flags, strict=True) if flag)
    alone = sum(isinstance(one.verdict, Flag) for one, flag in zip(played, flags, strict=True) if not flag)
    return {
        "positives": positives,
        "missed": positives - found,
        "recall": share(found, positives),
        "flagged_alone": share(alone, len(units) - positives),
    }


def _boxes_of_a_cascade(
    subject: Subject, units: Sequence[Judged], played: Sequence[Played]
) -> tuple[Figures, list[str]]:
    """The boxes that the cascade reports, and those of the heavy stage on the whole, as far as labels fit: what the
    heavy stage confirms, or else what the cheap one reports."""
    assert subject.heavy is not None
    whole = [unit.seen.heavy[None] for unit in units]
    if not any(len(unit.boxes) for unit in units):
        return {}, []
    out: Figures = {}
    remarks: list[str] = []
    names, confirmed = subject.confirmed, True
    try:
        matching = matched(names, subject.data)
    except InputError as error:
        remarks.append(f"boxes of the heavy stage were not measured: {error.message}")
        if not isinstance(subject.rule, Boxes):
            return {}, remarks
        names, confirmed = tuple(subject.rule.report), False
        try:
            matching = matched(names, subject.data)
        except InputError:
            return {}, remarks
    kinds = {label: int(kind) for label, kind in zip(names, matching.mine, strict=True)}
    if all(_placed(one) for one in played):
        found: list[BoxesOfOne] = reported_boxes([one.verdict.detections for one in played], kinds)
        rank = ranked(found, true_boxes(units, matching), len(matching.labels))
        precision, recall, f = rank.at(0.0)
        out["boxes"] = {"precision": precision, "recall": recall, "f": f, "iou": IOU}
        remarks += _unknown_truth(units, matching)
    if confirmed and located(units, whole) and isinstance(subject.rule, (Scores, Boxes, Regions)):
        of_all = Matching(
            matching.labels, np.array([kinds.get(label, -1) for label in subject.heavy], np.int64), matching.data
        )
        least = np.full(len(matching.labels), np.inf)
        for label, threshold in subject.rule.confirm.items():
            if kinds[label] >= 0:
                least[kinds[label]] = min(least[kinds[label]], threshold)
        out["heavy_boxes"] = box_figures(ranked_boxes(units, whole, of_all), of_all, least)
    return out, remarks


def _placed(played: Played) -> bool:
    return all(one.box is not None for one in played.verdict.detections)


def _least(subject: Subject, matching: Matching) -> Array:
    """The threshold of each class `[C]` under a rule without a heavy stage; infinite where it reports none of it."""
    least = np.full(len(matching.labels), np.inf)
    for label, kind in zip(subject.cheap, matching.mine, strict=True):
        threshold = np.inf
        if isinstance(subject.rule, Boxes):
            threshold = subject.rule.report.get(label, np.inf)
        elif isinstance(subject.rule, Scores) and label in subject.rule.watch and subject.rule.flag_at is not None:
            threshold = subject.rule.flag_at
        if kind >= 0:
            least[kind] = min(least[kind], threshold)
    return least


def _indices(subject: Subject) -> Array | None:
    """For each label of the model its index in the data's labels, None where one has none, however it is written."""
    known = {label.casefold(): index for index, label in enumerate(subject.data)}
    if any(label.casefold() not in known for label in subject.cheap):
        return None
    return np.array([known[label.casefold()] for label in subject.cheap], np.int64)


def _class_table(subject: Subject, units: Sequence[Judged], answers: Sequence[Heard], index: Array) -> Array:
    """Which class truly is and which has the largest score, in the data's labels."""
    true = np.array([int(unit.classes[0]) for unit in units], np.int64)
    said = index[[likeliest(one.findings) for one in answers]]
    return confusion(true, said, len(subject.data))


def _of_one_class(units: Sequence[Judged]) -> bool:
    return all(not len(unit.boxes) and len(unit.classes) == 1 for unit in units)


def _classes_of_a_cascade(subject: Subject, units: Sequence[Judged], played: Sequence[Played]) -> Figures:
    """Of data with several classes: which one the verdict's first detection names, what is good where it has none. The
    heavy stage by itself and the cheap one are read by their highest scores. In the data's labels, and one more for
    what has no name there."""
    known = {label.casefold(): index for index, label in enumerate(subject.data)}
    good = next((index for index, label in enumerate(subject.data) if says_good(label)), len(subject.data))
    true = np.array([int(unit.classes[0]) for unit in units], np.int64)

    def index(label: str) -> int:
        return known.get(label.casefold(), len(subject.data))

    said = {
        "cascade": [index(one.verdict.detections[0].label) if one.verdict.detections else good for one in played],
        "cheap": [index(subject.cheap[likeliest(unit.seen.cheap.findings)]) for unit in units],
        "heavy": [index((subject.heavy or ())[likeliest(unit.seen.heavy[None].findings)]) for unit in units],
    }
    out: Figures = {"labels": [*subject.data, "other"]}
    for who, labels in said.items():
        table = confusion(true, np.array(labels, np.int64), len(subject.data) + 1)
        recall = {name: share(int(table[k, k]), int(table[k].sum())) for k, name in enumerate(subject.data)}
        out[who] = {"f1_weighted": f1_weighted(table), "accuracy": accuracy(table), "recall": recall}
        out[who]["confusion"] = table.tolist()
    return out


def _unknown_truth(units: Sequence[Judged], matching: Matching) -> list[str]:
    unknown = sum(int((matching.data[unit.classes[: len(unit.boxes)]] < 0).sum()) for unit in units)
    if not unknown:
        return []
    return [f"{unknown} true boxes are of classes that the model does not know, and count neither way"]


def _no_good_part(units: Sequence[Judged]) -> list[str]:
    kind = "bad" if all(unit.bad for unit in units) else "good"
    return [f"every unit is {kind}, so nothing can be said of how good and bad are told apart"]
