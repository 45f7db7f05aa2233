"""What a letter's document is as rows of `postgres_schema`."""

from __future__ import annotations

from typing import Any, Final

from pipeline.core.letters import Letter

Row = tuple[Any, ...]

_NO_BOX: Final = (None, None, None, None)
_NO_SPAN: Final = (None, None)
_TROUBLE: Final = (b"\\u0000", b"\\ud", b"\\uD")


def document_of(letter: Letter) -> dict[str, Any]:
    """Without what PostgreSQL has no place for: NUL characters and lone surrogates are spelled out as JSON spells them.
    Raises `ValueError` where it is none."""
    document = letter.document
    if not isinstance(document, dict):
        raise TypeError("no document")
    return _spelled(document) if any(sign in letter.body for sign in _TROUBLE) else document


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\u0000")
    if isinstance(value, dict):
        return {_spelled(name): _spelled(inner) for name, inner in value.items()}
    return [_spelled(inner) for inner in value] if isinstance(value, list) else value


def row_of(letter: Letter, document: dict[str, Any], as_json: Any) -> Row:
    """In the order of `postgres_schema.COLUMNS`; `as_json` wraps what is jsonb. Raises `KeyError`, `TypeError`."""
    return _MAKERS[letter.kind](document, as_json)


def _result(document: dict[str, Any], as_json: Any) -> Row:
    names = ("outcome", "verdict")
    optional = ("decided_by", "generation", "certified")
    more = ("reason", "carried_from", "file", "action", "rule")
    return (
        *(document[name] for name in ("id", "stream", "epoch", "seq")),
        document["pts_ns"] / 1e9,
        document["time"],
        *(document[name] for name in names),
        document.get("flagged", False),
        *(document.get(name) for name in optional),
        document["latency_ms"],
        *(document.get(name) for name in more),
        as_json(document),
    )


def detections_of(document: dict[str, Any]) -> list[Row]:
    return [
        (
            document["id"],
            n,
            found["label"],
            found["score"],
            *(found.get("box") or _NO_BOX),
            *(found.get("span_ns") or _NO_SPAN),
            *(found.get("chars") or _NO_SPAN),
        )
        for n, found in enumerate(document["detections"])
    ]


def _event(document: dict[str, Any], as_json: Any) -> Row:
    return (
        *(document[name] for name in ("event", "stream", "label", "start", "end")),
        (document["end_ns"] - document["start_ns"]) / 1e9,
        document["count"],
        document["windows"],
        document["type"] != "end",
        document["best"]["score"],
        as_json(document),
    )


def _ruling(document: dict[str, Any], as_json: Any) -> Row:
    decision = document["type"] != "update"  # an update tells of what came later
    return (
        *(document[name] for name in ("ruling", "show", "action", "rule", "targets", "start", "end")),
        (document["end_ns"] - document["start_ns"]) / 1e9,
        document["type"] != "end",
        document.get("latency_ms") if decision else None,
        as_json(document["evidence"]) if decision else None,
        document["missing"],
        as_json(document),
    )


def _audit(document: dict[str, Any], as_json: Any) -> Row:
    names = ("audit", "stream", "time", "generation", "outcome", "p", "reported", "heavy_flagged", "missed")
    return (*(document[name] for name in names), as_json(document))


def _outage(document: dict[str, Any], as_json: Any) -> Row:
    return (
        *(document[name] for name in ("outage", "stream", "reason", "start", "end", "seconds")),
        as_json(document),
    )


_MAKERS: Final = {"outcome": _result, "event": _event, "ruling": _ruling, "audit": _audit, "outage": _outage}
