"""Why an event is one: the window that shows it best, who decided on it and by which threshold, what an audit said of
it since, and what a policy made of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from pipeline.app.web import rows
from pipeline.app.web.rows import Document
from pipeline.app.web.store import Store, complete, stored_time
from pipeline.core.contracts import Generation

MOST_RESULTS = 100
_MOST_RULINGS = 5_000  # that are looked through
_ROUNDING = 1e-6
_SLACK = timedelta(seconds=30)  # a sound is told by the arrival of its window's end; a clock on the wall may be set
_AROUND = timedelta(hours=1)

# spans say by themselves where they are; all else is where its window is
_SHOWING: Final = """
FROM results r JOIN detections d ON d.result_id = r.id
WHERE r.stream = :stream AND r.time BETWEEN :start AND :end AND r.epoch = :epoch AND d.label = :label
  AND coalesce(d.start_ns, r.pts_ns, CAST(round(r.pts_s * 1e9) AS INTEGER)) < :last
  AND coalesce(d.end_ns - 1, r.pts_ns, CAST(round(r.pts_s * 1e9) AS INTEGER)) >= :first
"""
_ALL: Final = f"SELECT DISTINCT r.* {_SHOWING} ORDER BY r.time, r.rowid LIMIT :most"
_BEST: Final = f"SELECT r.*, d.score AS top {_SHOWING} ORDER BY d.score DESC, r.time LIMIT 1"
_ONE: Final = f"SELECT 1 {_SHOWING} AND r.id = :window LIMIT 1"
_AUDITED: Final = f"""
SELECT a.* FROM audits a JOIN (SELECT DISTINCT r.id {_SHOWING}) shown ON a.id = shown.id
ORDER BY a.id = :best DESC, a.missed DESC LIMIT 1
"""  # noqa: S608 (our own words)
_RULED: Final = r"""
SELECT * FROM (SELECT * FROM rulings WHERE start_time BETWEEN ? AND ? ORDER BY start_time DESC LIMIT ?)
WHERE evidence LIKE ? ESCAPE '\' ORDER BY start_time
"""


def decision_record(store: Store, name: str, generations: Iterable[Generation]) -> Document | None:
    """All that is known of the event `name`; None where there is none. Raises `StoreBusy`."""
    with store.reading() as connection:
        row = connection.execute("SELECT * FROM events WHERE id = ?", (name,)).fetchone()
        if row is None:
            return None
        event = rows.event_document(row)
        span = _span(event)
        shown = connection.execute(_ALL, {**span, "most": MOST_RESULTS}).fetchall()
        top = connection.execute(_BEST, span).fetchone()
        best = None if top is None else complete(connection, [top])[0]
        results = complete(connection, shown)
        if best is not None and all(one["id"] != best["id"] for one in results):
            results.append(best)
        known = {generation.id: generation for generation in generations}
        return {
            "event": event,
            "decision": None if best is None else _decision(best, _judged(connection, best), event, top["top"], known),
            "results": results,
            "audit": None if best is None else _audit(connection, span, best, known),
            "rulings": _rulings(connection, event, span),
        }


def _judged(connection: sqlite3.Connection, best: Document) -> Document:
    """The window on which a stage decided: what a gate carried over was decided before."""
    if "carried_from" not in best:
        return best
    row = connection.execute("SELECT * FROM results WHERE id = ?", (best["carried_from"],)).fetchall()
    return next(iter(complete(connection, row)), best)


def _decision(
    best: Document, judged: Document, event: Document, score: float, known: Mapping[str, Generation]
) -> Document:
    generation = known.get(best["generation"])
    stage = judged["decided_by"]
    document: Document = {
        "window": best["id"],
        "stage": stage,
        "generation": best["generation"],
        "label": event["label"],
        "score": round(score, 4),
        "threshold": None,
        "found_by": None,
        "rule": best.get("rule"),
        "action": best.get("action"),
        "certified": best["certified"],
        "promise": None,
    }
    if judged is not best:
        document |= {"decided_by": best["decided_by"], "carried_from": best["carried_from"]}
    if generation is None:  # of an earlier run: its models and thresholds are not at hand
        return document
    document["promise"] = generation.promise or None
    document["threshold"], document["found_by"] = threshold(generation, event["label"], stage, score)
    document["thresholds"] = rule_document(generation)
    described = [one.describe() for one in generation.stages if one.name == stage]
    return document | ({"model": described[0].get("model", stage)} if described else {})


def threshold(generation: Generation, label: str, stage: str, score: float) -> tuple[float | None, str | None]:
    """The least score from which `label` is reported where `stage` decides, and the stage whose word that is: beside
    what the heavy one confirms stands what the cheap one reports by itself."""
    rule: Any = generation.rule
    if not hasattr(rule, "least"):
        return None, None
    heavy = generation.heavy is not None and stage == generation.heavy.name
    asked = reversed(generation.stages) if heavy else (generation.cheap,)
    for one in asked:
        least = rule.least(label, heavy=one is generation.heavy)
        if least is not None and score >= least - _ROUNDING:
            return least, one.name
    return None, None


def rule_document(generation: Generation) -> Document | None:
    """The thresholds as a config would hold them."""
    rule = generation.rule
    if not isinstance(rule, BaseModel):
        return None
    return {"kind": type(rule).__name__.lower(), **rule.model_dump(mode="json")}


def _audit(
    connection: sqlite3.Connection, span: Document, best: Document, known: Mapping[str, Generation]
) -> Document | None:
    """Of the best window, else of one that was missed, else of any: what the other stage said."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'audits'").fetchone():
        return None
    row = connection.execute(_AUDITED, {**span, "best": best["id"]}).fetchone()
    if row is None:
        return None
    said = rows.audit_document(row)
    generation = known.get(said["generation"])
    heavy = None if generation is None else generation.heavy
    return said | ({} if heavy is None else {"stage": heavy.name})


def _rulings(connection: sqlite3.Connection, event: Document, span: Document) -> list[Document]:
    """Those whose evidence names a window of the event."""
    about = f"{span['stream']}/{span['epoch']}/".replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    begin, end = (datetime.fromisoformat(event[name]) for name in ("start", "end"))
    asked = (stored_time(begin - _AROUND), stored_time(end + _AROUND), _MOST_RULINGS, f"%{about}%")
    found = []
    for row in connection.execute(_RULED, asked).fetchall():
        windows = {one["window"] for one in json.loads(row["evidence"])}
        if any(connection.execute(_ONE, {**span, "window": window}).fetchone() for window in sorted(windows)):
            found.append(rows.ruling_document(row))
    return found


def _span(event: Document) -> Document:
    """Where to look for what it is of."""
    begin, end = (datetime.fromisoformat(event[name]) for name in ("start", "end"))
    return {
        "stream": event["stream"],
        "epoch": event["event"].removeprefix(f"{event['stream']}/").partition("/")[0],
        "label": event["label"],
        "start": stored_time(begin - _SLACK),
        "end": stored_time(end + _SLACK),
        "first": event["start_ns"],
        "last": event["end_ns"],
    }
