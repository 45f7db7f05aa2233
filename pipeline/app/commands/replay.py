"""`thresher replay`: what another rule would have made of scores that were stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.app.commands.options import json_option, needs_scipy, print_json

if TYPE_CHECKING:
    from detectors.evaluation.judged import Judged
    from detectors.evaluation.scores import Header
    from pipeline.core.contracts import Rule


@click.command(short_help="Ask stored scores what another threshold would have found.")
@click.argument("scores", type=click.Path(path_type=Path), metavar="SCORES")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="rule.KEY=VALUE",
    help="Change the rule: rule.escalate.suspicious=0.3. Repeatable.",
)
@json_option
def replay(scores: Path, assignments: tuple[str, ...], as_json: bool) -> int:
    """Replay the rule over SCORES, which `thresher eval` left behind, beside the rule that was evaluated. No model and
    no picture is needed.

    A rule that has the heavy stage look where it was never asked is refused, with the number of units it is about.
    """
    from detectors.evaluation.scores import load_scores
    from pipeline.app.evaluation.document import told_replay
    from pipeline.app.evaluation.rules import rule_document, rule_with
    from pipeline.core.errors import InputError

    header, units = load_scores(scores)
    if header.heavy is not None:
        needs_scipy("eval")
    if not units:
        raise InputError("holds no unit", str(scores))
    if not header.labels:
        raise InputError(
            "was left by `thresher calibrate`, without the labels of its data: the page's slider replays it, and"
            " `thresher eval` makes what this command reads",
            str(scores),
        )
    stored = rule_with(dict(header.rule), (), header.cheap, header.heavy)
    replayed = rule_with(rule_document(stored), assignments, header.cheap, header.heavy)
    mine, remarks = _answer(header, units, stored)
    other, _ = _answer(header, units, replayed)
    document = {
        "scores": str(scores),
        "model": header.model,
        "version": header.model_version,
        "data": header.data,
        "n": len(units),
        "stored": mine,
        "replayed": other,
        "remarks": remarks,
    }
    if as_json:
        print_json(document)
    else:
        for line in told_replay(document):
            click.echo(line)
    return 0


def _answer(header: Header, units: list[Judged], rule: Rule) -> tuple[dict[str, Any], list[str]]:
    from detectors.evaluation.figures import figures
    from detectors.evaluation.judged import Subject
    from pipeline.app.evaluation.rules import rule_document

    metrics, remarks = figures(Subject(rule, header.cheap, header.heavy, header.labels, header.tile), units)
    return {"rule": rule_document(rule), "metrics": metrics}, remarks
