"""Snapshots as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pipeline.core.snapshot import Snapshot


def snapshot_document(now: Snapshot) -> dict[str, Any]:
    """`now`, field by field as `pipeline/core/snapshot.py` names them; of distributions without their buckets."""
    document: dict[str, Any] = without_buckets(now)
    return document


def without_buckets(value: Any) -> Any:
    """Records as mappings. Not `asdict`, which would copy every bucket first."""
    if is_dataclass(value):
        named = ((field.name, getattr(value, field.name)) for field in fields(value) if field.name != "buckets")
        return {name: without_buckets(inner) for name, inner in named}
    if isinstance(value, Mapping):
        return {str(key): without_buckets(inner) for key, inner in value.items() if key != "buckets"}
    if isinstance(value, (list, tuple)):
        return [without_buckets(inner) for inner in value]
    return value
