"""Rows of the store as the documents that the JSONL sink writes (`pipeline/core/records.py` has their other half).

What the store does not hold is not there: the half character in a reason, which SQLite cannot keep.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

Document = dict[str, Any]

_PLACES: Final = (("span_ns", "start_ns", "end_ns"), ("chars", "first_char", "last_char"))


def result_document(row: sqlite3.Row, detections: Sequence[sqlite3.Row]) -> Document:
    document: Document = {name: row[name] for name in ("id", "stream", "epoch", "seq")}
    document |= {"pts_ns": _nanoseconds(row, "pts")}
    document |= {name: row[name] for name in ("time", "outcome", "verdict", "latency_ms")}
    if row["file"]:
        document["file"] = row["file"]
    if row["outcome"] != "result":
        return document | {"reason": row["reason"]}
    document |= {"decided_by": row["decided_by"], "generation": row["generation"]}
    document |= {"certified": bool(row["certified"]), "flagged": bool(row["flagged"])}
    document["detections"] = [_detection(one, one["label"], one["score"]) for one in detections]
    if row["carried_from"] is not None:
        document["carried_from"] = row["carried_from"]
    if not row["trusted"]:
        document["trusted"] = False
    if row["action"] is not None:
        document |= {"action": row["action"]} | ({"rule": row["rule"]} if row["rule"] else {})
    return document


def _detection(row: sqlite3.Row, label: str, score: float, prefix: str = "") -> Document:
    document: Document = {"label": label, "score": round(score, 4)}
    if row["x1"] is not None:
        document["box"] = [round(row[side], 1) for side in ("x1", "y1", "x2", "y2")]
    for name, first, last in _PLACES:
        if row[prefix + first] is not None:
            document[name] = [row[prefix + first], row[prefix + last]]
    return document


def event_document(row: sqlite3.Row) -> Document:
    document: Document = {
        "event": row["id"],
        "type": row["told"] or ("update" if row["open"] else "end"),
        "stream": row["stream"],
        "label": row["label"],
        "start": row["start_time"],
        "end": row["end_time"],
        "start_ns": _nanoseconds(row, "start"),
        "end_ns": _nanoseconds(row, "end"),
        "windows": row["windows"],
        "count": row["count"],
        "best": _detection(row, row["best_label"] or row["label"], row["best_score"], "best_"),
    }
    places = ("zone", "direction", "track", "held_back")
    return document | {name: row[name] for name in places if row[name]} | {"open": bool(row["open"])}


def audit_document(row: sqlite3.Row) -> Document:
    document: Document = {"audit": row["id"]}
    document |= {name: row[name] for name in ("stream", "time", "generation", "outcome", "p")}
    document |= {name: bool(row[name]) for name in ("reported", "heavy_flagged", "missed")}
    return document | {"detections": json.loads(row["detections"])}


def ruling_document(row: sqlite3.Row) -> Document:
    document: Document = {"ruling": row["id"], "type": "new" if row["open"] else "end"}
    document |= {name: row[name] for name in ("show", "action", "rule")}
    document |= {"targets": json.loads(row["targets"]), "start": row["start_time"], "end": row["end_time"]}
    document |= {"start_ns": round(row["start_s"] * 1e9), "end_ns": round(row["end_s"] * 1e9)}
    document |= {"evidence": json.loads(row["evidence"] or "[]"), "missing": json.loads(row["missing"])}
    return document if row["latency_ms"] is None else document | {"latency_ms": row["latency_ms"]}


def _nanoseconds(row: sqlite3.Row, name: str) -> int:
    """Older tables have seconds alone."""
    exact: int | None = row[f"{name}_ns"]
    return round(row[f"{name}_s"] * 1e9) if exact is None else exact
