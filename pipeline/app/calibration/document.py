"""What a calibration found, as one document for programs, a certificate for later, and lines for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detectors.calibration.bounds import positives_needed, provable
from detectors.calibration.calibrate import Claim, Lack, Measured, Verified, curve
from detectors.calibration.certificate import (
    Certificate,
    CertifiedRule,
    ClassShare,
    Data,
    Proof,
    Saving,
    StageIdentity,
    Truth,
    digest_of,
    percent,
)
from detectors.calibration.paths import Path as Thresholds
from pipeline.app.about import VERSION
from pipeline.core.contracts import Generation


@dataclass(frozen=True)
class Calibration:
    """All that went into it. `verified` is None where there were too few units, and nobody looked at the misses."""

    generation: Generation
    path: Thresholds
    claim: Claim
    match_iou: float
    data: Data
    measured: Measured
    lacks: list[Lack]
    verified: Verified | None

    @property
    def chosen(self) -> int | None:
        return None if self.verified is None else self.verified.chosen


def data_of(source: Path, split: str, unit: str, measured: Measured, left_out: Mapping[str, int]) -> Data:
    digest = digest_of(measured.units)
    return Data(
        source=str(source), split=split, unit=unit, units=len(measured.units), left_out=dict(left_out), digest=digest
    )


def certificate_of(done: Calibration) -> Certificate:
    """The certificate of a calibration that chose a threshold."""
    verified, measured, claim, heavy = done.verified, done.measured, done.claim, done.generation.heavy
    assert heavy is not None
    assert verified is not None
    assert verified.chosen is not None
    at = verified.chosen
    group, rest = measured.of(claim.against), measured.rest_of(claim.against)
    beside: dict[str, Any] = {}
    if claim.against == "truth":
        beside = {"heavy_positives": measured.positives, "heavy_misses": int(measured.misses[at])}
    classes = {label: kind.count / measured.positives for label, kind in measured.classes.items() if kind.count}
    truth = None
    if verified.truth is not None:
        lost = int(measured.truth.misses[at])
        truth = Truth(
            positives=measured.truth.count, misses=lost, unflagged=measured.truth_unflagged, holds=verified.truth
        )
    return Certificate(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        program=f"thresher {VERSION}",
        cheap=StageIdentity.of(done.generation.cheap),
        heavy=StageIdentity.of(heavy),
        rule=CertifiedRule.of(done.path.steps[at].rule, done.path.key),
        data=done.data,
        proof=Proof(
            test=claim.test,
            alpha=claim.alpha,
            delta=claim.delta,
            positives=group.count,
            misses=int(group.misses[at]),
            against=claim.against,
            **beside,
            alpha_false=claim.alpha_false,
            negatives=rest.count,
            false_alarms=int(rest.misses[at]),
            evidence=verified.p[at],
            match_iou=done.match_iou if done.path.matches else None,
            each_class=claim.each_class,
            classes={
                label: ClassShare(
                    share=share, may_lose=claim.alpha if claim.each_class else min(1, claim.alpha / share)
                )
                for label, share in classes.items()
            },
            truth=truth,
        ),
        saving=Saving(
            units=1 - float(measured.escalated[at]) / len(measured.units),
            heavy_time=1 - float(measured.heavy_s[at]) / measured.whole_s,
        ),
    )


def document(done: Calibration, files: Mapping[str, str | None]) -> dict[str, Any]:
    """The document of `thresher calibrate --json`. Of a calibration with too few units it holds no miss."""
    measured, claim = done.measured, done.claim
    out: dict[str, Any] = {
        "certified": done.chosen is not None,
        "cascade": done.generation.id,
        "asked": {"max_miss": claim.alpha, "max_false": claim.alpha_false, "delta": claim.delta, "test": claim.test},
        "data": done.data.model_dump(mode="json"),
        "positives": measured.positives,
        "provable_without_a_miss": provable(0, measured.positives, claim.delta, claim.test),
        "positives_needed_without_a_miss": positives_needed(claim.alpha, claim.delta, 0, claim.test),
        "missing": {lack.what: lack.missing for lack in done.lacks},
    }
    if done.verified is None:
        return out
    out["curve"] = curve(measured, claim)
    if done.chosen is not None:
        out["certificate"] = certificate_of(done).model_dump(mode="json")
    return out | {"files": dict(files)}


def refusal(done: Calibration) -> Iterator[str]:
    """Too few units: what is missing, and what there is enough for."""
    for lack in done.lacks:
        event = "false alarm" if lack.what == "negatives" else "miss"
        yield (
            f"{lack.missing} more {lack.what} are missing: there are {lack.there} among {len(done.measured.units)}"
            f" units, and at most {percent(lack.alpha)} at δ = {percent(done.claim.delta)} takes"
            f" {lack.there + lack.missing} without a single {event}; what there is could prove"
            f" {percent(lack.provable)} at best.{_more_units(done, lack)} Nobody has looked at the outcome, so data may"
            " be added for another try"
        )


def not_held(done: Calibration) -> str:
    """Not even the most cautious threshold could be proved."""
    measured, claim, step = done.measured, done.claim, done.path.steps[0]
    group = measured.of(claim.against)
    misses, n = int(group.misses[0]), group.count
    word = f"even {done.path.key} = {step.threshold:g} misses {misses} of {n} positives"
    if claim.alpha_false is not None:
        rest = measured.rest_of(claim.against)
        word += f" and reports {int(rest.misses[0])} of {rest.count} others"
    needed = positives_needed(claim.alpha, claim.delta, misses, claim.test)
    best = percent(provable(misses, n, claim.delta, claim.test))
    count = f"{misses} {'miss' if misses == 1 else 'misses'}"
    return (
        f"no threshold could be proved: {word}, which proves {best} missed at most; {percent(claim.alpha)} with {count}"
        f" takes {needed} positives.{_AGAIN[claim.test]}"
    )


_AGAIN = {
    "exact": " These data have been looked at: adding some and trying again is no proof any more; take fresh ones,"
    " or begin again with --topped-up and data that nobody has looked at",
    "e-value": " With --topped-up you may add data and try again",
}


def told(done: Calibration, certificate: Certificate) -> Iterator[str]:
    """What is promised, what is not, and what it saves."""
    proof, data, saving = certificate.proof, certificate.data, certificate.saving
    at = done.chosen
    assert at is not None
    heavy = certificate.heavy.model
    yield f"Certified: {certificate.promise()}."
    yield ""
    yield f"  tested      {data.units} units ({data.unit}), {proof.positives} of them positive, {proof.misses} missed"
    if data.left_out:
        yield f"  left out    {', '.join(f'{count} {reason}' for reason, count in data.left_out.items())}"
    yield f"  a miss      {_a_miss(proof, heavy)}"
    if proof.heavy_positives is not None:
        yield f"  beside      of {proof.heavy_positives} that {heavy} flags, {proof.heavy_misses} are not reported"
    yield f"  threshold   {done.path.key} = {done.path.steps[at].threshold:g}"
    yield (
        f"  saves       {saving.units:.1%} of the units no longer go to {heavy},"
        f" and {saving.heavy_time:.1%} of its time is spared"
    )
    if proof.truth is not None:
        truth, word = proof.truth, "proved" if proof.truth.holds else "not proved"
        yield (
            f"  truth       of {truth.positives} that truly are, the cascade misses {truth.misses} and {heavy} alone"
            f" {truth.unflagged}; at most {percent(proof.alpha)} is {word} against the truth"
        )
    best = provable(0, proof.positives, proof.delta, proof.test)
    needed = positives_needed(proof.alpha, proof.delta, 0, proof.test)
    yield (
        f"  room        {proof.positives} positives without a miss could have proved {percent(best)};"
        f" {percent(proof.alpha)} takes {needed}"
    )
    yield ""
    yield "What this says: except with that probability over the draw of these data, of new units like these that"
    if proof.against == "truth":
        yield "truly are positive, the cascade as it runs reports all but that share."
        yield "What it does not say:"
        yield f"  - nothing about {heavy}, and nothing about data that are not like these;"
    else:
        yield f"{heavy} would flag if it were run on the whole, the cascade as it runs reports all but that share."
        yield "What it does not say:"
        yield f"  - nothing about what {heavy} itself misses, and nothing about data that are not like these;"
    yield "  - nothing about units that are shed or fail, and nothing about one day's share, which chance moves;"
    if len(proof.classes) > 1 and not proof.each_class and proof.against == "heavy":
        lost = ", ".join(f"{name} up to {percent(one.may_lose)}" for name, one in proof.classes.items())
        yield f"  - nothing about one class: if all that is missed is of one, it loses more ({lost}; --each-class);"
    settings = certificate.rule.settings
    cheap_only = [label for label in settings.get("report", ()) if label not in settings["confirm"]]
    if cheap_only:
        yield f"  - nothing about {', '.join(cheap_only)}, which only the cheap stage reports;"
    if proof.alpha_false is None:
        yield "  - nothing about false alarms (--max-false certifies those too);"
    yield f"  - and nothing if these data trained a model or chose the ladder of thresholds. You say: {data.split}."


def _a_miss(proof: Proof, heavy: str) -> str:
    if proof.against == "truth":
        return "a unit that truly is positive and that the cascade does not report"
    match_iou = proof.match_iou
    if match_iou is None:
        return f"a unit that {heavy} flags and the cascade does not"
    return f"a unit in which anything that {heavy} finds has no match (its label, overlap {match_iou:g})"


def _more_units(done: Calibration, lack: Lack) -> str:
    """About how many units the missing ones take, at the share that they have here."""
    if not lack.there:
        return ""
    units = math.ceil(lack.missing * len(done.measured.units) / lack.there)
    return f" That is about {units} more units like these."
