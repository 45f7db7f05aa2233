"""A line of boards from memory: the shipped ones, repaired or not, one in ten with a defect, half of those with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame

from detectors.datasets import read_dataset
from detectors.datasets.parts import Part, parts_of
from pipeline.app.demo.parts import BOARDS, LINE
from pipeline.core.contracts import Generation
from pipeline.core.payloads import FrameImage

BAD_EVERY = 10
_CYCLE = 20  # parts: one with one defect, one with several, eighteen good


@dataclass(frozen=True, slots=True)
class Line:
    """Parts in the order of the line, and the picture of each, decoded: 8-bit RGB."""

    parts: Sequence[Part]
    frames: Sequence[VideoFrame]


def line(count: int, seed: int = 0) -> Line:
    """`count` parts; pictures are shared where a part comes by again."""
    rng = np.random.default_rng(seed)
    parts = parts_of(read_dataset(BOARDS))
    good = [part for part in parts if not part.bad]
    single = [part for part in parts if part.defects == 1]
    several = [part for part in parts if part.defects > 1]
    order: list[Part] = []
    while len(order) < count:
        cycle: list[Part] = [good[int(i)] for i in rng.integers(0, len(good), _CYCLE - 2)]
        for bad in (single, several):
            cycle.insert(int(rng.integers(0, len(cycle) + 1)), bad[int(rng.integers(len(bad)))])
        order += cycle
    order = order[:count]
    frames = {name: _frame(part) for name, part in {part.name: part for part in order}.items()}
    return Line(order, [frames[part.name] for part in order])


def _frame(part: Part) -> VideoFrame:
    return VideoFrame.from_ndarray(part.image().rgb(), format="rgb24")


def truth_of(outcomes_flagged: Sequence[bool], parts: Sequence[Part]) -> dict[str, float]:
    """Recall of bad parts, of those with one defect, and the share of good ones that were rejected."""
    flagged, defects = np.array(outcomes_flagged, bool), np.array([part.defects for part in parts])
    return {
        "recall": float(flagged[defects > 0].mean()),
        "recall_single": float(flagged[defects == 1].mean()),
        "false_reject": float(flagged[defects == 0].mean()),
    }


def boards() -> Generation:
    """The shipped cascade, as a run has it. Raises `InputError`."""
    from pathlib import Path

    from pipeline.app.config.document import Document
    from pipeline.app.wiring import prepare

    document = Document({"cascade": "pcb", "sources": {"line": {"kind": "folder", "path": str(LINE)}}}, Path.cwd())
    return prepare(document)[1]["pcb"]


__all__ = ["BAD_EVERY", "FrameImage", "Line", "boards", "line", "truth_of"]
