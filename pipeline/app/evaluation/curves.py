"""The curves of an evaluation, as JSON and drawn: precision against recall, and of a cascade recall against cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectors.evaluation.classes import precision_recall
from detectors.evaluation.figures import cost_curve, located, ranked_boxes
from detectors.evaluation.judged import Judged, Subject, suspicions
from detectors.evaluation.labels import matched
from pipeline.app.plotting import chart
from pipeline.core.errors import MissingPart
from pipeline.core.files import save_text
from pipeline.core.records import Array

Rows = list[dict[str, float | None]]
_MOST_ROWS = 400


def write_curves(
    folder: Path, subject: Subject, units: Sequence[Judged], metrics: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """The files by what they are, and remarks on those that could not be drawn. Raises `InputError`."""
    series, point = _precision_recall(subject, units, metrics)
    files: dict[str, str] = {}
    remarks: list[str] = []
    if series:
        table = folder / "precision-recall.json"
        _write(table, {"point": point, "curves": series})
        files["precision_recall"] = str(table)
        _drawn(files, remarks, "precision_recall", lambda path: _draw_precision_recall(series, point, path))
    if rows := cost_curve(subject, units):
        point = {key: metrics[key] for key in ("escalated", "heavy_pixels", "recall", "false_reject")}
        table = folder / "cost-recall.json"
        _write(table, {"point": point, "curve": rows})
        files["cost_recall"] = str(table)
        _drawn(files, remarks, "cost_recall", lambda path: _draw_cost(rows, point, path))
    return files, remarks


def _precision_recall(
    subject: Subject, units: Sequence[Judged], metrics: Mapping[str, Any]
) -> tuple[dict[str, Rows], dict[str, Any]]:
    """A series for boxes and each of their classes, or for parts by each stage's suspicion; and where the threshold at
    hand lies among them."""
    point = {"precision": metrics.get("precision"), "recall": metrics.get("recall")}
    cheap = [unit.seen.cheap for unit in units]
    if subject.heavy is None and located(units, cheap):
        matching = matched(subject.cheap, subject.data)
        rank = ranked_boxes(units, cheap, matching)
        kinds = range(len(matching.labels)) if len(matching.labels) > 1 else ()
        out = {"all boxes": _rows(rank.scores, *rank.precision_recall()[:2])}
        for kind in kinds:
            one = rank.only(kind)
            out[matching.labels[kind]] = _rows(one.scores, *one.precision_recall()[:2])
        return {name: rows for name, rows in out.items() if rows}, point
    bad = np.array([unit.bad for unit in units], bool)
    if not bad.any() or "recall" not in metrics:
        return {}, point
    name = "parts" if subject.heavy is None else "parts, cheap stage alone"
    out = {name: _rows(*precision_recall(suspicions(cheap, subject.watched), bad))}
    if subject.heavy is not None:
        whole = [unit.seen.heavy[None] for unit in units]
        out["parts, heavy stage on the whole"] = _rows(*precision_recall(suspicions(whole, subject.confirmed), bad))
    return out, point


def _rows(scores: Array, precision: Array, recall: Array) -> Rows:
    picked = np.unique(np.linspace(0, len(scores) - 1, min(len(scores), _MOST_ROWS)).round().astype(int))
    return [
        {"threshold": float(scores[i]), "precision": float(precision[i]), "recall": float(recall[i])} for i in picked
    ]


def _write(path: Path, document: object) -> None:
    save_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def _drawn(files: dict[str, str], remarks: list[str], what: str, draw: Any) -> None:
    path = Path(files[what]).with_suffix(".png")
    try:
        draw(path)
    except MissingPart as error:
        remarks.append(f"the curve was not drawn: {error.message}")
        return
    files[f"{what}_picture"] = str(path)


def _draw_precision_recall(series: Mapping[str, Rows], point: Mapping[str, Any], path: Path) -> None:
    with chart(path, "lower left") as axes:
        for name, rows in series.items():
            bold = name.startswith(("all", "parts"))
            recall, precision = ([row[key] for row in rows] for key in ("recall", "precision"))
            axes.plot(recall, precision, label=name, linewidth=2 if bold else 1, marker="." if len(rows) < 30 else None)
        if point["recall"] is not None and point["precision"] is not None:
            axes.scatter([point["recall"]], [point["precision"]], s=80, zorder=3, label="at the threshold")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))


def _draw_cost(rows: Rows, point: Mapping[str, Any], path: Path) -> None:
    shown = [row for row in rows if row["recall"] is not None]
    with chart(path) as axes:
        cost = [row["escalated"] for row in shown]
        axes.plot(cost, [row["recall"] for row in shown], marker=".", label="bad parts that are flagged")
        single = [row["recall_single"] for row in shown]
        if None not in single:
            axes.plot(cost, single, marker=".", label="those with a single defect")
        axes.plot(
            cost, [row["false_reject"] or 0 for row in shown], linestyle="--", label="good parts that are flagged"
        )
        if point["recall"] is not None:
            axes.scatter([point["escalated"]], [point["recall"]], s=80, zorder=3, label="the rule as it is")
        axes.set(xlabel="share of parts that the heavy stage sees", ylabel="share that is flagged", ylim=(0, 1.01))
