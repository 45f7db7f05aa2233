"""Rules as plain data, for files of scores, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from detectors import RULES
from detectors.calibration.certificate import rule_settings
from pipeline.app.config.document import Document
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import CheckedRule
from pipeline.core.contracts import Rule
from pipeline.core.errors import InputError


def rule_document(rule: Rule) -> dict[str, Any]:
    """Its kind and settings, as a config would say them. Raises `InputError` for one that no catalogue knows."""
    for kind in RULES.kinds():
        if RULES.load(kind) is type(rule):
            return {"kind": kind, **rule_settings(rule)}
    raise InputError("this rule is in no catalogue, so no replay could read it", "rule")


def rule_with(
    stored: dict[str, Any], assignments: Sequence[str], cheap: Sequence[str], heavy: Sequence[str] | None
) -> CheckedRule:
    """The stored rule with `rule.KEY=VALUE` in their place. Raises `InputErrors` naming the assignment."""
    document = Document({"rule": stored}, Path.cwd(), "the stored rule")
    for assignment in assignments:
        if not assignment.startswith("rule."):
            raise InputError(f'"{assignment}": only the rule can be replayed: rule.KEY=VALUE', "--set")
        document.set(assignment)
    mistakes = Mistakes(document)
    section = document.data["rule"]
    rule: CheckedRule | None = None
    if not isinstance(section, dict) or not isinstance(section.get("kind"), str):
        mistakes.add(f"needs a kind: one of {', '.join(RULES.kinds())}", ("rule",))
    else:
        try:
            kind = RULES.load(section["kind"])
        except InputError as error:
            mistakes.take(error, ("rule", "kind"))
        else:
            rest = {key: value for key, value in section.items() if key != "kind"}
            rule = cast("CheckedRule | None", mistakes.model(kind, rest, ("rule",)))
    for line in rule.check(cheap, heavy) if rule is not None else ():
        mistakes.add(line, ("rule",))
    mistakes.raise_if_any()
    assert rule is not None  # or else there was a mistake
    return rule
