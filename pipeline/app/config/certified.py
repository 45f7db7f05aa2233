"""A cascade and the certificate that it names: thresholds and form come from the certificate, all else has to agree.

What only shows once the models run (their digests, the precision) is compared when they are built.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from detectors.calibration.certificate import StageIdentity, load_certificate
from detectors.choice import ModelChoice
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import CascadePlan, CheckedRule
from pipeline.core.errors import InputError
from pipeline.core.settings import Settings


def certified(plan: CascadePlan, path: Path, written: Any, mistakes: Mistakes) -> CascadePlan | None:
    """`plan` with what the certificate at `path` chose, or None and mistakes. `written` is the cascade's section as the
    person wrote it: a threshold there that is not the proved one is a mistake, one of a shipped base is replaced."""
    key = (*plan.key, "certificate")
    if plan.heavy is None or plan.rule is None:
        mistakes.add("there is no heavy stage, and a certificate promises how much of its findings is missed", key)
        return None
    try:
        certificate = load_certificate(path)
    except InputError as error:
        mistakes.take(error, key)
        return None
    before = len(mistakes.errors)
    for line in certificate.rule_differences(plan.rule, but_calibrated=True):
        mistakes.add(f"is not for this cascade: {line}", key)
    by_hand = written.get("rule") if isinstance(written, dict) else None
    for name, proved in certificate.rule.calibrated.items():
        said = by_hand.get(name) if isinstance(by_hand, dict) else None
        if said is not None and said != proved:
            mistakes.add(
                f"is {said} here, and the certificate proves {proved}: take this away, the certificate sets it",
                (*plan.key, "rule", name),
            )
    if len(mistakes.errors) > before:
        return None
    assert isinstance(plan.rule, Settings)
    rule = type(plan.rule).model_validate(certificate.rule.settings)
    return replace(
        plan,
        cheap=_in_form(plan.cheap, certificate.cheap),
        heavy=_in_form(plan.heavy, certificate.heavy),
        rule=cast(CheckedRule, rule),
        certificate=certificate,
        certificate_file=path,
    )


def _in_form(choice: ModelChoice, certified_as: StageIdentity) -> ModelChoice:
    """What the config leaves to a measurement, the certificate decides: another form is another model. Weights in int8
    run as int8 whatever is asked for; what is left around them is computed in f32."""
    precision = "f32" if certified_as.precision == "int8" else certified_as.precision
    return ModelChoice.model_validate(
        choice.model_dump()
        | {
            "runtime": choice.runtime or certified_as.runtime,
            "precision": choice.precision or precision,
        }
    )
