"""`thresher eval`: how good a model or a cascade is on labelled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.app.commands.options import json_option, needs_scipy, print_json, progress_bar, set_option

if TYPE_CHECKING:
    from detectors.datasets.base import DataSet
    from detectors.evaluation.judged import Judged, Subject
    from pipeline.app.evaluation.subject import Measured
    from pipeline.app.evaluation.units import Kind

_BOARDS = 200
"""Pairs for the honesty check: chance moves an AUC of 0.5 by 0.03 with so many."""


@click.command("eval", short_help="Measure a model or a cascade on labelled data.")
@click.argument("subject", metavar="MODEL")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The folder of a data set.")
@click.option("--format", "kind_of_data", metavar="NAME", help="How it is laid out (default: by its looks).")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only this group of the data. Repeatable.")
@click.option(
    "--only", type=click.Path(path_type=Path), metavar="FILE", help="Only what this file names, a picture a line."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many pictures, spread evenly.")
@click.option("--split", default="not said", help="What these data were to the models, for the stored scores.")
@click.option(
    "--parts",
    type=click.Choice(["honest", "as-is"]),
    help="Parts repaired with their reference, seen by one simulated sensor, or the pictures as they are"
    " (default: honest for a cascade where the data have references).",
)
@click.option("--cascade", metavar="NAME", help="Which one, where the config has several.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where curves and scores go (default: results/eval-…)"
)
@set_option
@json_option
def evaluate(  # noqa: PLR0917  # each is an option, and click calls it by name
    subject: str,
    data: Path,
    kind_of_data: str | None,
    groups: tuple[str, ...],
    only: Path | None,
    limit: int | None,
    split: str,
    parts: Kind | None,
    cascade: str | None,
    out: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Measure MODEL on labelled data. MODEL is a shipped model or cascade, a model's folder, an ONNX file, or a config.

    Prints figures, and leaves curves and all scores in --out: `thresher replay` answers from those what another
    threshold would have found, without models or pictures.
    """
    from detectors.evaluation.figures import check_labels
    from pipeline.app.evaluation.document import told
    from pipeline.app.evaluation.subject import measured_subject
    from pipeline.app.evaluation.units import Skipped, chosen, judge, kind_of, units_of
    from pipeline.core.errors import InputError

    labelled = chosen(_labelled(data, kind_of_data), groups, only, limit)
    measured = measured_subject(subject, assignments, cascade)
    check_labels(measured.against(labelled.labels))
    if measured.heavy is not None:
        needs_scipy("eval")
    kind = kind_of(labelled, parts, cascade=measured.heavy is not None)
    folder = _folder(out or Path("results") / f"eval-{measured.name}")
    skipped = Skipped(dict(labelled.left_out), list(labelled.remarks))
    units = units_of(labelled, kind, skipped)
    for stage in measured.stages:
        stage.warm()
    with progress_bar(f"{len(units)} units are judged …", "units", len(units)) as progress:
        judged = judge(measured, units, skipped, progress)
    if not judged:
        why = f" ({skipped.names[0]})" if skipped.names else ""
        raise InputError(f"{data} holds no picture that can be decoded{why}", "--data")
    scores = _saved(folder, measured, judged, labelled, (data, split, kind))  # first: they are what took the time
    metrics = _metrics(measured, measured.against(labelled.labels), judged, labelled, folder)
    metrics |= {"threshold_from": measured.threshold_from, "parts_are": kind, "split": split}
    metrics |= {"skipped": skipped.counts, "skipped_names": skipped.names}
    metrics["files"] |= {"scores": str(scores)}
    document = {
        "model": measured.name,
        "version": measured.version,
        "data": str(data),
        "n": len(judged),
        "metrics": metrics,
    }
    _write(folder / "eval.json", document)
    if as_json:
        print_json(document)
        return 0
    for line in told(document):
        click.echo(line)
    click.echo(f"\nwritten: {', '.join(metrics['files'].values())}")
    click.echo(f"Another threshold:  thresher replay {metrics['files']['scores']} --set rule.KEY=VALUE")
    return 0


def _labelled(data: Path, kind: str | None) -> DataSet:
    from detectors.datasets import read_dataset
    from pipeline.core.errors import InputError

    if not data.exists():
        raise InputError(f"there is no such folder: {data}", "--data")
    if not data.is_dir():
        raise InputError(f"{data} is a file; a data set is a folder", "--data")
    return read_dataset(data, kind)


def _metrics(measured: Measured, subject: Subject, judged: list[Judged], data: DataSet, folder: Path) -> dict[str, Any]:
    from detectors.evaluation.figures import figures
    from pipeline.app.evaluation.curves import write_curves

    metrics, remarks = figures(subject, judged)
    more, noted = _coco(subject, judged)
    metrics |= more
    remarks += noted
    more, noted = _honesty(measured, subject, data)
    metrics |= more
    remarks += noted
    files, noted = write_curves(folder, subject, judged, metrics)
    return metrics | {"files": files, "remarks": remarks + noted}


def _coco(subject: Subject, judged: list[Judged]) -> tuple[dict[str, Any], list[str]]:
    """COCO's figures for a model by itself; absent, with a remark, where its code is not installed."""
    from detectors.evaluation.coco import coco_average
    from detectors.evaluation.figures import located
    from detectors.evaluation.judged import found_boxes, true_boxes
    from detectors.evaluation.labels import matched
    from pipeline.core.errors import MissingPart

    answers = [unit.seen.cheap for unit in judged]
    if subject.heavy is not None or not located(judged, answers):
        return {}, []
    matching = matched(subject.cheap, subject.data)
    try:
        average = coco_average(found_boxes(answers, matching), true_boxes(judged, matching), len(matching.labels))
    except MissingPart as error:
        return {}, [f"coco_map and coco_map50 are absent: {error.message}"]
    return ({}, []) if average is None else ({"coco_map": average[0], "coco_map50": average[1]}, [])


def _honesty(measured: Measured, subject: Subject, data: DataSet) -> tuple[dict[str, Any], list[str]]:
    """Whether the stages tell templates from repaired boards, for data with references."""
    from detectors.evaluation.honesty import honesty
    from pipeline.app.evaluation.units import spread

    samples = [sample for sample in data.samples if sample.reference is not None]
    if not samples:
        return {}, []
    stages = {"template_auc": (measured.cheap, subject.watched)}
    if measured.heavy is not None:
        stages["template_auc_heavy"] = (measured.heavy, subject.confirmed)
    metrics, unreadable = honesty(spread(samples, _BOARDS), stages)
    if not unreadable:
        return metrics, []
    boards = f"{len(unreadable)} board{'s' if len(unreadable) > 1 else ''}"
    return metrics, [f"{boards} could not be read, and honesty is of the others: {'; '.join(unreadable[:3])}"]


def _saved(folder: Path, measured: Measured, judged: list[Judged], data: DataSet, said: tuple[Path, str, Kind]) -> Path:
    from detectors.calibration.certificate import StageIdentity
    from detectors.evaluation.scores import Header, save_scores
    from pipeline.app.evaluation.rules import rule_document

    path = folder / "scores.jsonl.gz"
    source, split, kind = said
    header = Header(
        model=measured.name,
        model_version=measured.version,
        data=str(source),
        split=split,
        parts=kind,
        cheap=measured.cheap.labels,
        heavy=None if measured.heavy is None else measured.heavy.labels,
        labels=data.labels,
        rule=rule_document(measured.rule),
        tile=measured.tile,
        stages=tuple(StageIdentity.of(stage) for stage in measured.stages),
    )
    save_scores(path, header, judged)
    return path


def _folder(out: Path) -> Path:
    """Found out before the long work, not after it."""
    from pipeline.core.errors import InputError

    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}", "--out") from None
    return out


def _write(path: Path, document: object) -> None:
    from pipeline.core.files import save_text

    save_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
