"""Snapshots as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline.core.snapshot import Snapshot


def snapshot_document(now: Snapshot) -> dict[str, Any]:
    """`now`, field by field as `pipeline/core/snapshot.py` names them; of distributions without their buckets."""
    return {name: without_buckets(value) for name, value in asdict(now).items()}


def without_buckets(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): without_buckets(inner) for key, inner in value.items() if key != "buckets"}
    if isinstance(value, (list, tuple)):
        return [without_buckets(inner) for inner in value]
    return value
