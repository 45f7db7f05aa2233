"""Tiny real models that compare a part with its reference, and boards for them, in DeepPCB's layout.

A board is all conductor or all bare, so that the simulated sensor's shift makes no edges; its defects are squares in a
grid of eight pixels: `open` is dark where the reference is bright, `copper` bright where it is dark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from onnx import helper
from tiny_models import save

from detectors.manifest import digest

SIDE, CELL = 64, 8
OPEN, COPPER = 1, 5  # as DeepPCB's files count them


def _differences() -> list[Any]:
    """`picture` → `missing` and `extra`, `[N, 1, 8, 8]`: the share of a cell that is too dark, too bright."""
    slices = [
        helper.make_node("Slice", ["picture", f"from{i}", f"to{i}", "channels"], [name])
        for i, name in enumerate(("part", "reference"))
    ]
    out = list(slices)
    for name, ones in (("missing", ("reference", "part")), ("extra", ("part", "reference"))):
        out += [
            helper.make_node("Sub", list(ones), [f"{name}_by"]),
            helper.make_node("Relu", [f"{name}_by"], [f"{name}_only"]),
            helper.make_node("AveragePool", [f"{name}_only"], [name], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        ]
    return out


def _constants() -> dict[str, Any]:
    numbers = {"from0": [0], "to0": [1], "from1": [1], "to1": [2], "channels": [1]}
    return {name: np.array(value, np.int64) for name, value in numbers.items()}


def seeker(folder: Path, labels: Sequence[str] = ("open", "copper"), **manifest: Any) -> Path:
    """A heat map with boxes of one cell. With one label, what is missing and what is too much are the same."""
    nodes = _differences()
    if len(labels) == 1:
        nodes.append(helper.make_node("Max", ["missing", "extra"], ["scores"]))
    else:
        nodes.append(helper.make_node("Concat", ["missing", "extra"], ["scores"], axis=1))
    nodes += [
        helper.make_node("Mul", ["missing", "zeros"], ["nothing"]),
        helper.make_node("Add", ["nothing", "reach"], ["distances"]),
        helper.make_node("Concat", ["scores", "distances"], ["maps"], axis=1),
    ]
    constants = _constants() | {
        "zeros": np.zeros((1, 4, 1, 1), np.float32),
        "reach": np.full((1, 4, 1, 1), CELL / 2, np.float32),
    }
    cells = SIDE // CELL
    return _model(folder, nodes, {"maps": ["N", len(labels) + 4, cells, cells]}, constants, "heatmap", labels, manifest)


def judge(folder: Path, **manifest: Any) -> Path:
    """A classifier: the worst cell of the view, by what is wrong there."""
    nodes = [
        *_differences(),
        helper.make_node("Concat", ["missing", "extra"], ["both"], axis=1),
        helper.make_node("GlobalMaxPool", ["both"], ["worst"]),
        helper.make_node("Flatten", ["worst"], ["scores"]),
    ]
    return _model(folder, nodes, {"scores": ["N", 2]}, _constants(), "classification", ("open", "copper"), manifest)


def _model(
    folder: Path,
    nodes: list[Any],
    outputs: dict[str, list[int | str]],
    constants: dict[str, Any],
    kind: str,
    labels: Sequence[str],
    more: dict[str, Any],
) -> Path:
    folder.mkdir(parents=True)
    weights = save(folder / "model.onnx", nodes, {"picture": ["N", 3, SIDE, SIDE]}, outputs, constants)
    manifest = {
        "name": folder.name,
        "version": "3",
        "task": "classification" if kind == "classification" else "detection",
        "weights": {"file": weights.name, "sha256": digest(weights), "format": "onnx"},
        "view": {"width": SIDE, "height": SIDE},
        "input": {"std": [255, 255, 255]},
        "output": {"kind": kind},
        "labels": list(labels),
        "licence": "none",
    }
    (folder / "manifest.yaml").write_text(json.dumps(manifest | more))
    return folder


def board(folder: Path, name: str, group: str, kind: int, defects: Sequence[tuple[int, int, int]]) -> None:
    """Add a board with defects (column, row, side in pixels) of one kind to the DeepPCB folder. The board's bright is
    a little grey and its reference's is not, as in the real ones."""
    bright, dark = (200, 40) if defects else (255, 0)
    clean = np.full((SIDE, SIDE), 255 if kind == OPEN else 0, np.uint8)
    part = np.full((SIDE, SIDE), bright if kind == OPEN else dark, np.uint8)
    lines = []
    for column, row, side in defects:
        x, y = column * CELL, row * CELL
        part[y : y + side, x : x + side] = 0 if kind == OPEN else 255
        lines.append(f"{x} {y} {x + side} {y + side} {kind}")
    pictures, labels = folder / group / "00", folder / group / "00_not"
    for place in (pictures, labels):
        place.mkdir(parents=True, exist_ok=True)
    save_grey(pictures / f"{name}_test.png", part)
    save_grey(pictures / f"{name}_temp.png", clean)
    (labels / f"{name}.txt").write_text("\n".join(lines))
    with (folder / "test.txt").open("a") as file:
        file.write(f"{group}/00/{name}.png {group}/00_not/{name}.txt\n")


def boards(folder: Path, count: int = 12) -> Path:
    """Boards of both kinds in two groups, with one to eight defects, of which some are small."""
    rng = np.random.default_rng(5)
    for number in range(count):
        cells = rng.permutation(36)[: 1 + number % 8]  # within a cell's distance from the edge
        sides = rng.choice([4, 6, 8], len(cells))
        defects = [(1 + int(c) % 6, 1 + int(c) // 6, int(side)) for c, side in zip(cells, sides, strict=True)]
        board(folder, f"b{number:02}", f"group{number % 2}", OPEN if number % 3 else COPPER, defects)
    return folder


def save_grey(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    VideoFrame.from_ndarray(pixels, format="gray").to_image().save(path)
