"""Figures as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {
    "map": "mean average precision over classes, IoU > 0.33",
    "f": "harmonic mean of precision and recall",
    "precision": "share of what is reported that is right",
    "recall": "share of what is there that is reported",
    "found": "bad ones that are flagged",
    "missed": "bad ones that are not",
    "falsely_rejected": "good ones that are flagged",
    "false_reject": "share of the good ones that is flagged",
    "f_best": "F at the best threshold of these data: tuned on what it is measured on, no result",
    "coco_map": "COCO's average precision, IoU 0.50:0.95",
    "coco_map50": "COCO's average precision, IoU 0.50",
    "auroc": "how often a bad one is more suspicious than a good one",
    "auroc_cheap": "the same, by the cheap stage alone",
    "auroc_heavy": "the same, by the heavy stage on the whole",
    "accuracy": "share of verdicts that are right",
    "recall_single": "recall among parts with a single defect",
    "escalated": "share of parts that the heavy stage sees",
    "settled_cheap": "share of parts that the cheap stage settles",
    "heavy_looks": "views of the heavy stage a part",
    "heavy_pixels": "share of all pixels that the heavy stage sees",
    "heavy_time": "the heavy stage's time, by that for every whole part",
    "cascade_time": "both stages' time, by that of the heavy stage for every whole part",
    "template_auc": "a template told from a repaired board: about 0.5 is honest",
    "template_auc_heavy": "the same, by the heavy stage",
    "histogram_auc_raw": "the trap, for comparison: by grey pixels in the raw files",
    "histogram_auc": "and by grey pixels after the simulated sensor",
}


def told(document: Mapping[str, Any]) -> Iterator[str]:
    """The document of `thresher eval`."""
    metrics = document["metrics"]
    yield f"{_head(document)} ({metrics['parts_are']})"
    if metrics["skipped"]:
        yield f"  left out: {', '.join(f'{count} {reason}' for reason, count in metrics['skipped'].items())}"
        yield from (f"    {name}" for name in metrics["skipped_names"])
    yield f"  threshold: {metrics['threshold_from']}"
    yield from told_figures(metrics)
    yield from (f"  note: {remark}" for remark in metrics["remarks"])


def _head(document: Mapping[str, Any]) -> str:
    return f"{document['model']} {document['version']} on {document['data']}: {document['n']} units"


def told_figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    for key, value in metrics.items():
        if key in _WORDS and not isinstance(value, dict):
            yield f"  {key:<18} {shown(value):>7}   {_WORDS[key]}"
    if isinstance(classes := metrics.get("classes"), dict):
        yield "  by class                true     ap  precision  recall      f"
        for label, row in classes.items():
            cells = (shown(row["ap"]), shown(row["precision"]), shown(row["recall"]), shown(row["f"]))
            yield "    {:<20} {:>5} {:>6} {:>10} {:>7} {:>6}".format(label[:20], row["true"], *cells)
    if isinstance(by_defects := metrics.get("recall_by_defects"), dict):
        yield "  recall by defects      parts  found  recall"
        for name, row in by_defects.items():
            yield f"    {name:<18} {row['parts']:>7} {row['found']:>6} {shown(row['recall']):>7}"
    if isinstance(table := metrics.get("confusion"), dict):
        yield "  truth, and what was said of it"
        for label, row in zip(table["labels"], table["table"], strict=True):
            said = ", ".join(f"{count} {name}" for name, count in zip(table["labels"], row, strict=True) if count)
            yield f"    {label:<20} {said or 'none'}"
    for key, title in _NESTED.items():
        if isinstance(metrics.get(key), dict):
            yield f"  {title}:"
            yield from (f"  {line}" for line in told_figures(metrics[key]))
    if isinstance(heavy := metrics.get("against_heavy"), dict):
        yield (
            f"  against the heavy stage: of {heavy['positives']} that it flags whole, {heavy['missed']} are missed;"
            f" {shown(heavy['flagged_alone'])} of the others are flagged"
        )


_NESTED = {
    "parts": "whole parts",
    "boxes": "boxes that the cascade reports",
    "heavy_boxes": "boxes of the heavy stage on the whole",
    "heavy_on_the_whole": "the heavy stage alone, on the whole",
}


def told_replay(document: Mapping[str, Any]) -> Iterator[str]:
    """Two rules side by side."""
    yield f"{_head(document)}, from {document['scores']}"
    stored, replayed = document["stored"]["metrics"], document["replayed"]["metrics"]
    yield f"  {'':<18} {'stored':>8} {'replayed':>8}"
    for key in (*_WORDS, "f1_weighted"):
        if key in stored and not isinstance(stored[key], dict):
            yield f"  {key:<18} {shown(stored[key]):>8} {shown(replayed.get(key)):>8}   {_WORDS.get(key, '')}".rstrip()
    if "recall_by_defects" in stored:
        yield "  found, by defects"
        for name, row in stored["recall_by_defects"].items():
            other = replayed["recall_by_defects"][name]
            yield f"    {name:<16} {row['found']:>8} {other['found']:>8}   of {row['parts']}"
    if isinstance(heavy := stored.get("against_heavy"), dict):
        other = replayed["against_heavy"]
        yield f"  {'missed of heavy':<18} {_of(heavy):>8} {_of(other):>8}   of what the heavy stage flags, whole"
    yield from (f"  note: {remark}" for remark in document["remarks"])


def _of(heavy: Mapping[str, Any]) -> str:
    return f"{heavy['missed']}/{heavy['positives']}"


def shown(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
