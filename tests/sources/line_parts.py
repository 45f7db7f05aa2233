"""Pictures of parts for the tests of the line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.core.records import Array, Chunk, Gap, Item, Watermark
from sinks.stills import encode


def grey(level: int, height: int = 48, width: int = 64) -> Array:
    return np.full((height, width, 3), level, np.uint8)


def png(level: int = 128, height: int = 48, width: int = 64) -> bytes:
    return encode(grey(level, height, width), "png")


def noise(seed: int, side: int) -> bytes:
    """A picture that takes as much decoding and room as its size allows."""
    return encode(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8), "png")


def fill(folder: Path, *names: str, level: int = 128) -> Path:
    for name in names:
        (folder / f"{name}.png").write_bytes(png(level))
    return folder


def following(items: Iterator[Item], how_many: int) -> list[Chunk | Gap]:
    """The next parts; the source may not be silent for two seconds meanwhile."""
    found: list[Chunk | Gap] = []
    start = last = time.monotonic()
    for item in items:
        assert time.monotonic() - last < 2, "a reader must not be silent"
        last = time.monotonic()
        if not isinstance(item, Watermark):
            found.append(item)
            if len(found) == how_many:
                return found
        assert time.monotonic() - start < 20
    raise AssertionError("it ended")


def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)
