"""Tiny pictures with something in them, and recipes for networks that learn it in a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from made_pictures import encoded

from detectors.datasets.base import Sample
from detectors.training.recipe import Recipe
from pipeline.core.records import Array

SIDE = 64


def part_picture(bad: bool, rng: np.random.Generator) -> tuple[Array, list[int]]:
    """A grey picture, uint8 `[64, 64, 3]`, with a bright square if it is bad, and where that is."""
    pixels = rng.integers(60, 100, (SIDE, SIDE, 3), dtype=np.uint8)
    side = int(rng.integers(12, 20))
    left, top = (int(at) for at in rng.integers(4, SIDE - side - 4, 2))
    if bad:
        pixels[top : top + side, left : left + side] = rng.integers(210, 250, dtype=np.uint8)
    return pixels, [left, top, left + side, top + side]


def folders(place: Path, count: int = 24, seed: int = 0) -> Path:
    """`good/` and `bad/`, half of `count` pictures each."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = ("good", "bad")[number % 2]
        (place / kind).mkdir(parents=True, exist_ok=True)
        (place / kind / f"{number:03}.png").write_bytes(encoded(".png", part_picture(kind == "bad", rng)[0]))
    return place


def boxed(place: Path, count: int = 12, seed: int = 0) -> list[Sample]:
    """Samples with one box each, but every fourth with none."""
    rng = np.random.default_rng(seed)
    place.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        bad = number % 4 != 0
        pixels, box = part_picture(bad, rng)
        path = place / f"{number:03}.png"
        path.write_bytes(encoded(".png", pixels))
        boxes = np.array([box] if bad else [], np.float32).reshape(-1, 4)
        samples.append(Sample(path.name, path, boxes=boxes, classes=np.zeros(len(boxes), np.int64)))
    return samples


def recipe(**said: Any) -> Recipe:
    """Eight steps of a small network on views of 64 pixels; `network` and the rest may be changed."""
    network = {"backbone": "mobilenet-v3-small", "head": "boxes", "stride": 8, "channels": 8} | said.pop("network", {})
    usual: dict[str, Any] = {
        "view": {"width": SIDE, "height": SIDE},
        "steps": 8,
        "batch": 4,
        "rate": 1e-3,
        "evaluate_every": 4,
        "bf16": False,
    }
    return Recipe.model_validate({"network": network} | usual | said)
